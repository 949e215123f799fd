"""Population Monte Carlo: each round learns from its own draws."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from variate import checks


@dataclasses.dataclass(frozen=True)
class PopulationMonteCarlo:
    """Each round draws from the mixture so far and fits the next one to its own weighted draws.

    The wrong choice where runs are dear: `AdaptiveMultiple` uses those of all rounds.

    Args:
        components: of the mixture for each draw.
        rounds: how many.
        num_samples: runs in a round.
        degrees: of freedom of Student's distribution; None for normal components, whose tails are those of few targets.
        spread: how many times wider than the draw's own distribution the first mixture is.

    Source: Cappé, Guillin, Marin and Robert (2004), Population Monte Carlo, J. Comput. Graph. Stat. 13(4), 907-929;
    Cappé, Douc, Guillin, Marin and Robert (2008), Adaptive importance sampling in general mixture classes, Statistics
    and Computing 18, 447-459.
    """

    components: int = 1
    rounds: int = 10
    num_samples: int = 1_000
    degrees: float | None = 5.0
    spread: float = 2.0

    recycled = False
    steps = 1  # of expectation and maximization in a round

    def __post_init__(self) -> None:
        for name in ("components", "rounds", "num_samples"):
            checks.check_positive_int(name, getattr(self, name))
        if self.degrees is not None:
            checks.check_positive("degrees", self.degrees)
        checks.check_positive("spread", self.spread)

    def magnitude(self, results: Float[Array, "n m"], weights: Float[Array, " n"], drawn: Bool[Array, " n"]) -> Array:
        """What runs are weighted by beside their densities: results relative to the means of their absolute values."""
        mean = weights @ jnp.where(jnp.isfinite(results), jnp.abs(results), 0)
        relative = jnp.where((mean > 0)[None], results / jnp.where(mean > 0, mean, 1)[None], 0)
        return jnp.sqrt(jnp.sum(relative**2, axis=1))
