"""The empirical Bernstein interval: from the bounds and the variance seen."""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .base import Between

_RATES = 0.9 * 0.5 ** (np.arange(48) / 2)  # down to where 10¹⁴ draws are told from none
_SHARES = 1 / ((np.arange(48) + 1.0) * (np.arange(48) + 2.0))
_HALVINGS = 60


@dataclasses.dataclass(frozen=True)
class EmpiricalBernstein(Between):
    r"""$\bar x \pm \bigl(\sqrt{2 s^2 \log(4/\alpha) / n} + \tfrac{7}{3} (b - a) \log(4/\alpha) / (n - 1)\bigr)$.

    Of n draws between a and b, with the sample variance $s^2$. Under a stopping rule it holds for all n at once. With
    the draws scaled to [0, 1], $\hat\mu_i$ the mean of those before $x_i$, $V = \sum_i (x_i - \hat\mu_i)^2$ and
    $\psi(\lambda) = -\log(1 - \lambda) - \lambda$, the products $\exp(\lambda \sum_i (x_i - \mu) - \psi(\lambda) V)$
    are supermartingales; a mixture of them over a grid of $\lambda$ passes $2/\alpha$ with probability $\alpha/2$ at
    most. Better than `Hoeffding` where the variance is small beside the bounds; the wrong choice for few draws, where
    `Betting` is shorter.

    Args:
        low: a.
        high: b.

    Raises:
        TypeError: a bound is no number.
        ValueError: `low` is not below `high`, or one of them is infinite.

    Source: Maurer and Pontil (2009), Empirical Bernstein bounds and sample variance penalization, theorem 4; Howard,
    Ramdas, McAuliffe and Sekhon (2021), Time-uniform, nonparametric, nonasymptotic confidence sequences, Ann. Statist.
    49(2), theorem 4 and its proof (the supermartingales, of Fan, Grama and Liu 2015).
    """

    low: float | int
    high: float | int

    def unit(self, size: int, planned: int | None) -> "_Unit":
        return _Unit(jnp.zeros(()), jnp.zeros(size), jnp.zeros(size), jnp.zeros(size), planned is None)


class _Unit(eqx.Module):
    count: Float[Array, ""]
    mean: Float[Array, " size"]
    squares: Float[Array, " size"]  # of deviations from the mean
    surprise: Float[Array, " size"]  # V
    anytime: bool = eqx.field(static=True)

    def add_rows(self, rows: Float[Array, "n size"], used: Float[Array, "n 1"]) -> "_Unit":
        before = jnp.cumsum(used, axis=0) - used
        sums = jnp.cumsum(rows * used, axis=0) - rows * used
        # One draw at the middle stands before all others.
        guess = (0.5 + self.count * self.mean[None] + sums) / (1 + self.count + before)
        count = jnp.sum(used)
        mean = jnp.sum(rows * used, axis=0) / jnp.maximum(count, 1)
        squares = jnp.sum(used * (rows - mean[None]) ** 2, axis=0)
        surprise = self.surprise + jnp.sum(used * (rows - guess) ** 2, axis=0)
        return self._with(_Unit(count, mean, squares, surprise, self.anytime))

    def merge(self, other: "_Unit") -> "_Unit":
        # Each set was guessed from what came before it in that set, which makes a supermartingale of the product.
        added = _Unit(other.count, other.mean, other.squares, self.surprise + other.surprise, self.anytime)
        return self._with(added)

    def _with(self, other: "_Unit") -> "_Unit":
        """Means and squares of both sets (Chan, Golub and LeVeque 1983), and V of the other."""
        count = self.count + other.count
        share = other.count / jnp.maximum(count, 1)
        delta = other.mean - self.mean
        squares = self.squares + other.squares + delta**2 * self.count * share
        return _Unit(count, self.mean + delta * share, squares, other.surprise, self.anytime)

    def ends(self, level: float) -> tuple[Float[Array, " size"], Float[Array, " size"]]:
        n = self.count
        if self.anytime:
            radius = _passes(self.surprise, math.log(2) - math.log1p(-level)) / jnp.maximum(n, 1)
        else:
            log = math.log(4) - math.log1p(-level)
            deviation = jnp.sqrt(2 * self.squares * log / jnp.maximum(n * (n - 1), 1))
            radius = jnp.where(n > 1, deviation + 7 * log / (3 * jnp.maximum(n - 1, 1)), 1)
        return jnp.clip(self.mean - radius, 0, 1), jnp.clip(self.mean + radius, 0, 1)


def _passes(v: Float[Array, " size"], log_threshold: float) -> Float[Array, " size"]:
    r"""The sum s at which the mixture of $\exp(\lambda s - \psi(\lambda) v)$ is at the threshold; it grows with s."""
    rates = jnp.asarray(_RATES)[:, None]
    log_shares = jnp.log(jnp.asarray(_SHARES / _SHARES.sum()))[:, None]
    costs = (-jnp.log1p(-rates) - rates) * v[None]

    def halve(_: Any, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low + high) / 2
        above = jax.nn.logsumexp(log_shares + rates * middle[None] - costs, axis=0) > log_threshold
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    # One of the mixture alone passes at (ψ(λ) v + log_threshold - log share) / λ.
    most = jnp.min((costs + log_threshold - log_shares) / rates, axis=0)
    return jax.lax.fori_loop(0, _HALVINGS, halve, (jnp.zeros_like(v), most))[1]
