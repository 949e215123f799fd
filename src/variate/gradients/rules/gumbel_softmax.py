"""Gumbel-softmax: a draw made continuous, at a temperature."""

from dataclasses import dataclass
from typing import Any, ClassVar

from jax.nn import softmax
from jaxtyping import Array, Float, Key

from variate import checks
from variate.gradients.rules.relaxation import Relaxation, log_probabilities, perturbed


@dataclass(frozen=True)
class GumbelSoftmax(Relaxation):
    r"""$w = \mathrm{softmax}((\log p_\theta + G) / \tau)$ with independent standard Gumbel noise $G$.

    Serves draws of a finite support that is known, with what a program may do with them as in `Relaxation`. The runs
    themselves are relaxed: reals are made of these weights, so the value is biased too, and says so; integers that go
    elsewhere stay what they were, the places of the largest weights. The gradient is that of the relaxed expectation,
    without bias of its own. As $\tau$ falls both biases vanish for smooth programs, while the variance of the gradient
    grows as $1 / \tau$; as it grows the weights become uniform. The wrong choice where the value matters, or where the
    program has a meaning for whole numbers alone (`GumbelStraightThrough`, `GumbelRao`).

    Args:
        temperature: $\tau$.

    Source: Jang, Gu and Poole (2017), Categorical reparameterization with Gumbel-softmax; Maddison, Mnih and Teh
    (2017), The concrete distribution.
    """

    temperature: float

    soft: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.check_positive("temperature", self.temperature)

    def weights(
        self, distribution: Any, drawn: Float[Array, "*elements k"], key: Key[Array, ""]
    ) -> Float[Array, "*elements k"]:
        return softmax(perturbed(log_probabilities(distribution), drawn, key) / self.temperature)
