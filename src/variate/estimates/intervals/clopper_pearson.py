"""Clopper and Pearson's interval: of draws that are one of two numbers."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import betainc
from jaxtyping import Array, Bool, Float

from .base import Between

_HALVINGS = 60


@dataclasses.dataclass(frozen=True)
class ClopperPearson(Between):
    r"""Of n draws that are a or b: the shares of b for which neither tail of the binomial count is below $\alpha/2$.

    The shortest central interval for a share that holds for any n. For a number of draws that was fixed in advance: the
    wrong choice under a stopping rule, which raises an error, and for draws in between, for all of which there is
    `Betting`.

    Args:
        low: a.
        high: b.

    Raises:
        TypeError: a bound is no number.
        ValueError: `low` is not below `high`, or one of them is infinite.

    Source: Clopper and Pearson (1934), The use of confidence or fiducial limits illustrated in the case of the
    binomial, Biometrika 26(4), 404-413.
    """

    low: float | int = 0
    high: float | int = 1

    def inside(self, draws: Float[Array, "n size"]) -> Bool[Array, "n size"]:
        return (draws == self.low) | (draws == self.high)

    @property
    def possible(self) -> str:
        return f"{self.low} or {self.high}"

    def unit(self, size: int, planned: int | None) -> "_Unit":
        if planned is None:
            raise ValueError("interval: ClopperPearson is for a number of draws fixed in advance, with until: Betting")
        return _Unit(jnp.zeros(()), jnp.zeros(size))


class _Unit(eqx.Module):
    count: Float[Array, ""]
    hits: Float[Array, " size"]

    def add_rows(self, rows: Float[Array, "n size"], used: Float[Array, "n 1"]) -> "_Unit":
        return self.merge(_Unit(jnp.sum(used), jnp.sum(jnp.round(rows) * used, axis=0)))

    def merge(self, other: "_Unit") -> "_Unit":
        return _Unit(self.count + other.count, self.hits + other.hits)

    def ends(self, level: float) -> tuple[Float[Array, " size"], Float[Array, " size"]]:
        r"""$P_p(X \ge k) = I_p(k, n - k + 1)$ is $\alpha/2$ at the lower end, $P_p(X \le k)$ at the upper one."""
        missed = jnp.full_like(self.hits, (1 - level) / 2)
        low = _root(self.hits, self.count - self.hits + 1, missed)
        high = 1 - _root(self.count - self.hits, self.hits + 1, missed)
        return low, high


def _root(a: Float[Array, " size"], b: Float[Array, " size"], tail: Float[Array, " size"]) -> Float[Array, " size"]:
    """The largest p known to have $I_p(a, b)$ of no more than `tail`, by halving; 0 where a is."""

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        below = betainc(jnp.maximum(a, 1), b, middle) <= tail
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    low, _ = lax.fori_loop(0, _HALVINGS, halve, (jnp.zeros_like(a), jnp.ones_like(a)))
    return jnp.where(a == 0, 0, low)
