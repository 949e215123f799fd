"""Equal steps in the angle between signal and noise."""

from typing import Any

import numpy as np

from ..processes.base import Process, exact_levels
from .base import checked


def cosine(process: Process | Any, steps: int, start: float | None = None, end: float | None = None) -> np.ndarray:
    r"""`steps` + 1 times with equal steps of $\phi = \arctan \sigma / \alpha$.

    On a process whose signal is $\cos(\pi t / 2)$ and whose noise is $\sin(\pi t / 2)$ the times are at equal
    distances; on others their levels have these ratios of noise to signal. It may start where there is no signal, and
    end where there is no noise.

    Args:
        process: how noise takes over.
        steps: between the times.
        start: the first time; the process's horizon by default.
        end: the last time; the process's cutoff by default.

    Raises:
        TypeError: a process that is none, or augmented, whose variables have no one signal and noise.
        ValueError: times outside the process, or no steps.

    Source: Salimans and Ho (2022), Progressive distillation for fast sampling of diffusion models, ICLR, appendix D,
    for the angle.
    """
    steps, start, end = checked(process, steps, start, end)
    at = exact_levels(process, [start, end])
    first, last = np.arctan2(at.sigma, at.alpha)
    angles = np.linspace(first, last, steps + 1)[1:-1]
    return np.concatenate([[start], process.time_of(-np.log(np.tan(angles))), [end]])
