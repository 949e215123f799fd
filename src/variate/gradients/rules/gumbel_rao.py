"""Gumbel-Rao: Gumbel straight-through, averaged over the noise that would have drawn the same."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import softmax
from jaxtyping import Array, Float, Key

from variate import checks
from variate.gradients.rules.relaxation import Relaxation, held_at, log_probabilities, perturbed


@dataclass(frozen=True)
class GumbelRao(Relaxation):
    r"""$w = 1_x + \bar s - \mathrm{stop}(\bar s)$, $\bar s = \frac1m \sum_i \mathrm{softmax}((\log p_\theta + G_i) /
    \tau)$, with Gumbel noise $G_i$ given that $\log p_\theta + G_i$ is largest at the drawn $x$.

    Serves draws of a finite support that is known, with what a program may do with them as in `Relaxation`. The value
    stays that of the program. The gradient has the mean of `GumbelStraightThrough`, so the same bias, and never more
    variance: less the more replicates, which are cheap, since they average weights and not runs. Choose it over
    `GumbelStraightThrough`, above all at low temperatures. The wrong choice for results linear in the weights, where
    `StraightThrough` is exact, and for large draws of many values, of which each has `replicates` random numbers.

    Args:
        temperature: $\tau$.
        replicates: $m$, how many times the noise is drawn.

    Source: Paulus, Maddison and Krause (2021), Rao-Blackwellizing the straight-through Gumbel-softmax gradient
    estimator.
    """

    temperature: float
    replicates: int = 16

    def __post_init__(self) -> None:
        checks.check_positive("temperature", self.temperature)
        checks.check_positive_int("replicates", self.replicates)

    def weights(
        self, distribution: Any, drawn: Float[Array, "*elements k"], key: Key[Array, ""]
    ) -> Float[Array, "*elements k"]:
        log_probs = log_probabilities(distribution)

        def replicate(key: Key[Array, ""]) -> Float[Array, "*elements k"]:
            return softmax(perturbed(log_probs, drawn, key) / self.temperature)

        return held_at(drawn, jnp.mean(jax.vmap(replicate)(jax.random.split(key, self.replicates)), axis=0))
