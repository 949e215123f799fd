"""Gumbel straight-through: a drawn value with the derivatives of a continuous one."""

from dataclasses import dataclass
from typing import Any

from jax.nn import softmax
from jaxtyping import Array, Float, Key

from variate import checks
from variate.gradients.rules.relaxation import Relaxation, held_at, log_probabilities, perturbed


@dataclass(frozen=True)
class GumbelStraightThrough(Relaxation):
    r"""$w = 1_x + s - \mathrm{stop}(s)$, $s = \mathrm{softmax}((\log p_\theta + G) / \tau)$, with $1_x$ at the largest
    $\log p_{\theta, k} + G_k$ and independent standard Gumbel noise $G$.

    Serves draws of a finite support that is known, with what a program may do with them as in `Relaxation`. The value
    stays that of the program. As $\tau$ falls, only near ties of two values have derivatives, taken at both alike: what
    is left of the bias is that of `ReinMax`, which is none for results at most quadratic in the weights of an element,
    while the variance grows as $1 / \tau$. As $\tau$ grows the derivatives vanish. The wrong choice against
    `GumbelRao`, which has the same mean and less noise for a little more work, and for results linear in the weights,
    where `StraightThrough` is exact.

    Args:
        temperature: $\tau$.

    Source: Jang, Gu and Poole (2017), Categorical reparameterization with Gumbel-softmax, sec. 2.2.
    """

    temperature: float

    def __post_init__(self) -> None:
        checks.check_positive("temperature", self.temperature)

    def weights(
        self, distribution: Any, drawn: Float[Array, "*elements k"], key: Key[Array, ""]
    ) -> Float[Array, "*elements k"]:
        return held_at(drawn, softmax(perturbed(log_probabilities(distribution), drawn, key) / self.temperature))
