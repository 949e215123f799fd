"""What is measured of the draws of a number by several chains: effective draws, agreement, standard errors."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree
from scipy import stats

from variate.programs.fixed import fixed

from .effective import degrees_of_freedom, effective_draws, effective_in_a_half
from .groups import effective_together, group_means, half_width, nested_rhat, normal_scores

FEWEST = 8  # draws of a chain, in each half of which correlations are sought
_APART = 0.5
_TAIL = 0.05
_WANTED = 50  # effective draws of half of a chain
_BEYOND = 5  # effective draws on either side of a quantile: with fewer there may be none, in one sample of 150 or more


# Of values, by name: the elements, by their places in the flat array, that are the same at every position.
Constants = Mapping[str, tuple[int, ...]]


class Known(NamedTuple):
    """What is known of the mean of a number: it, the standard deviation, the standard error, and effective draws."""

    mean: np.ndarray
    sd: np.ndarray
    stderr: np.ndarray | np.floating
    ess: np.ndarray


def named(values: PyTree, bare: str) -> dict[str, np.ndarray]:
    """The leaves of a tree by their paths, that of a bare array by the name given for it."""
    return {name: np.asarray(leaf) for name, leaf in _paths(values, bare).items()}


def _paths(tree: PyTree, bare: str) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path, simple=True, separator=".") or bare: leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def storable(values: PyTree) -> dict[str, np.ndarray]:
    """`named`, with a dot for each slash, which xarray has between groups, and none of the names of its axes."""
    found: dict[str, np.ndarray] = {}
    for name, leaf in named(values, "x").items():
        name = name.replace("/", ".")
        while name in ("chain", "draw") or name in found:
            name += "_"
        found[name] = leaf
    return found


def exactly(found: PyTree, constants: Constants, value: float) -> PyTree[np.ndarray]:
    """What was measured of every number, with a value in its place for those that are constant by themselves."""
    leaves = [np.array(leaf) for leaf in jax.tree.leaves(found)]
    for name, leaf in zip(named(found, ""), leaves, strict=True):
        leaf.flat[list(constants.get(name, ()))] = value
    return jax.tree.unflatten(jax.tree.structure(found), leaves)


def constants_of(f: Callable[..., PyTree], args: PyTree, constants: Constants) -> Constants:
    """Of f of a draw, the last of `args`, whose constants are known: the numbers that it makes of these and of none."""
    before: list[tuple[int, ...]] = [() for _ in jax.tree.leaves(args[:-1])]
    known = [*before, *[constants.get(name, ()) for name in _paths(args[-1], "")]]
    return dict(zip(_paths(jax.eval_shape(f, *args), ""), fixed(f, args, known), strict=True))


def others(found: PyTree[np.ndarray], constants: Constants) -> list[np.ndarray]:
    """The numbers that are not constant by themselves."""
    flat = {name: x.reshape(*x.shape[:2], -1) for name, x in named(found, "").items()}
    return [np.delete(x, list(constants.get(name, ())), axis=2) for name, x in flat.items()]


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation, over axes of chains and of draws, in double precision.

    NumPy adds single numbers up one after another where their axis is not the last: of 100,000 draws about 10,000 the
    mean is off by 7 then.
    """
    return np.asarray(x.mean((0, 1), dtype=float)), np.asarray(x.std((0, 1), dtype=float))


def standard_error(x: np.ndarray, walkers: int = 1) -> np.ndarray | np.floating:
    """Of the mean, over axes of chains and of draws; of so many chains in a row that depend on each other."""
    ess = _diagnosed(lambda x: effective_draws(group_means(x, walkers)), x)
    return (moments(group_means(x, walkers))[1] / np.sqrt(ess)).astype(x.dtype)


def error_of_means(means: np.ndarray) -> np.ndarray:
    """The standard error of the mean of those of independent chains."""
    return np.asarray(means.std(0, ddof=1, dtype=float) / len(means) ** 0.5, means.dtype)


def error_between(x: np.ndarray) -> np.ndarray:
    """The standard error of the mean by how far those of chains are apart, whatever the draws of a chain depend on."""
    return _diagnosed(lambda x: error_of_means(x.mean(1)), x).astype(x.dtype)


def degrees(numbers: Sequence[np.ndarray], walkers: int = 1) -> float | None:
    """Of freedom of the standard errors of means, the harmonic mean of all numbers' own; None where that is unknown."""
    each = [_diagnosed(lambda x: degrees_of_freedom(group_means(x, walkers)), x) for x in numbers]
    shares = np.concatenate([np.empty(0), *[np.ravel(1 / found) for found in each]])
    mean = float(np.mean(shares)) if shares.size else np.nan
    return round(max(1 / mean, 1.0), 1) if mean > 0 else None


def quantile_error(x: np.ndarray, q: float, walkers: int = 1) -> np.ndarray:
    """Of the q-quantile; NaN where a chain stands still, next to nothing is beyond it, or all near it are alike."""
    from arviz_stats.base.array import BaseArray

    ess = effective(x, "quantile", q, walkers)
    if walkers > 1:
        error = half_width(x, q, ess)
    else:
        error = _diagnosed(lambda x: BaseArray().mcse(x, chain_axis=0, draw_axis=1, method="quantile", prob=q), x)
    # Beyond the last draw no order statistic is left to tell how far the quantile may be, and of an atom none can.
    known = (ess * min(q, 1 - q) >= _BEYOND) & (error > 0)
    return np.where(known, error, np.nan).astype(x.dtype)


def effective(x: np.ndarray, method: str, prob: Any = None, walkers: int = 1) -> np.ndarray:
    """The effective sample size by a method of ArviZ's; NaN where a chain stands still."""
    from arviz_stats.base.array import BaseArray

    if walkers > 1:
        return _diagnosed(lambda x: effective_together(x, prob, walkers), x)
    return _diagnosed(lambda x: BaseArray().ess(x, chain_axis=0, draw_axis=1, method=method, prob=prob), x)


def rank_rhat(x: Any, groups: int | None = None) -> np.ndarray:
    """R-hat by ranks, the larger of that of the draws and of their distances from the median; nested, of groups."""
    from arviz_stats.base.array import BaseArray

    if groups is not None:
        return _diagnosed(lambda x: nested_rhat(x, groups), x)
    return _diagnosed(lambda x: BaseArray().rhat(x, chain_axis=0, draw_axis=1, method="rank"), x)


def rhat_by_chance(x: np.ndarray, alarm: float = 1e-3) -> np.ndarray:
    r"""How large R-hat is of chains that agree, $\sqrt{1 + q / n}$: by chance larger in one array of 1 / `alarm`.

    The means of m halves of chains, of n effective draws each, vary by $\chi^2_{m-1} / ((m - 1) n)$ of a variance, of
    which q is a quantile. n is known from each half alone, so that chains that are apart do not excuse themselves, and
    it is 50 where it is less: chance excuses none that have fewer draws than are wanted of them.
    """
    scores = [normal_scores(number) for number in (x, np.abs(x - np.median(x, (0, 1))))]
    own = np.min([_diagnosed(effective_in_a_half, score) for score in scores], axis=0)
    freedom, numbers = 2 * len(x) - 1, len(scores) * x[0, 0].size
    explained = stats.chi2.isf(alarm / numbers, freedom) / freedom / np.maximum(own, _WANTED)
    return np.asarray(np.sqrt(1 + explained))


def apart(x: np.ndarray, draws: float = 100) -> np.ndarray:
    """The chains whose ranks are, in some number, half a standard deviation off or spread half as much as all are.

    A chain of 100 effective draws knows its mean to a tenth and its spread better, so that such a chain is five
    standard errors off: by chance once in a million. R-hat divides what one chain does by the number of chains. Of
    chains of fewer draws, what is off by less than five standard errors is none.
    """
    ranks = stats.rankdata(x.reshape(x.shape[0] * x.shape[1], -1), axis=0).reshape(*x.shape[:2], -1)
    spread = ranks.std((0, 1))
    off = np.abs(ranks.mean(1) - ranks.mean((0, 1))) > max(_APART, 5 / draws**0.5) * spread
    return np.flatnonzero(np.any(off | (ranks.std(1) < _APART * spread), axis=1))


def outermost_acceptance(x: np.ndarray, acceptance: np.ndarray) -> float:
    """The least mean acceptance of steps that begin in the lower or in the upper twentieth of some number."""
    before, found = x[:, :-1].reshape(len(x), x.shape[1] - 1, -1), []
    for tail, beyond in ((_TAIL, np.less_equal), (1 - _TAIL, np.greater_equal)):
        there = beyond(before, np.quantile(before, tail, axis=(0, 1)))
        found.append(np.sum(acceptance[:, 1:, None] * there, (0, 1)) / np.sum(there, (0, 1)))
    return float(np.min(found))


def energy_information(energy: np.ndarray) -> np.ndarray:
    r"""$\sum_n (E_n - E_{n-1})^2 / \sum_n (E_n - \bar E)^2$ of each chain; NaN where the energy never changes."""
    off = energy - energy.mean(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sum(np.diff(energy, axis=1) ** 2, 1) / np.sum(off**2, 1)


def alone(x: np.ndarray, walkers: int) -> np.ndarray | float:
    """The effective draws of one walker, as if it were alone; of a chain, all that are asked of it."""
    return effective(x, "bulk") / len(x) if walkers > 1 else 100.0


def stands_still(x: np.ndarray) -> bool:
    """Whether some number never changes in some chain."""
    return bool(x.size and np.any(np.ptp(x, axis=1) == 0))


def _diagnosed(diagnostic: Callable[[np.ndarray], Any], x: Any) -> np.ndarray:
    """NaN where a chain never moves: neither a number of draws nor agreement can be told from it."""
    x = np.asarray(x, dtype=float)
    stuck = np.any(np.ptp(x, axis=1) == 0, axis=0) | ~np.all(np.isfinite(x), axis=(0, 1))
    if x.shape[1] < FEWEST:
        return np.full(x.shape[2:], np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(stuck, np.nan, diagnostic(x))
