"""Multilevel Monte Carlo: many cheap runs of the coarse program, a few dear ones of what finer ones add to it."""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key, PyTree
from scipy import special

from variate import checks
from variate.estimates.estimate import Estimate
from variate.estimates.moments import Moments
from variate.trees import split

from .base import at_level, flat, merged, operations, read, refuse, runs

_FIRST = 3  # levels that are looked at before any is asked to be the last
_FEWEST = 100  # runs of a level, below which its variance is a guess
_SPARE = 1.2  # of the runs that the variances of the pilot ask for, since these are known to some tenth
_FALSE_ALARM = 1e-6  # that levels which fit are said not to


class Multilevel(Estimate):
    """An estimate, and what its levels were: arrays with an axis of levels, of the number whose variance is largest."""

    means: Float[Array, " levels"] | None = None  # of what a level adds
    variances: Float[Array, " levels"] | None = None
    costs: Float[Array, " levels"] | None = None  # of a run
    runs: Int[Array, " levels"] | None = None

    @property
    def rates(self) -> tuple[float, float, float]:
        r"""α, β, γ: means fall as $2^{-\alpha l}$, variances as $2^{-\beta l}$, and costs rise as $2^{\gamma l}$."""
        assert self.means is not None
        assert self.variances is not None
        assert self.costs is not None
        slopes = [_slope(np.asarray(each)) for each in (np.abs(self.means), self.variances, self.costs)]
        return -slopes[0], -slopes[1], slopes[2]


class _Levels(NamedTuple):
    """By level, with a column for each number of the result."""

    means: Float[np.ndarray, "levels m"]
    variances: Float[np.ndarray, "levels m"]

    @classmethod
    def of(cls, found: list[Estimate]) -> "_Levels":
        means = np.stack([flat(each.value[0]) for each in found])
        errors = [flat(each.stderr[0]) for each in found]  # pyright: ignore[reportOptionalSubscript]
        return cls(means, np.stack([e**2 * int(one.num_samples) for e, one in zip(errors, found, strict=True)]))

    @property
    def bias(self) -> Float[np.ndarray, " m"]:
        r"""What the levels beyond the last would add: $|m_L| / (2^\alpha - 1)$, or as much from the levels before.

        Levels before are not taken to have fallen by more than a half each, whatever the fit, since a mean on its way
        through 0 is small for a level, and all that are fitted may be too coarse for any rate.
        """
        alpha = np.array([np.clip(-_slope(np.abs(column)), 0.5, 1.0) for column in self.means.T])
        back = np.arange(min(3, len(self.means) - 1))
        last = np.abs(self.means[::-1][back]) * 2.0 ** (-alpha * back[:, None])
        return last.max(axis=0) / (2**alpha - 1)


def multilevel(
    f: Callable[..., tuple[PyTree, PyTree]],
    *,
    rmse: float,
    costs: Callable[[int], float] | None = None,
    pilot: int = 1_000,
    max_level: int = 10,
    block_size: int = 256,
) -> Callable[..., Multilevel]:
    r"""An expectation that can only be approached: a function `(key, *args)` returning $\sum_l \overline{F_l - C_l}$.

    `f(key, level, *args)` returns `(fine, coarse)`: what the program comes to at a level, an integer from 0, and at the
    level below *from the same draws*; of level 0 the second is not looked at. Paths of a stochastic differential
    equation by $2^l$ steps are fine, by every other of their times coarse. A pilot at each level finds how its mean,
    its variance $V_l$ and its cost $c_l$ go, adds levels until what is left out is below $\mathrm{rmse} / \sqrt 2$,
    and then $n_l \propto \sqrt{V_l / c_l}$ fresh runs bring the variance below $\mathrm{rmse}^2 / 2$.

    The `bias` of the estimate is what the levels beyond the last would add, were their means to fall on as they do; its
    interval is longer by as much at both ends. That the levels telescope, so that what is coarse at one has the mean of
    what is fine below, is tested. The wrong choice where levels share too little, so that variances fall more slowly
    than costs rise: then the finest level takes most of the time.

    Args:
        rmse: the root of the mean square of the error to be reached, of every number of the result.
        costs: of a run at a level, in any unit; by default the operations that it stages.
        pilot: runs for this at each level.
        max_level: of 2 or more; where the bias is not small enough even there, the estimate has not converged.
        block_size: runs at a time.

    Raises:
        TypeError: `f` returns no pair of real numbers.
        ValueError: the two have other shapes, the levels do not telescope, or a distribution's parameters are out of
            range.

    Source: Giles (2008), Multilevel Monte Carlo path simulation, Oper. Res. 56(3), 607-617; the extrapolated bias and
    the test of the levels: Giles (2015), Multilevel Monte Carlo methods, Acta Numerica 24, 259-328, section 3.
    """
    checks.check_callable("f", f)
    checks.check_positive("rmse", rmse)
    checks.check_at_least("pilot", pilot, _FEWEST)
    checks.check_at_least("max_level", max_level, _FIRST - 1)
    checks.check_positive_int("block_size", block_size)

    @functools.wraps(f, updated=())
    def estimate(key: Any = None, *args: Any) -> Multilevel:
        checks.check_key(key)
        numbers, static = split((f, args))
        checks.check_hashable(static.leaves)
        learning, using = jax.random.split(key)

        def run(key: Key[Array, ""], level: int, count: int) -> Moments:
            fold, invalid = runs(static, level, block_size, jax.random.clone(key), numbers, jnp.asarray(count))
            refuse(at_level(f, level), jax.random.clone(key), args, invalid)
            return fold

        tried = [run(learning, level, pilot) for level in range(_FIRST)]
        seen = [read(fold) for fold in tried]

        def try_another() -> None:
            tried.append(run(learning, len(tried), pilot))
            seen.append(read(tried[-1]))

        while _left_out(seen) > rmse / 2**0.5 and len(tried) <= max_level:
            try_another()
        used: list[Moments] = []
        while True:
            of_run = [costs(at) if costs else float(operations(static, at, key, numbers)) for at in range(len(tried))]
            counts = _allocation(_Levels.of(seen).variances, np.asarray(of_run, float), rmse)
            used += [run(using, at, int(counts[at])) for at in range(len(used), len(tried))]
            pooled = [read(merged(a, b)) for a, b in zip(tried, used, strict=True)]
            # Now that more is known, the pilot may have been wrong to stop where it did.
            if _left_out(pooled) <= rmse / 2**0.5 or len(tried) > max_level:
                return _result([read(fold) for fold in used], pooled, of_run, rmse)
            try_another()

    return estimate


def _left_out(found: list[Estimate]) -> float:
    return float(np.max(_Levels.of(found).bias))


def _allocation(
    variances: Float[np.ndarray, "levels m"], costs: Float[np.ndarray, " levels"], rmse: float
) -> Int[np.ndarray, " levels"]:
    """The runs of each level that bring the variance to half of rmse² at the least cost, for the number that asks most.

    Of Giles (2015), eq. 1.10.
    """
    spread = np.sqrt(variances)
    needed = 2 / rmse**2 * spread / np.sqrt(costs)[:, None] * np.sum(spread * np.sqrt(costs)[:, None], axis=0)
    # Where a pilot was not finite nothing will do; the result says so.
    return np.maximum(np.ceil(_SPARE * np.nan_to_num(needed.max(axis=1), posinf=0.0)), _FEWEST).astype(int)


def _result(found: list[Estimate], pooled: list[Estimate], costs: list[float], rmse: float) -> Multilevel:
    """Of each level what the runs after the pilot came to, and these together with the pilot's."""
    _check_telescope(pooled)
    value = jax.tree.map(lambda *leaves: sum(leaves), *[each.value[0] for each in found])
    errors = [each.stderr[0] for each in found]  # pyright: ignore[reportOptionalSubscript]
    stderr = jax.tree.map(lambda *leaves: jnp.sqrt(sum(leaf**2 for leaf in leaves)), *errors)
    levels = _Levels.of(pooled)
    numbers, back = ravel_pytree(value)
    worst = int(np.argmax(np.sum(levels.variances, axis=0)))
    near = np.hypot(flat(stderr), levels.bias) <= rmse
    nonfinite = sum(int(each.nonfinite) for each in found)
    return Multilevel(
        value,
        stderr,
        sum(int(each.num_samples) for each in pooled),
        bool(np.all(near)) and nonfinite == 0,
        nonfinite,
        method=f"Multilevel of {len(found)} levels",
        bias=back(jnp.asarray(levels.bias, numbers.dtype)),
        means=jnp.asarray(levels.means[:, worst]),
        variances=jnp.asarray(levels.variances[:, worst]),
        costs=jnp.asarray(costs, float),
        runs=jnp.asarray([int(each.num_samples) for each in found]),
    )


def _check_telescope(found: list[Estimate]) -> None:
    """Raises `ValueError` where what is coarse at a level has not the mean of what is fine at the level below."""
    bound = special.ndtri(1 - _FALSE_ALARM / 2 / (len(found) * flat(found[0].value[0]).size))
    for level, (below, above) in enumerate(itertools.pairwise(found), 1):
        fine, coarse = flat(below.value[1]), flat(above.value[2])
        error = np.hypot(flat(below.stderr[1]), flat(above.stderr[2]))  # pyright: ignore[reportOptionalSubscript]
        scale = 1e-6 * (np.abs(fine) + np.abs(coarse))  # of rounding
        off = np.abs(fine - coarse) > bound * error + scale
        if np.any(off):
            i = int(np.argmax(off))
            raise ValueError(
                f"f: its coarse result at level {level} has the mean {coarse[i]:.6g}, its fine one at level "
                f"{level - 1} {fine[i]:.6g}, with an error of {error[i]:.2g} only; they should be of one distribution"
            )


def _slope(values: Float[np.ndarray, " levels"]) -> float:
    """Of log₂ from level 1 on; 0 where there are fewer than two."""
    with np.errstate(divide="ignore"):
        logs = np.log2(values[1:])
    use = np.isfinite(logs)
    return float(np.polyfit(np.arange(1, len(values))[use], logs[use], 1)[0]) if use.sum() > 1 else 0.0
