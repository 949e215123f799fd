"""What schedules share: the checks of their arguments."""

from typing import Any

import numpy as np
from jax.core import Tracer

from variate.checks import check_number, check_positive_int

from ..processes.augmented import AugmentedProcess
from ..processes.base import Process, check_process


def checked(process: Process, steps: Any, start: Any, end: Any) -> tuple[int, float, float]:
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


def check_times(times: Any, process: Process | AugmentedProcess) -> np.ndarray:
    """Times as numbers in double precision; raises ValueError unless they fall, and lie within the process."""
    check_untraced("times", times)
    numbers = np.asarray(times, np.float64)
    if numbers.ndim != 1 or len(numbers) < 2:
        raise ValueError(f"times must be a vector of two or more, got an array of shape {numbers.shape}")
    if not np.all(np.diff(numbers) < 0):
        raise ValueError(f"times must fall from noise to data, got {numbers}")
    if not (numbers[-1] >= 0 and numbers[0] <= process.horizon * (1 + 1e-12)):
        raise ValueError(f"times must lie between 0 and {process.horizon}, the horizon, got {numbers}")
    return numbers


def check_untraced(name: str, value: Any) -> None:
    """Raise TypeError if it is traced: coefficients are made of it in double precision, outside `jit`."""
    if isinstance(value, Tracer):
        raise TypeError(
            f"{name} must be numbers, which `jit`, `vmap` and `grad` may not trace: close over them instead"
        )
