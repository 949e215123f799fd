"""A schedule for a solver and a model: the times with which the solver ends where fine runs do."""

from typing import Any

import numpy as np
from jaxtyping import Array, Key

from variate.checks import check_key, describe

from ..denoisers.base import Denoiser, check_model
from ..plans import plan_for
from ..sampling import check_shape
from ..schedules.base import check_times
from ..solvers.base import Solver
from .base import Learned
from .descent import descended
from .trajectories import check_repeats, missed, trajectories


def fit_schedule(
    key: Key[Array, ""],
    model: Denoiser | Any,
    solver: Solver | Any,
    times: Any,
    shape: tuple[int, ...] | Any,
    *,
    forgiven: float | Any = 3.0,
) -> np.ndarray:
    r"""Times with the same first and last one, between which a solver ends nearest to the exact ends of the flow.

    It minimizes, over the logarithms of the ratios $t_{i + 1} / t_i$ of neighbouring times, what `fit` does over the
    coefficients as well: the misses of some trajectories, where the few that end in another mode are forgiven.

    Choose it where the solver is to stay what it is; `fit` comes nearer. The wrong choice for one that draws noise.

    Args:
        key: of the trajectories.
        model: what is drawn from.
        solver: that the times are for.
        times: to start from.
        shape: of the trajectories; the first axis counts them, 128 say.
        forgiven: as for `fit`.

    Returns:
        The times, falling; those that were given where no better ones are found on these trajectories.

    Raises:
        TypeError, ValueError: an argument that is none of the above, a solver that draws noise, or a model with draws
            that are not finite.

    Source: the aim is that of Sabour, Fidler and Kreis (2024), Align your steps: optimizing sampling schedules in
    diffusion models, ICML, section 3, by the ends of runs in place of a bound on how far laws of paths differ.
    """
    check_key(key)
    check_model("model", model)
    _, event = check_shape(shape)
    times = check_times(times, model.process)
    plan = plan_for(model, solver, times, event)
    if isinstance(solver, Learned):
        raise TypeError(
            f"solver must be one for any times, DPMSolverPP() say, got {describe(solver)}, which has its own"
        )
    ends = trajectories(key, model, times, shape)
    check_repeats(model, plan, ends)
    positive = times[times > 0]
    span = np.log(positive[0] / positive[-1])

    def timed(logs: np.ndarray) -> np.ndarray:
        steps = np.exp(logs)
        if times[-1] > 0:
            steps = steps * span / steps.sum()
        inner = times[0] * np.exp(-np.cumsum(steps))
        return np.concatenate([times[:1], inner[:-1], times[-1:]] if times[-1] > 0 else [times[:1], inner, times[-1:]])

    def misses(logs: np.ndarray) -> Array:
        return missed(model, solver.plan(model.process, timed(logs)), ends)

    logs = np.log(-np.diff(np.log(positive)))
    found = descended(misses, logs, forgiven, ends.end.dtype) if len(logs) else logs
    return times if found is logs else timed(found)
