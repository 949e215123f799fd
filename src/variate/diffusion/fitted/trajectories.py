"""What a fit is measured by: points of noise, and where the probability flow leads from them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ..denoisers.base import Denoiser
from ..loop import Begun, cast, run
from ..processes.base import Level, Process, exact_levels
from ..sampling import Samples, sample
from ..schedules.uniform import uniform_log_snr
from ..solvers import DPMSolverPP
from ..solvers.base import Stage

FINE = 500  # steps: for an error some hundred times smaller than that of the solvers that are fitted
LEAST_RATIO = 1e-4  # of the noise to the data, below which a denoiser is taken for constant


class Exact(NamedTuple):
    """Where runs start, where they should go and where they should end."""

    start: Float[Array, "n ..."]
    end: Float[Array, "n ..."]
    ratios: Float[Array, " fine"] | None = None  # log SNR, halved, of the points between
    between: Float[Array, "fine n ..."] | None = None  # in the units of the data, x / alpha

    def at(self, level: Level) -> Float[Array, "times n ..."]:
        """The points at some levels, on straight lines between the fine ones."""
        assert self.ratios is not None
        assert self.between is not None
        ratio = jnp.clip(jnp.log(level.alpha) - jnp.log(level.sigma), self.ratios[0], self.ratios[-1])
        after = jnp.clip(jnp.searchsorted(self.ratios, ratio), 1, len(self.ratios) - 1)
        part = (ratio - self.ratios[after - 1]) / (self.ratios[after] - self.ratios[after - 1])
        part, alpha = (x.reshape(-1, *[1] * self.end.ndim) for x in (part, level.alpha))
        return alpha * ((1 - part) * self.between[after - 1] + part * self.between[after])


def trajectories(
    key: Key[Array, ""], model: Denoiser, times: np.ndarray, shape: tuple[int, ...], along: bool = False
) -> Exact:
    """Of as many draws as `shape` says, between the first and the last of the times; `along`, with what is between."""
    start, found = _followed(key, model, times, shape, along)
    if not along:
        return Exact(start, found.values)
    at, points = _inside(model, times, found)
    level = exact_levels(model.process, at)
    points = jnp.moveaxis(points, 1, 0)
    between = points / jnp.asarray(level.alpha, points.dtype).reshape(-1, *[1] * len(shape))
    return Exact(start, found.values, jnp.asarray(np.log(level.alpha) - np.log(level.sigma), points.dtype), between)


def gone(
    model: Denoiser, plan: Stage, exact: Exact, kept: bool, seed: int = 0
) -> tuple[Float[Array, "n ..."], Float[Array, "n times ..."] | None]:
    """The ends of a plan's runs from the same points, and where the model was asked if that is kept."""
    count, *event = exact.end.shape
    dtype = exact.end.dtype
    begun = Begun(jax.random.split(jax.random.key(seed), count), exact.start, jnp.zeros((), dtype))
    return run(begun, model, cast(plan, dtype), tuple(event), kept)


def check_repeats(model: Denoiser, plan: Stage, exact: Exact) -> None:
    """Raise ValueError where runs from the same points differ, by noise that is put in on the way."""
    ends = (np.asarray(gone(model, plan, exact, False, seed)[0]) for seed in range(2))
    if not np.array_equal(*ends, equal_nan=True):
        raise ValueError("solver must not draw noise to be fitted: its ends would not be those of the probability flow")


def missed(model: Denoiser, plan: Stage, exact: Exact) -> Float[Array, "n ..."]:
    """How far from where they should the runs of a plan end that follow the flow."""
    return gone(model, plan, exact, False)[0] - exact.end


def paths(
    key: Key[Array, ""], model: Denoiser, times: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, Float[Array, "n times ..."]]:
    """Many times, and where trajectories are at them: from the first to the last, where there is signal and noise."""
    return _inside(model, times, _followed(key, model, times, shape, True)[1])


def quiet(process: Process) -> float:
    """The time below which there is so little noise that a denoiser is taken for constant."""
    return float(process.time_of(-np.log(LEAST_RATIO)))


def _inside(model: Denoiser, times: np.ndarray, found: Samples) -> tuple[np.ndarray, Float[Array, "n times ..."]]:
    at = np.asarray([*found.times, times[-1]])
    level = exact_levels(model.process, at)
    inside = (level.alpha > 0) & (level.sigma > 0)
    assert found.trajectory is not None
    return at[inside], found.trajectory[:, np.flatnonzero(inside)]


def _followed(
    key: Key[Array, ""], model: Denoiser, times: np.ndarray, shape: tuple[int, ...], kept: bool
) -> tuple[Float[Array, "n ..."], Samples]:
    key_start, key_run = jax.random.split(key)
    at = exact_levels(model.process, times[[0, -1]])
    start = at.sigma[0] * jax.random.normal(key_start, shape)
    # Where there is no signal, or no noise, steps of its logarithm begin or end just beside.
    first = times[0] if at.alpha[0] > 0 else times[0] * (1 - LEAST_RATIO)
    last = times[-1] if at.sigma[-1] > 0 else quiet(model.process)
    fine = uniform_log_snr(model.process, FINE, first, last)
    fine = np.concatenate([times[:1][times[:1] > first], fine, times[-1:][times[-1:] < last]])
    found = sample(key_run, model, DPMSolverPP(), fine, shape, start=start, trajectory=kept)
    if not bool(jnp.all(found.finite)):
        raise ValueError(f"model: it cannot be fitted to, for its draws are not all finite: {found!r}")
    return start, found
