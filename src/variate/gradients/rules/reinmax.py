"""ReinMax: straight-through to the second order."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.nn import softmax
from jaxtyping import Array, Float, Key

from variate import checks
from variate.gradients.rules.relaxation import Relaxation, held_at, log_probabilities, probabilities


@dataclass(frozen=True)
class ReinMax(Relaxation):
    r"""$w = 1_x + \pi_2 - \mathrm{stop}(\pi_2)$, $\pi_2 = 2 \pi_1 - \frac12 p_\theta$, where $\pi_1$ is
    $\frac12 (1_x + \mathrm{softmax}(\log p_\theta / \tau))$ with the derivative of a softmax in $\log p_\theta$.

    Serves draws of a finite support that is known, with what a program may do with them as in `Relaxation`. The value
    stays that of the program. At $\tau = 1$ the gradient is exact where the result is at most quadratic in the weights
    of each element of the draw, given the others (Heun's rule in place of Euler's): choose it over `StraightThrough`
    for results that bend, of which it leaves what comes with third derivatives. Its noise is about the same, or more
    where what is drawn is improbable. Another temperature than 1 gives up exactness, even for linear results. The wrong
    choice for few elements, where `Enumerate` is exact.

    Args:
        temperature: $\tau$.

    Source: Liu, Dong, Liu, Yu and Gao (2023), Bridging discrete and backpropagation: straight-through and beyond,
    algorithm 2.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        checks.check_positive("temperature", self.temperature)

    def weights(
        self, distribution: Any, drawn: Float[Array, "*elements k"], key: Key[Array, ""]
    ) -> Float[Array, "*elements k"]:
        p = probabilities(distribution)
        half = lax.stop_gradient((drawn + softmax(log_probabilities(distribution) / self.temperature)) / 2)
        # Shares of d log p. Three quarters of d p for what cannot be drawn make linear results exact there too.
        here = lax.stop_gradient(p)
        possible = here > 100 * jnp.finfo(p.dtype).eps
        shares = p * jnp.where(possible, half / jnp.where(possible, here, 1), 3 / 4)
        first = shares - half * jnp.sum(shares, axis=-1, keepdims=True)
        return held_at(drawn, 2 * first - p / 2)
