"""The one loop that draws from a model: noise at first, a solver's stages one after another, and what came of it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Key
from rich.console import Console
from rich.progress import track

from variate.checks import check_key, check_positive_int, describe
from variate.estimates import Estimate
from variate.estimates.moments import Moments

from .denoisers.base import Model, check_model
from .loop import begun_at, broken_at, cast, run
from .schedules.base import check_times
from .solvers.base import Particular, Solver, check_solver


class Samples(eqx.Module):
    """Draws of a model, and how the run that made them went."""

    values: Float[Array, "n ..."]
    finite: Bool[Array, " n"]  # which draws are numbers throughout
    trajectory: Float[Array, "n times ..."] | None  # where the model was asked, and at last the draws
    times: tuple[float, ...] = eqx.field(static=True)  # at which the model was asked
    # After which evaluation each draw was no number, -1 where it is one; None if all are, or inside `jit`.
    failed: tuple[int, ...] | None = eqx.field(static=True)
    wanted: int = eqx.field(static=True)  # draws; there are fewer where the run was interrupted

    @property
    def evaluations(self) -> int:
        """Of the model, for each draw."""
        return len(self.times)

    def expect(self, f: Any) -> Estimate:
        """The mean of f over what the solver draws; the error bar leaves out how far that is from the model's law."""
        return Moments.of_rows(jax.vmap(f)(self.values)).read()

    def __repr__(self) -> str:
        n, *event = self.values.shape
        lines = [f"{n:,} draws of shape {tuple(event)}, {self.evaluations} evaluations each"]
        if n < self.wanted:
            lines.append(f"interrupted: {self.wanted:,} were asked for")
        if self.failed is not None:
            bad = [index for index in self.failed if index >= 0]
            time = self.times[min(bad)]
            lines.append(f"{len(bad):,} are not finite: the first after evaluation {min(bad) + 1}, at time {time:.4g}")
        return "\n".join(lines)


def check_shape(shape: Any) -> tuple[int, tuple[int, ...]]:
    """The number of draws, and the shape of each."""
    if not (isinstance(shape, tuple) and shape and all(isinstance(n, int) and n >= 1 for n in shape)):
        raise ValueError(f"shape must be a tuple of positive integers, the first of which counts draws, got {shape!r}")
    return shape[0], shape[1:]


def check_start(start: Any, shape: tuple[int, ...]) -> None:
    if start is None:
        return
    if jnp.shape(start) != shape:
        raise ValueError(f"start must be of the shape {shape} of the draws, got {describe(start)}")
    if isinstance(start, Tracer):  # its draws' status tells
        return
    points = np.asarray(start)
    if not any(jnp.issubdtype(points.dtype, kind) for kind in (jnp.floating, jnp.integer)):
        raise TypeError(f"start must be real numbers, got {describe(points)}")
    if not np.all(sound := np.isfinite(points).reshape(len(points), -1).all(axis=1)):
        raise ValueError(
            f"start must be finite, got {np.sum(~sound)} points that are not, the first at index {np.argmin(sound)}"
        )


def sample(
    key: Key[Array, ""] | Any,
    model: Model | Any,
    solver: Solver | Any,
    times: Any,
    shape: tuple[int, ...] | Any,
    *,
    start: Float[Array, "n ..."] | Any = None,
    batch: int | Any = None,
    trajectory: bool = False,
    dtype: Any = None,
    progress: bool = False,
) -> Samples:
    r"""Draws of a model: noise of the first time, led to the last one by a solver.

    It is compiled once for a model, a solver, a number of times and a shape, and the draws do not depend on how they
    are split into batches. A draw that is no number is a status in the result, which names where that began.

    Args:
        key: of the noise at the start, and of what the solver puts in.
        model: a denoiser, `NoisePrediction(process, network)` say.
        solver: `DPMSolverPP()` say.
        times: falling, `uniform_log_snr(process, 10)` say.
        shape: of the draws; the first axis counts them.
        start: the points to start from at the first time, of this shape; by default normal with the standard
            deviation $\sigma$ of that time.
        batch: how many draws are made at once; all by default. Less memory, and no other draws.
        trajectory: keep where the model was asked.
        dtype: of the draws; JAX's own by default.
        progress: whether to show how many batches are done, on the standard error stream. Ctrl-C keeps those.

    Raises:
        TypeError, ValueError: an argument that is none of the above, times that do not fall, or a denoiser that does
            not return what it was given the shape of.
    """
    check_key(key)
    check_model("model", model, Model)
    check_solver("solver", solver)
    count, event = check_shape(shape)
    batch = count if batch is None else min(check_positive_int("batch", batch), count)
    dtype = jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)
    check_start(start, shape)
    times = check_times(times, model.process)
    if isinstance(solver, Particular):
        solver.check_model(model, event)
    exact = solver.plan(model.process, times)
    begun, plan = begun_at(key, model.process, times[0], count, start, dtype), cast(exact, dtype)
    pieces = [slice(low, low + batch) for low in range(0, count, batch)]
    shown = track(pieces, "drawing", console=Console(stderr=True), transient=True) if progress else pieces
    parts = []
    try:
        for rows in shown:
            parts.append(jax.block_until_ready(run(begun.part(rows), model, plan, event, trajectory)))
    except KeyboardInterrupt:
        if not parts:
            raise
    values, path = parts[0] if len(parts) == 1 else jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    finite = jnp.all(jnp.isfinite(values), axis=tuple(range(1, values.ndim)))
    sound = isinstance(finite, Tracer) or np.all(finite)
    failed = None if sound else broken_at(begun.part(slice(len(values))), model, plan, event, finite)
    return Samples(values, finite, path, tuple(map(float, exact.level.time)), failed, count)
