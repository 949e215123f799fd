"""What is measured of the draws of a number by several chains: effective draws, agreement, standard errors."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree
from scipy import stats

from .effective import degrees_of_freedom, effective_draws

_FEWEST = 8  # draws of a chain, in each half of which correlations are sought
_APART = 0.5
_BEYOND = 5  # effective draws on either side of a quantile: with fewer there may be none, in one sample of 150 or more


def named(values: PyTree, bare: str) -> dict[str, np.ndarray]:
    """The leaves of a tree by their paths, that of a bare array by the name given for it."""
    return {
        jax.tree_util.keystr(path, simple=True, separator=".") or bare: np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(values)
    }


def standard_error(x: np.ndarray) -> np.ndarray | np.floating:
    """Of the mean, over axes of chains and of draws."""
    return x.std((0, 1)) / np.sqrt(_diagnosed(effective_draws, x).astype(x.dtype))


def degrees(numbers: Sequence[np.ndarray]) -> float | None:
    """Of freedom of the standard errors of means, the harmonic mean of all numbers' own; None where that is unknown."""
    shares = np.concatenate([np.empty(0), *[np.ravel(1 / _diagnosed(degrees_of_freedom, x)) for x in numbers]])
    mean = float(np.mean(shares)) if shares.size else np.nan
    return round(max(1 / mean, 1.0), 1) if mean > 0 else None


def quantile_error(x: np.ndarray, q: float) -> np.ndarray:
    """Of the q-quantile; NaN where a chain stands still, next to nothing is beyond it, or all near it are alike."""
    from arviz_stats.base.array import BaseArray

    ess = effective(x, "quantile", q)
    error = _diagnosed(lambda x: BaseArray().mcse(x, chain_axis=0, draw_axis=1, method="quantile", prob=q), x)
    # Beyond the last draw no order statistic is left to tell how far the quantile may be, and of an atom none can.
    known = (ess * min(q, 1 - q) >= _BEYOND) & (error > 0)
    return np.where(known, error, np.nan).astype(x.dtype)


def effective(x: np.ndarray, method: str, prob: Any = None) -> np.ndarray:
    """The effective sample size by a method of ArviZ's; NaN where a chain stands still."""
    from arviz_stats.base.array import BaseArray

    return _diagnosed(lambda x: BaseArray().ess(x, chain_axis=0, draw_axis=1, method=method, prob=prob), x)


def rank_rhat(x: Any) -> np.ndarray:
    """R-hat by ranks, the larger of that of the draws and of their distances from the median."""
    from arviz_stats.base.array import BaseArray

    return _diagnosed(lambda x: BaseArray().rhat(x, chain_axis=0, draw_axis=1, method="rank"), x)


def apart(x: np.ndarray) -> np.ndarray:
    """The chains whose ranks are, in some number, half a standard deviation off or spread half as much as all are.

    A chain of 100 effective draws knows its mean to a tenth and its spread better, so that such a chain is five
    standard errors off: by chance once in a million. R-hat divides what one chain does by the number of chains.
    """
    ranks = stats.rankdata(x.reshape(x.shape[0] * x.shape[1], -1), axis=0).reshape(*x.shape[:2], -1)
    spread = ranks.std((0, 1))
    off = np.abs(ranks.mean(1) - ranks.mean((0, 1))) > _APART * spread
    return np.flatnonzero(np.any(off | (ranks.std(1) < _APART * spread), axis=1))


def energy_information(energy: np.ndarray) -> np.ndarray:
    r"""$\sum_n (E_n - E_{n-1})^2 / \sum_n (E_n - \bar E)^2$ of each chain; NaN where the energy never changes."""
    off = energy - energy.mean(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sum(np.diff(energy, axis=1) ** 2, 1) / np.sum(off**2, 1)


def _diagnosed(diagnostic: Callable[[np.ndarray], Any], x: Any) -> np.ndarray:
    """NaN where a chain never moves: neither a number of draws nor agreement can be told from it."""
    x = np.asarray(x, dtype=float)
    stuck = np.any(np.ptp(x, axis=1) == 0, axis=0) | ~np.all(np.isfinite(x), axis=(0, 1))
    if x.shape[1] < _FEWEST:
        return np.full(x.shape[2:], np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(stuck, np.nan, diagnostic(x))
