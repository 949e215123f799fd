"""Equal steps in time, or in the logarithm of the ratio of signal to noise."""

from typing import Any

import numpy as np

from ..processes.base import Process
from .base import checked, inside


def uniform(process: Process | Any, steps: int, start: float | None = None, end: float | None = None) -> np.ndarray:
    """`steps` + 1 times at equal distances.

    Args:
        process: how noise takes over.
        steps: between the times.
        start: the first time; the process's horizon by default.
        end: the last time; the process's cutoff by default.

    Raises:
        TypeError: a process that is none, or augmented, whose variables have no one signal and noise.
        ValueError: times outside the process, or no steps.
    """
    steps, start, end = checked(process, steps, start, end)
    return np.linspace(start, end, steps + 1)


def uniform_log_snr(
    process: Process | Any, steps: int, start: float | None = None, end: float | None = None
) -> np.ndarray:
    r"""`steps` + 1 times with equal steps of $\lambda = \log \alpha / \sigma$.

    Args:
        process: how noise takes over.
        steps: between the times.
        start: the first time; the process's horizon by default.
        end: the last time, where there is still some noise; the process's cutoff by default.

    Raises:
        TypeError: a process that is none, or augmented, whose variables have no one signal and noise.
        ValueError: times outside the process or without noise or signal, or no steps.

    Source: Lu, Zhou, Bao, Chen, Li and Zhu (2022), DPM-Solver, NeurIPS 35, section 3.3.
    """
    steps, start, end = checked(process, steps, start, end)
    at = inside(process, start, end)
    first, last = np.log(at.alpha / at.sigma)
    return np.concatenate([[start], process.time_of(np.linspace(first, last, steps + 1)[1:-1]), [end]])
