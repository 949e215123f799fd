"""The schedule of EDM: equal steps in a root of the ratio of noise to signal, and one to no noise at all."""

from typing import Any

import numpy as np

from variate.checks import check_positive

from ..processes.base import Process
from .base import checked, inside


def edm(
    process: Process | Any, steps: int, start: float | None = None, end: float | None = None, root: float = 7.0
) -> np.ndarray:
    r"""`steps` + 1 times: equal steps in $(\sigma / \alpha)^{1 / \rho}$, and at last 0.

    Args:
        process: how noise takes over.
        steps: between the times, the last of which leads from `end` to 0.
        start: the first time; the process's horizon by default.
        end: the last time but one; the process's cutoff by default.
        root: $\rho$; the larger, the more of the times lie where there is little noise.

    Raises:
        TypeError: a process that is none, or augmented, whose variables have no one signal and noise.
        ValueError: times outside the process, or no steps.

    Source: Karras, Aittala, Aila and Laine (2022), Elucidating the design space of diffusion-based generative models,
    NeurIPS 35, eq. 5.
    """
    steps, start, end = checked(process, steps, start, end)
    check_positive("root", root)
    if steps == 1:
        return np.array([start, 0.0])
    at = inside(process, start, end)
    first, last = (at.sigma / at.alpha) ** (1 / root)
    ratios = np.linspace(first, last, steps) ** root
    return np.concatenate([[start], process.time_of(-np.log(ratios[1:-1])), [end], [0.0]])
