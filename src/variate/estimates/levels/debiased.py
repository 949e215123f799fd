"""Unbiased estimates of what can only be approached: the level of a run is random, and its weight makes up for it."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, PyTree

from variate import checks
from variate.estimates.estimate import Estimate
from variate.estimates.moments import Moments
from variate.estimates.sampling import Invalid
from variate.trees import Static, join, split

from .base import at_level, flat, folded, merged, pair, read, refuse

_SEEN = 30  # runs of a level, from which its second moment says something


def debiased(
    f: Callable[..., tuple[PyTree, PyTree]],
    *,
    ratio: float = 2**-1.5,
    summed: bool = False,
    num_samples: int = 10_000,
    block_size: int = 256,
) -> Callable[..., Estimate]:
    r"""The limit of an expectation over levels, without bias: a function `(key, *args)` returning its `Estimate`.

    `f(key, level, *args)` returns `(fine, coarse)` as for `multilevel`. A run has the level N with probability
    $p_l = (1 - r) r^l$ and comes to $Z = (F_N - C_N) / p_N$ or, `summed`, to
    $Z = \sum_{l \le N} (F_l - C_l) / r^l$ with levels of draws of their own. Either way
    $E Z = \lim_l E F_l$ exactly, with no level that is the last.

    The variance is finite where that of a level falls faster than $r^l$, and the time of a run where its cost rises
    more slowly than $r^{-l}$; for variances like $2^{-2 l}$ and costs like $2^l$, as of Milstein's scheme, the default
    is midway. For Euler's, whose variances fall as $2^{-l}$, no r will do, and `multilevel` is the right choice: where
    second moments surely fall too slowly, the estimate has no error bar (`tail`). At the default the third moment is
    infinite, and intervals need many runs to hold; a larger r, if time allows, makes lighter tails.

    Args:
        ratio: r.
        summed: whether a run goes through all levels up to its own.
        num_samples: runs.
        block_size: runs of level 0 at a time, and half as many from level to level.

    Raises:
        TypeError: `f` returns no pair of real numbers.
        ValueError: the two have other shapes, r is not between 0 and 1, or a distribution's parameters are out of
            range.

    Source: Rhee and Glynn (2015), Unbiased estimation with square root convergence for SDE models, Oper. Res. 63(5),
    1026-1043: the single-term estimator and the independent-sum estimator.
    """
    checks.check_callable("f", f)
    checks.check_fraction("ratio", ratio)
    checks.check_at_least("num_samples", num_samples, 2)
    checks.check_positive_int("block_size", block_size)

    @functools.wraps(f, updated=())
    def estimate(key: Any = None, *args: Any) -> Estimate:
        checks.check_key(key)
        numbers, static = split((f, args))
        checks.check_hashable(static.leaves)
        choosing, running = jax.random.split(key)
        # log U / log r rounded down is geometric.
        uniforms = np.asarray(jax.random.uniform(choosing, (num_samples,), minval=1e-30), float)
        counts = np.bincount(np.floor(np.log(uniforms) / math.log(ratio)).astype(int))
        folds = {}
        for level in np.flatnonzero(counts).tolist():
            key, count = jax.random.clone(running), jnp.asarray(counts[level])
            block = max(1, block_size >> level)  # runs are rarer, and cost more, from level to level
            folds[level], invalid = _runs(static, level, ratio, summed, block, key, numbers, count)
            for below, met in invalid.items():
                refuse(at_level(f, below), jax.random.clone(running), args, met)
        found = read(functools.reduce(merged, folds.values()))
        tail, surely = _tail(folds, ratio)
        stderr = jax.tree.map(lambda error: jnp.where(surely, jnp.nan, error), found.stderr)
        return Estimate(
            found.value,
            stderr,
            found.num_samples,
            found.converged & (not surely),
            found.nonfinite,
            method="IndependentSum" if summed else "SingleTerm",
            tail=jnp.asarray(tail),
        )

    return estimate


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _runs(
    static: Static,
    level: int,
    ratio: float,
    summed: bool,
    block: int,
    key: Key[Array, ""],
    numbers: list[Any],
    count: Int[Array, ""],
) -> tuple[Moments, dict[int, Invalid]]:
    f, args = join(numbers, static)

    def single(key: Key[Array, ""]) -> tuple[PyTree[Array], dict[int, Invalid]]:
        found, invalid = pair(f, key, level, args)
        weight = 1 / ((1 - ratio) * ratio**level)
        return jax.tree.map(lambda x: weight * x, found.difference), {level: invalid}

    def whole(key: Key[Array, ""]) -> tuple[PyTree[Array], dict[int, Invalid]]:
        keys = jax.random.split(key, level + 1)
        found = [pair(f, keys[below], below, args) for below in range(level + 1)]
        terms = [each.difference for each, _ in found]
        row = jax.tree.map(lambda *x: sum(each / ratio**below for below, each in enumerate(x)), *terms)
        return row, {below: invalid for below, (_, invalid) in enumerate(found)}

    return folded(whole if summed else single, jax.random.fold_in(key, level), count, block)


def _tail(folds: dict[int, Moments], ratio: float) -> tuple[float, bool]:
    r"""The tail index of Z, and whether it is surely 1/2 or more, where there is no variance.

    Where second moments of levels go like $2^{-\beta l}$, Z is of the order $2^{-\beta l / 2} r^{-l}$ with probability
    about $r^l$, so that its index is $1 - \beta / (2 \log_2 (1/r))$. β is a weighted regression's over the finer half
    of the levels, since those that are coarse may approach faster than any that follow.
    """
    levels, logs = [], []
    for level, fold in folds.items():
        if level and int(fold.num_samples) >= _SEEN:
            found = read(fold)
            value, error = flat(found.value), flat(found.stderr)
            moment = float(np.max(value**2 + error**2 * int(fold.num_samples)))
            levels.append(level)
            # Those of F - C at the level, the weight taken off.
            logs.append(math.log2(moment) + 2 * level * math.log2(ratio) if moment > 0 else -np.inf)
    if len(levels) < 2 or not np.all(np.isfinite(logs)):
        return math.nan, False
    finer = slice(min(len(levels) // 2, len(levels) - 2), None)
    weights = np.array([int(folds[level].num_samples) for level in levels[finer]], float)
    centred = np.array(levels[finer]) - np.average(levels[finer], weights=weights)
    total = np.sum(weights * centred**2)
    beta = -float(np.sum(weights * centred * np.array(logs[finer])) / total)
    error = math.log2(math.e) * math.sqrt(4 / total)  # of second moments of tails somewhat heavier than the normal's
    critical = -math.log2(ratio)
    return 1 - beta / (2 * critical), beta + 2 * error < critical
