"""The cross-entropy method: each round learns from those of its draws that came nearest to a rare event."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from variate import checks

from .population_monte_carlo import PopulationMonteCarlo


@dataclasses.dataclass(frozen=True)
class CrossEntropy(PopulationMonteCarlo):
    r"""For the probability $P(s > a)$ of a rare event: each round fits to those of its draws that came nearest to it.

    The program returns the score s, which should grow on the way to the event, and the mixture approaches
    $\pi \propto p\,1\{s > a\}$ through the events $s > \min(a, q)$, with q the quantile of the round's scores that a
    share `elite` of them is above. Then `vt.expect(lambda key: f(key) > a, method=learnt)`.

    The wrong choice in more than some ten dimensions, and for events of more parts than there are components, of which
    it misses some without a sign; there `exceedance`.

    Args:
        above: a.
        elite: the share of a round that the next one is fitted to.

    Source: Rubinstein and Kroese (2004), The Cross-Entropy Method, algorithm 2.1 of its section 2; de Boer, Kroese,
    Mannor and Rubinstein (2005), A tutorial on the cross-entropy method, Ann. Oper. Res. 134, 19-67.
    """

    _: dataclasses.KW_ONLY
    above: float | int
    elite: float = 0.1

    steps = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.check_number("above", self.above)
        checks.check_fraction("elite", self.elite)

    def magnitude(self, results: Float[Array, "n m"], weights: Float[Array, " n"], drawn: Bool[Array, " n"]) -> Array:
        if results.shape[1] != 1:
            raise ValueError(f"f must return one number, the score, for CrossEntropy, got {results.shape[1]} numbers")
        score = jnp.where(jnp.isnan(results[:, 0]) | ~drawn, -jnp.inf, results[:, 0])
        count = jnp.sum(drawn)
        elite = jnp.maximum(jnp.floor(self.elite * count.astype(float)), 1).astype(int)
        quantile = jnp.sort(score)[score.size - elite]  # those not drawn come first
        return jnp.where(quantile > self.above, score > self.above, (score >= quantile) & drawn).astype(weights.dtype)
