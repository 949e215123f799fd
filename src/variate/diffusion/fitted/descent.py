"""Least squares for a few numbers of a solver that are not coefficients, by differences."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Array
from scipy.optimize import least_squares

from variate.checks import check_positive

LOOKS, WIDTH = 20, 1e-2  # evaluations of the slopes, and the relative width that they are taken over


def usual(misses: np.ndarray, dtype: Any) -> float:
    """The median miss; where most draws end exactly where they should, that of rounding."""
    return max(float(np.median(misses)), float(np.finfo(dtype).eps * np.max(misses)))


def descended(
    misses: Callable[[np.ndarray], Array], numbers: np.ndarray, forgiven: float | Any, dtype: Any
) -> np.ndarray:
    """Numbers at which few runs miss by much, found from these; the same array where none are better."""
    worst = float(np.finfo(dtype).max) ** 0.25  # a run that ends nowhere is as bad as can be, and is a number here

    def far(numbers: np.ndarray) -> np.ndarray:
        return np.nan_to_num(np.asarray(misses(numbers), np.float64).ravel(), nan=worst, posinf=worst, neginf=-worst)

    first = far(numbers)
    scale = check_positive("forgiven", forgiven) * usual(np.abs(first), dtype)
    if scale == 0:
        return numbers
    found = least_squares(far, numbers, loss="soft_l1", f_scale=scale, diff_step=WIDTH, max_nfev=LOOKS)
    before = np.sum(scale**2 * (np.sqrt(1 + (first / scale) ** 2) - 1))
    return found.x if found.cost < before else numbers
