"""The interval of means against which no bettor has become rich."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from variate.checks import check_at_least, check_fraction

from .base import Between

_MOST = 0.75  # of the capital, the share that a bet may lose


@dataclasses.dataclass(frozen=True)
class Betting(Between):
    r"""The means m against which neither of two bettors has multiplied a capital by $2/\alpha$.

    With the draws scaled to [0, 1], $K^\pm_n(m) = \prod_i (1 \pm \lambda^\pm_i (x_i - m))$ is a fair game where m is
    the mean, whatever predictable bets are made. Here $\lambda_i = \sqrt{2 \log(2/\alpha_0) / (\hat\sigma^2_{i-1} n)}$
    for a given number n of draws, with $i \log(i + 1)$ in place of n under a stopping rule, cut so that a bet never
    loses more than three quarters. The shortest of the intervals from bounds for a given number of draws, a few above
    all. It costs `resolution` logarithms a draw and number: the wrong choice for many cheap draws, and under a stopping
    rule that takes thousands of them, where `EmpiricalBernstein` is shorter.

    Args:
        low: the draws' lower bound.
        high: their upper bound.
        resolution: into how many parts the range is cut; the ends are rounded outwards to them.
        level: $1 - \alpha_0$, at which bets are best; the interval holds at any level.

    Raises:
        TypeError: a bound is no number.
        ValueError: `low` is not below `high`, or one of them is infinite.

    Source: Waudby-Smith and Ramdas (2024), Estimating means of bounded random variables by betting, J. R. Stat. Soc. B
    86(1), 1-27, theorem 3, eqs. 24-26 and remark 1.
    """

    low: float | int
    high: float | int
    resolution: int = 1_000
    level: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("resolution", self.resolution, 2)
        check_fraction("level", self.level)

    def unit(self, size: int, planned: int | None) -> "_Unit":
        zeros = jnp.zeros((size, self.resolution + 1))
        stake = 2 * (math.log(2) - math.log1p(-self.level))
        return _Unit(jnp.zeros(()), jnp.zeros(size), jnp.zeros(size), zeros, zeros, stake, planned)


class _Unit(eqx.Module):
    count: Float[Array, ""]
    total: Float[Array, " size"]
    squares: Float[Array, " size"]  # of deviations from the running mean, each draw's own included
    above: Float[Array, "size grid"]  # log capital of the bettor who believes the mean to be above
    below: Float[Array, "size grid"]
    stake: float = eqx.field(static=True)
    planned: int | None = eqx.field(static=True)

    def add_rows(self, rows: Float[Array, "n size"], used: Float[Array, "n 1"]) -> "_Unit":
        place = self.count + jnp.cumsum(used, axis=0)  # 1 for the first draw
        running = (0.5 + self.total[None] + jnp.cumsum(rows * used, axis=0)) / (1 + place)
        squares = self.squares[None] + jnp.cumsum(used * (rows - running) ** 2, axis=0)
        earlier = jnp.concatenate([self.squares[None], squares[:-1]])
        variance = (0.25 + earlier) / place
        time = place * jnp.log1p(place) if self.planned is None else self.planned
        bets = jnp.sqrt(self.stake / (variance * time))
        grid = jnp.linspace(0.0, 1.0, self.above.shape[1])[None]

        def gains(x: Float[Array, " n"], bet: Float[Array, " n"]) -> tuple[Array, Array]:
            up = jnp.minimum(bet[:, None], _MOST / jnp.maximum(grid, 1e-9))
            down = jnp.minimum(bet[:, None], _MOST / jnp.maximum(1 - grid, 1e-9))
            far = x[:, None] - grid
            return jnp.sum(used * jnp.log1p(up * far), axis=0), jnp.sum(used * jnp.log1p(-down * far), axis=0)

        above, below = jax.vmap(gains, 1)(rows, bets)
        total = self.total + jnp.sum(rows * used, axis=0)
        above, below = self.above + above, self.below + below
        return _Unit(place[-1, 0], total, squares[-1], above, below, self.stake, self.planned)

    def merge(self, other: "_Unit") -> "_Unit":
        """Capitals multiply, for the games are independent."""
        return jax.tree.map(jnp.add, self, dataclasses.replace(other, planned=self.planned))

    def ends(self, level: float) -> tuple[Float[Array, " size"], Float[Array, " size"]]:
        threshold = math.log(2) - math.log1p(-level)
        grid = jnp.linspace(0.0, 1.0, self.above.shape[1])[None]
        # The one capital falls with m and the other rises, so all beyond a point that is ruled out are too.
        low = jnp.max(jnp.where(self.above >= threshold, grid, 0), axis=1)
        high = jnp.min(jnp.where(self.below >= threshold, grid, 1), axis=1)
        return low, high
