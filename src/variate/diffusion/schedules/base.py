"""What schedules share: the checks of their arguments."""

from typing import Any

import numpy as np

from variate.checks import check_number, check_positive_int, describe

from ..checks import check_untraced
from ..processes.augmented import AugmentedProcess
from ..processes.base import Level, Process, check_process, exact_levels


def checked(process: Process | Any, steps: Any, start: Any, end: Any) -> tuple[int, float, float]:
    """The number of steps, and the times between which they lead: the process's own where none is given."""
    check_process(process)
    steps = check_positive_int("steps", steps)
    start = process.horizon if start is None else check_number("start", start)
    end = process.cutoff if end is None else check_number("end", end)
    if not 0 <= end < start <= process.horizon:
        raise ValueError(
            f"start and end must be times with 0 <= end < start <= {process.horizon}, the horizon, "
            f"got {start} and {end}"
        )
    return steps, start, end


def inside(process: Process, start: float, end: float) -> Level:
    """The levels of two times between which the ratio of signal to noise is a number."""
    at = exact_levels(process, [start, end])
    if at.alpha[0] <= 0:
        raise ValueError(
            f"start must be a time at which some data are left, start={0.999 * start:.4g} say, got {start}"
        )
    if at.sigma[1] <= 0:
        raise ValueError(f"end must be a time at which there is noise, end={process.cutoff:.4g} say, got {end}")
    return at


def check_times(times: Any, process: Process | AugmentedProcess) -> np.ndarray:
    """Times as numbers in double precision; raises ValueError unless they fall, and lie within the process."""
    check_untraced("times", times)
    try:
        numbers = np.asarray(times, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"times must be a vector of numbers, got {describe(times)}") from None
    if numbers.ndim != 1 or len(numbers) < 2:
        raise ValueError(f"times must be a vector of two or more, got an array of shape {numbers.shape}")
    if not np.all(np.diff(numbers) < 0):
        raise ValueError(f"times must fall from noise to data, got {numbers}")
    if not (numbers[-1] >= 0 and numbers[0] <= process.horizon * (1 + 1e-12)):
        raise ValueError(f"times must lie between 0 and {process.horizon}, the horizon, got {numbers}")
    return numbers
