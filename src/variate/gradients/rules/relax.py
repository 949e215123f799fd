"""RELAX: the score of a discrete draw with a control variate of one's own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from variate import checks
from variate.gradients.rules.rebar import Control


@dataclass(frozen=True)
class Relax(Control):
    r"""$\nabla_\theta E f(x) = E\,(f(x) - c(z))\,\nabla_\theta\log p_\theta(x) + \nabla_\theta c(z) - \nabla_\theta
    c(\tilde z)$ for any smooth $c$.

    $z_k = \log p_k + G_k$ are the perturbed log probabilities of which the largest was drawn, $\tilde z$ the same given
    what was drawn. Unbiased whatever $c$ is, over any program; it takes no replay. Serves discrete draws of finite
    support. The wrong choice without a $c$ that tells the cost: it then has the noise of a score without a baseline.

    Args:
        control: $c$, a function of $z$ (the axes of the draw, then one of its values) and of the arguments of the
            program (the key left out), that returns a number. To learn it, let its parameters be an argument of the
            program.

    Source: Grathwohl, Choi, Wu, Roeder and Duvenaud (2018), eq. 7.
    """

    control: Callable[..., Any]

    def __post_init__(self) -> None:
        checks.check_callable("control", self.control)
