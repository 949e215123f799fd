"""Times at quantiles of a beta distribution: more of them early and late."""

from typing import Any

import numpy as np
from scipy import stats

from variate.checks import check_positive

from ..processes.base import Process
from .base import checked


def beta(
    process: Process | Any,
    steps: int,
    start: float | None = None,
    end: float | None = None,
    a: float = 0.6,
    b: float = 0.6,
) -> np.ndarray:
    r"""`steps` + 1 times $e + (s - e)\, F^{-1}(1 - i / n)$, with F the distribution function of $\mathrm{Beta}(a, b)$.

    With $a = b = 1$ they are at equal distances. With both below one they are denser near the start s and the end e,
    where images gain their outlines and their details.

    Args:
        process: how noise takes over.
        steps: between the times.
        start: the first time; the process's horizon by default.
        end: the last time; the process's cutoff by default.
        a: the smaller, the denser near the end.
        b: the smaller, the denser near the start.

    Raises:
        TypeError: a process that is none, or augmented, whose variables have no one signal and noise.
        ValueError: times outside the process, no steps, a or b not positive.

    Source: Lee, Lee, Gye and Kim (2024), Beta sampling is all you need: efficient image generation strategy for
    diffusion models using stepwise spectral analysis, section 3.
    """
    steps, start, end = checked(process, steps, start, end)
    check_positive("a", a)
    check_positive("b", b)
    shares = np.linspace(1.0, 0.0, steps + 1)
    return end + (start - end) * stats.beta.ppf(shares, a, b)
