"""Hoeffding's interval: from the bounds alone."""

import dataclasses
import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float
from scipy import special

from .base import Between


@dataclasses.dataclass(frozen=True)
class Hoeffding(Between):
    r"""$\bar x \pm (b - a) \sqrt{\log(2/\alpha) / 2n}$ for n draws between a and b, with $\alpha = 1 - \mathrm{level}$.

    Under a stopping rule it is the normal mixture of Robbins (1970), which holds for all n at once:
    $\bar x \pm \frac{b - a}{2} \sqrt{\frac{n\rho^2 + 1}{n^2\rho^2} \log\frac{n\rho^2 + 1}{\alpha^2}}$, with $\rho$ such
    that it is shortest at `expected_samples` and a level of 95%. The wrong choice for draws that vary less than their
    bounds allow: `EmpiricalBernstein` and `Betting` see that.

    Args:
        low: a.
        high: b.
        expected_samples: the number of draws for which a sequence is tuned; it holds for any other.

    Raises:
        TypeError: a bound is no number.
        ValueError: `low` is not below `high`, or one of them is infinite.

    Source: Hoeffding (1963), Probability inequalities for sums of bounded random variables, theorem 2.
    """

    low: float | int
    high: float | int
    expected_samples: int = 10_000

    def unit(self, size: int, planned: int | None) -> "_Unit":
        return _Unit(jnp.zeros(()), jnp.zeros(size), None if planned else float(self.expected_samples))


class _Unit(eqx.Module):
    count: Float[Array, ""]
    mean: Float[Array, " size"]
    tuned: float | None = eqx.field(static=True)

    def add_rows(self, rows: Float[Array, "n size"], used: Float[Array, "n 1"]) -> "_Unit":
        count = jnp.sum(used)
        return self.merge(_Unit(count, jnp.sum(rows * used, axis=0) / jnp.maximum(count, 1), self.tuned))

    def merge(self, other: "_Unit") -> "_Unit":
        count = self.count + other.count
        share = other.count / jnp.maximum(count, 1)
        return _Unit(count, self.mean + (other.mean - self.mean) * share, self.tuned)

    def ends(self, level: float) -> tuple[Float[Array, " size"], Float[Array, " size"]]:
        log_alpha = math.log1p(-level)
        n = jnp.maximum(self.count, 1)
        if self.tuned is None:
            radius = jnp.sqrt((math.log(2) - log_alpha) / (2 * n))
        else:
            # The least length over ρ² at n = tuned solves x + 1 = α² exp(x) for x = n ρ², at a level of 95%.
            x = -special.lambertw(-math.exp(2 * math.log(0.05) - 1), k=-1).real - 1
            x = n * float(x / self.tuned)
            radius = jnp.sqrt((1 + 1 / x) * (jnp.log1p(x) - 2 * log_alpha) / n) / 2
        return jnp.clip(self.mean - radius, 0, 1), jnp.clip(self.mean + radius, 0, 1)
