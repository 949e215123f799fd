"""DC-Solver: UniPC whose predictions are moved a little along the run, by ratios that are learned."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from variate.checks import check_key, describe

from ..denoisers.base import Denoiser, check_model
from ..plans import plan_for
from ..processes.base import Process
from ..sampling import check_shape
from ..schedules.base import check_times
from ..solvers.base import Linear, Terms, data, noise
from ..solvers.exponential.multistep import data_step, multistep, noise_step
from ..solvers.exponential.unipc import UniPC
from ..solvers.exponential.weights import lagrange
from .base import probed
from .coefficients import Fitted, errors_of
from .descent import descended
from .trajectories import missed, trajectories

BACK = 2  # predictions before the newest that a polynomial goes through


def fit_compensation(
    key: Key[Array, ""],
    model: Denoiser | Any,
    solver: UniPC | Any,
    times: Any,
    shape: tuple[int, ...] | Any,
    *,
    forgiven: float | Any = 3.0,
) -> Fitted:
    r"""`UniPC` with predictions that make up for being asked at a point that was corrected afterwards.

    The prediction $m_i$, asked at the predicted point of time $t_i$, is replaced for all that is made of it later by
    the polynomial in time through it and the two before, at $\rho_i t_i + (1 - \rho_i) t_{i - 1}$; the corrector of the
    step that leads to $t_i$ has it as it is. With every $\rho_i = 1$ that is UniPC. One number is learned for each
    evaluation after the first, by least squares as in `fit_schedule`, so ten trajectories are enough.

    Choose it where trajectories are dear; `fit` has more numbers, and comes nearer. A run keeps all of its predictions.

    Args:
        key: of the trajectories.
        model: what is drawn from.
        solver: to start from, `UniPC(3)` say.
        times: that it is fitted for.
        shape: of the trajectories; the first axis counts them, 16 say. As many again are kept apart for `after`.
        forgiven: as for `fit`.

    Returns:
        A solver for these times; `before` and `after` are its errors, on trajectories that it was not fitted to.
        Where it is nearer on them neither by rms nor by median it is what it started from; by one of them it may be
        worse, by rms above all, as the few draws that end in another mode are forgiven.

    Raises:
        TypeError, ValueError: an argument that is none of the above, or a model with draws that are not finite.

    Source: Zhao, Wang, Zhou and Lu (2024), DC-Solver: improving predictor-corrector diffusion sampler via dynamic
    compensation, ECCV. They learn one ratio after the other, by the distance from the trajectory at the next time; here
    it is all at once, by the ends. The second prediction is moved along a line, where theirs is not moved.
    """
    check_key(key)
    check_model("model", model)
    if not isinstance(solver, UniPC):
        raise TypeError(f"solver must be UniPC() of some order, got {describe(solver)}")
    _, event = check_shape(shape)
    times = check_times(times, model.process)
    plan_for(model, solver, times, event)
    key_fit, key_held = jax.random.split(key)
    ends, held = (trajectories(key, model, times, shape) for key in (key_fit, key_held))
    planned, ones = compensated(solver, model.process, times), np.ones(len(times) - 2)

    def misses(ratios: np.ndarray) -> Array:
        return missed(model, planned(ratios), ends)

    best = descended(misses, ones, forgiven, ends.end.dtype) if len(ones) else ones
    before, after = (errors_of(missed(model, planned(ratios), held)) for ratios in (ones, best))
    if after.rms >= before.rms and after.median >= before.median:
        best, after = ones, before
    probe = tuple(probed(model, times, event).tolist())
    return Fitted(stages=planned(best), times=tuple(times.tolist()), before=before, after=after, probe=probe)


def compensated(solver: UniPC, process: Process, times: np.ndarray) -> Callable[[Float[np.ndarray, " ratios"]], Linear]:
    """The plan of some ratios, of all evaluations but the first, in terms of what the model says."""
    kept, step = (noise, noise_step) if solver.of_noise else (data, data_step)
    plan, ahead = solver.plan(process, times), multistep(process, times, kept, solver.order, step(growth=solver.growth))
    count = len(plan.level.time)
    whole, first = _table(plan)[:, :count], _table(ahead)[:, 0]

    def planned(ratios: Float[np.ndarray, " ratios"]) -> Linear:
        moved, made = np.eye(count), np.zeros((count, count))  # of predictions: a row for each time, by their times
        for i in range(count):
            asked = np.eye(count)[i]
            if i:
                back = [j for j in range(i - 1, i - 1 - BACK, -1) if j >= 0]
                at = ratios[i - 1] * times[i] + (1 - ratios[i - 1]) * times[i - 1]
                weights = lagrange([times[j] for j in (i, *back)], np.array([at]))[:, 0]
                moved[i] = weights @ np.stack([asked, *moved[back]])
            made[i] = first[i] * moved[i] + (whole[i, 0] - first[i]) * asked
            made[i] += sum(whole[i, j] * moved[i - j] for j in range(1, min(i + 1, whole.shape[1])))
        by_age = [np.array([made[i, i - j] if i >= j else 0.0 for i in range(count)]) for j in range(count)]
        return Linear(plan.level, Terms(plan.x.x, tuple(by_age), None, None), None, kept, count)

    return planned


def _table(plan: Linear) -> Float[np.ndarray, "evaluations depth"]:
    zeros = np.zeros(len(plan.level.time))
    return np.stack([zeros if weights is None else np.asarray(weights) for weights in plan.x.history], axis=1)
