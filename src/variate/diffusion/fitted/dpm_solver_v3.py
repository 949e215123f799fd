"""DPM-Solver-v3: an exponential integrator whose linear part is the model's own, coordinate by coordinate."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from scipy.interpolate import CubicSpline

from variate.checks import check_key, check_positive_int
from variate.closures import fresh_jit

from ..denoisers.base import Denoiser, check_model
from ..loop import cast
from ..processes.base import Level, Process, exact_levels, exact_slopes
from ..sampling import check_shape
from ..schedules.base import check_times
from ..solvers.base import Coefficient, Stage, State, Terms, half_log_snr, noise
from ..solvers.exponential.multistep import Step, multistep
from ..solvers.exponential.weights import MASSES, lagrange, points
from .base import Learned, Tables, Told, probed
from .trajectories import paths

EVERY = 4  # of the points of fine trajectories is one at which statistics are taken


class Statistics(NamedTuple):
    """What a model is like at some levels of noise: one number for each level and coordinate."""

    half_log_snr: np.ndarray  # the levels, rising
    linear: np.ndarray  # l
    rest: np.ndarray  # 1 - l, by itself, since l is nearly one where there is much noise
    growth: np.ndarray  # s
    mean: np.ndarray  # of f


class DPMSolverV3(Learned):
    r"""Of $y = x / \alpha$, whose flow is $y' = -l y - f$ in $\lambda$ with $f = e^{-\lambda} \epsilon - l y$.

    $y_t = e^{L_s - L_t} y_s - \int_s^t e^{L_\lambda - L_t} f\, d\lambda$ with $L' = l$, and $f - E f = e^{S} g$ with
    $S' = s$, where g is the polynomial in $\lambda$ through as many of its values as `order`, the newest at s. For each
    coordinate and level l is the slope of $e^{-\lambda} \epsilon$ in y, on average, and s the regression of $f'$ on f:
    what is left in g is what is neither linear in the point nor grows in a known way. A step is made once more when the
    prediction at its end is there, as in `UniPC`; and steps look back less at the start and at the end.

    Made by `fit_dpm_solver_v3`, and good for all times between those that it was made for. On normal data with
    independent coordinates it is exact at every step.

    Raises:
        ValueError: times beyond those that the statistics are of, or another model.

    Source: Zheng, Lu, Chen and Zhu (2023), DPM-Solver-v3: improved diffusion ODE solver with empirical model
    statistics, NeurIPS 36, section 3. Their b is $(E f)' - s E f$, and is not needed where the mean of f is known.
    Statistics are interpolated by cubic splines here, and a corrector goes through one point more than theirs.
    """

    statistics: Statistics
    times: tuple[float, ...] = eqx.field(static=True)  # the first that it may be used with, one half-way, and the last
    probe: tuple[float, ...] = eqx.field(static=True)  # what the model says of a point, to know it by
    order: int = eqx.field(static=True, default=2)

    def plan(self, process: Process, times: np.ndarray) -> Stage:
        at = exact_levels(process, times)
        if times[0] > self.times[0] * (1 + 1e-9) or (times[-1] < self.times[-1] * (1 - 1e-9) and at.sigma[-1] > 0):
            raise ValueError(f"times must lie between those of the statistics, {self.times}, got {times}")
        grid, *columns = self.statistics
        linear, rest, growth, mean = (CubicSpline(grid, column) for column in columns)
        total, grown = linear.antiderivative(), growth.antiderivative()

        def parts(s: Level, t: Level) -> tuple[Step, Any]:
            """A step, and the shift that comes with it."""
            start, end = half_log_snr(s), half_log_snr(t)
            if math.isinf(end):  # to the data, which are (1 - l) y - f
                carry = t.alpha * rest(start) / s.alpha
                return Step(carry, lambda levels: -t.alpha * np.ones_like(mean(grid[:1]))), -t.alpha * mean(start)
            looked = points(start, end)
            mass = np.reshape((end - start) * MASSES, (-1, *[1] * (mean.c.ndim - 2)))
            decay = -t.alpha * mass * np.exp(total(looked) - total(end))
            inside = decay * np.exp(grown(looked) - grown(start))

            def weigh(levels: Sequence[Level]) -> np.ndarray:
                nodes = [half_log_snr(level) for level in levels]
                return np.exp(grown(start) - grown(nodes)) * np.tensordot(lagrange(nodes, looked), inside, 1)

            carry = t.alpha / s.alpha * np.exp(total(start) - total(end))
            return Step(carry, weigh), np.sum(decay * mean(looked), axis=0)

        shifts = []

        def step(s: Level, t: Level) -> Step:
            made, shift = parts(s, t)
            shifts.append(shift)
            return made

        made = multistep(process, times, noise, self.order, step, corrector=self.order + 1)
        asked = [half_log_snr(Level(*level)) for level in zip(*made.level, strict=True)]
        of_noise = rest(asked) * np.reshape(np.exp(np.negative(asked)), (-1, *[1] * (mean.c.ndim - 2)))
        return Centred(made.level, made.x, of_noise, linear(asked), mean(asked), np.stack(shifts), made.depth)

    def _written(self) -> tuple[Told, Tables]:
        told = {"times": self.times, "probe": self.probe, "order": self.order}
        return told, self.statistics._asdict()

    @classmethod
    def _read(cls, told: Told, tables: Tables) -> "DPMSolverV3":
        statistics = Statistics(*(tables[name] for name in Statistics._fields))
        times, probe = tuple(told["times"]), tuple(told["probe"])
        return cls(statistics=statistics, times=times, probe=probe, order=told["order"])


class Centred(Stage):
    """One step by what is left of a prediction, its linear part and its mean taken off."""

    level: Level
    x: Terms
    of_noise: Coefficient
    of_data: Coefficient
    mean: Coefficient
    shift: Coefficient  # what the mean adds to a step
    depth: int = eqx.field(static=True)

    def init(self, x: Float[Array, "..."]) -> State:
        return State(x, None, (jnp.zeros_like(x),) * self.depth)

    def step(self, key: Key[Array, ""], model: Denoiser, state: State) -> State:
        found = model.predict(state.x, self.level)
        # f in terms of both: as a difference of noise and point, nothing would be left of it where there is much noise.
        left = self.of_noise * found.noise - self.of_data * found.data - self.mean
        state = state._replace(history=(left, *state.history)[: self.depth])
        return State(self.x.of(state, None) + self.shift, None, state.history)


def fit_dpm_solver_v3(
    key: Key[Array, ""],
    model: Denoiser | Any,
    times: Any,
    shape: tuple[int, ...] | Any,
    *,
    order: int | Any = 2,
) -> DPMSolverV3:
    r"""`DPMSolverV3` with the statistics of a model, along fine trajectories of its own.

    At a hundred levels, l is estimated by products of a Jacobian with random signs, one of them for each trajectory,
    and s by the derivative of predictions along the flow. It costs about as much as 1000 evaluations of the model for
    each trajectory, and is for this model, with any number of steps.

    Choose it where one model is drawn from with several schedules; for one schedule `fit` comes nearer. The wrong
    choice for a model that cannot be differentiated.

    Args:
        key: of the trajectories.
        model: what is drawn from.
        times: between the first and last of which the statistics are taken.
        shape: of the trajectories; the first axis counts them, 256 say.
        order: how many predictions a step looks back on, up to 3.

    Raises:
        TypeError, ValueError: an argument that is none of the above, or a model with draws that are not finite.

    Source: Zheng, Lu, Chen and Zhu (2023), section 3 and appendix C.
    """
    check_key(key)
    check_model("model", model)
    _, event = check_shape(shape)
    order, times = check_positive_int("order", order, 3), check_times(times, model.process)
    key_paths, key_signs = jax.random.split(key)
    at, path = paths(key_paths, model, times, shape)
    chosen = np.unique(np.append(np.arange(0, len(at), EVERY), len(at) - 1))
    signs = jax.random.rademacher(key_signs, shape, path.dtype)
    statistics = _statistics(model, at[chosen], jnp.moveaxis(path[:, chosen], 1, 0), signs)
    span = float(times[0]), float(at[len(at) // 2]), float(times[-1] if times[-1] > 0 else at[-1])
    probe = tuple(probed(model, span, event).tolist())
    return DPMSolverV3(statistics=statistics, times=span, probe=probe, order=order)


def _statistics(
    model: Denoiser, times: np.ndarray, points: Float[Array, "times n ..."], signs: Float[Array, "n ..."]
) -> Statistics:
    level, slope = exact_levels(model.process, times), exact_slopes(model.process, times)
    speed = slope.alpha / level.alpha - slope.sigma / level.sigma  # of lambda in time
    change = Level(1 / speed, slope.alpha / speed, slope.sigma / speed)
    found = _moments(model, cast((level, change), points.dtype), points, signs)
    rest, linear, mean, size, variance, with_slope, with_y = (np.asarray(x, np.float64) for x in found)
    grid = np.log(level.alpha) - np.log(level.sigma)
    # Where f is the same for all trajectories but for rounding, as for normal data, its growth is of no account.
    floor = variance + float(jnp.finfo(points.dtype).eps) * size
    covariance = with_slope - _slope(grid, linear, rest) * with_y
    growth = np.divide(covariance, floor, out=np.zeros_like(floor), where=floor > 0)
    return Statistics(grid, linear, rest, growth, mean)


@fresh_jit
def _moments(
    model: Denoiser, levels: tuple[Level, Level], points: Float[Array, "times n ..."], signs: Float[Array, "n ..."]
) -> tuple[Float[Array, "times ..."], ...]:
    """1 - l, l, the mean, size and variance of f, and its covariances: with its slope but for l' y, and with y."""

    def at(rows: tuple[Level, Level, Float[Array, "n ..."]]) -> tuple[Array, ...]:
        level, change, x = rows
        ratio = level.sigma / level.alpha

        def one(x: Float[Array, "..."], sign: Float[Array, "..."]) -> tuple[Array, ...]:
            found, push = jax.linearize(model.predict, x, level)
            jacobian = push(sign, jax.tree.map(jnp.zeros_like, level))
            along = push(change.alpha / level.alpha * x - level.sigma * found.noise, change)
            ends = level.alpha * sign * jacobian.data, level.sigma * sign * jacobian.noise
            return *ends, ratio * found.noise, found.data, ratio * (along.noise - found.noise), along.data

        rest, linear, noise, data, noise_slope, data_slope = jax.vmap(one)(x, signs)
        rest, linear = jnp.mean(rest, axis=0), jnp.mean(linear, axis=0)
        pulled, kept = (one * rows for one, rows in ((rest[None], noise), (linear[None], data)))
        f, slope = pulled - kept, rest[None] * noise_slope - linear[None] * data_slope
        mean, size = jnp.mean(f, axis=0), jnp.mean(pulled**2 + kept**2, axis=0)
        with_f = [jnp.mean((f - mean[None]) * (rows - jnp.mean(rows, axis=0)[None]), axis=0) for rows in (f, slope, x)]
        return rest, linear, mean, size, *with_f[:2], with_f[2] / level.alpha

    return jax.lax.map(at, (*levels, points))


def _slope(grid: np.ndarray, linear: np.ndarray, rest: np.ndarray) -> np.ndarray:
    r"""l', through the nearly constant of $e^{2 \lambda} l$ and $e^{-2 \lambda} (1 - l)$: f is little beside l' y."""
    ratio = np.reshape(np.exp(2 * grid), (-1, *[1] * (linear.ndim - 1)))
    early = -2 * rest - ratio * CubicSpline(grid, rest / ratio)(grid, 1)
    late = -2 * linear + CubicSpline(grid, ratio * linear)(grid, 1) / ratio
    return np.where(np.abs(rest) < np.abs(linear), early, late)
