"""Quantiles of a program's result, with intervals that hold for any distribution and any number of draws."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree
from scipy import stats

from variate import checks
from variate.programs.generator import run_keys
from variate.trees import Static

from .base import Methods
from .estimate import Estimate
from .sampling import opened, raise_if_invalid, sampler

_ONE_SIGMA = float(stats.norm.cdf(1) - stats.norm.cdf(-1))


class OrderStatistics(eqx.Module):
    """Sorted draws as the `ends` of an `Estimate`: the interval of a quantile is between two of them."""

    rows: PyTree[Float[Array, "n ..."]]  # sorted along the first axis
    probabilities: tuple[float, ...] = eqx.field(static=True)
    scalar: bool = eqx.field(static=True)
    outside: Int[Array, ""] = eqx.field(default_factory=lambda: jnp.zeros((), int))
    name: str = eqx.field(static=True, default="OrderStatistics")

    def at(self, places: list[int]) -> PyTree[Array]:
        """The draws of these ranks, from 1; of ranks beyond there are none, and what is unknown is infinite."""

        def pick(rows: Array) -> Array:
            ends = jnp.full((1, *rows.shape[1:]), jnp.inf, rows.dtype)
            padded = jnp.concatenate([-ends, rows, ends])
            found = padded[np.clip(places, 0, len(rows) + 1)]
            # A draw that is not a number is sorted last, and may be of any rank.
            found = jnp.where(jnp.any(jnp.isnan(rows), axis=0, keepdims=True), jnp.nan, found)
            return found[0] if self.scalar else found

        return jax.tree.map(pick, self.rows)

    @property
    def size(self) -> int:
        return jax.tree.leaves(self.rows)[0].shape[0]

    @property
    def kind(self) -> tuple[Any, ...]:
        """What quantiles of the same draws in two parts have in common."""
        return self.name, self.probabilities, self.scalar

    def joined(self, other: "OrderStatistics", found: Estimate) -> Estimate:
        """The quantiles of both sets of draws; of what was found of each nothing is of use."""

        def join(one: OrderStatistics, two: OrderStatistics) -> Estimate:
            both = jax.tree.map(lambda *rows: jnp.sort(jnp.concatenate(rows), axis=0), one.rows, two.rows)
            return OrderStatistics(both, self.probabilities, self.scalar).read()

        for _ in jnp.shape(self.outside):
            join = jax.vmap(join)
        return join(self, other)

    def read(self) -> Estimate:
        low, high = self.of(None, _ONE_SIGMA)
        value = self.at([int(np.ceil(self.size * each)) for each in self.probabilities])
        missing = [jnp.isnan(leaf).reshape(self.size, -1) for leaf in jax.tree.leaves(self.rows)]
        bad = jnp.sum(jnp.any(jnp.concatenate(missing, axis=1), axis=1))
        stderr = jax.tree.map(lambda a, b: (b - a) / 2, low, high)
        return Estimate(value, stderr, self.size, bad == 0, bad, ends=self)

    def of(self, value: PyTree[Array], level: float) -> tuple[PyTree[Array], PyTree[Array]]:
        """The ends: how many draws are below the quantile is binomial, and so are their ranks."""

        def ends(one: OrderStatistics) -> tuple[PyTree[Array], PyTree[Array]]:
            low = [int(stats.binom.ppf((1 - level) / 2, one.size, q)) for q in one.probabilities]
            high = [int(stats.binom.ppf((1 + level) / 2, one.size, q)) + 1 for q in one.probabilities]
            return one.at(low), one.at(high)

        for _ in jnp.shape(self.outside):
            ends = jax.vmap(ends)
        return ends(self)


def quantile(
    f: Callable[..., PyTree], q: Any, *, num_samples: int = 10_000, block_size: int = 256
) -> Callable[..., Estimate]:
    r"""Quantiles of a result Y, the least x with $P(Y \le x) \ge q$: a function `(key, *args)` returning an `Estimate`.

    Of each number of the result; for several q with a leading axis of them. The value is the draw of rank
    $\lceil n q \rceil$, the interval at a level the draws of the ranks between which a binomial number of n and q is
    with that probability at least. So it holds for any distribution, with atoms or without a density, and any n, and an
    end that n draws cannot tell is infinite. `stderr` is half of the interval at one standard error's level.

    Draws are those of `expect` with the same key, and all are kept: memory is `num_samples` times that of a result.

    Args:
        q: a probability or several.
        num_samples: n.
        block_size: draws at a time.

    Raises:
        TypeError: the key is not typed, or results are no real numbers.
        ValueError: a probability is not between 0 and 1, or a distribution's parameters are out of range.

    Source: David and Nagaraja (2003), Order statistics, section 7.1.
    """
    checks.check_callable("f", f)
    several = np.ndim(q) > 0
    probabilities = tuple(checks.check_fraction("q", each) for each in (q if several else (q,)))
    if not probabilities:
        raise ValueError("q must be a probability or several, got none")
    checks.check_positive_int("num_samples", num_samples)
    checks.check_positive_int("block_size", block_size)

    @functools.wraps(f, updated=())
    def estimate(key: Any = None, *args: Any) -> Estimate:
        call = opened(f, key, args)
        rows, invalid = _sorted(call.static, num_samples, block_size, call.known, key, call.numbers)
        raise_if_invalid(call, key, invalid)
        return OrderStatistics(rows, probabilities, not several).read()

    return estimate


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _sorted(
    static: Static, count: int, block: int, checked: bool, key: Key[Array, ""], numbers: list[Any]
) -> tuple[PyTree[Array], dict[int, Int[Array, ""]]]:
    row = sampler(Methods(), static, count, key, numbers, checked).row
    keys = run_keys(key, jnp.arange(count))
    rows, invalid = jax.lax.map(lambda key: row(key, jnp.zeros(0)), keys, batch_size=min(block, count))
    return jax.tree.map(lambda leaf: jnp.sort(leaf, axis=0), rows), jax.tree.map(lambda times: jnp.sum(times), invalid)
