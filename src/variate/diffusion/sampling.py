"""The one loop that draws from a model: noise at first, a solver's stages one after another, and what came of it."""

from dataclasses import dataclass
from functools import partial
from typing import Any

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

from .checks import check_points
from .denoisers.base import Model, check_model
from .loop import Drawn, Sizes, drawn
from .plans import Ready, check_begins, planned
from .solvers.base import Solver


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("values", "finite", "trajectory"),
    meta_fields=("times", "failed", "wanted"),
)
@dataclass(frozen=True, repr=False)
class Samples:
    """Draws of a model, and how the run that made them went."""

    values: Float[Array, "n ..."]
    finite: Bool[Array, " n"]  # which draws are numbers throughout
    trajectory: Float[Array, "n times ..."] | None  # where the model was asked, and at last the draws
    times: tuple[float, ...]  # at which the model was asked
    # After which evaluation each draw was no number, -1 where it is one; None if all are, or inside `jit`.
    failed: tuple[int, ...] | None
    wanted: int  # draws; there are fewer where the run was interrupted

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
    whole = isinstance(shape, tuple) and all(isinstance(n, int | np.integer) and type(n) is not bool for n in shape)
    if not (whole and shape and min(shape) >= 1):
        raise ValueError(f"shape must be a tuple of positive integers, the first of which counts draws, got {shape!r}")
    count, *event = map(int, shape)
    return count, tuple(event)


def check_dtype(dtype: Any) -> tuple[Any, Any]:
    """The precision of draws, and that of the runs that make them, which is single at least."""
    try:
        found = jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)
    except TypeError:
        found = None
    if found is None or not jnp.issubdtype(found, jnp.floating):
        raise TypeError(f"dtype must be one of real numbers, jax.numpy.bfloat16 say, got {dtype!r}")
    return found, found if jnp.finfo(found).bits >= 32 else np.dtype(np.float32)


def check_start(start: Any, shape: tuple[int, ...]) -> None:
    if start is None:
        return
    points = start if isinstance(start, Tracer) else check_points("start", start)
    if points.shape != shape:
        raise ValueError(f"start must be of the shape {shape} of the draws, got {describe(points)}")
    if isinstance(points, Tracer):  # its draws' status tells
        return
    points = np.asarray(points)
    if not np.isfinite(points).all():
        sound = np.isfinite(points).reshape(len(points), -1).all(axis=1)
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
            deviation $\sigma$ of that time, where the data are a tenth of the noise or less, or as much as at the
            horizon: later times need points to start from.
        batch: how many draws are made at once; all by default. Less memory, and no other draws.
        trajectory: keep where the model was asked.
        dtype: of the draws, and of what the model is given; JAX's own by default. Steps are added up in single
            precision at least.
        progress: whether to show how many batches are done, on the standard error stream. Ctrl-C keeps those.

    Raises:
        TypeError, ValueError: an argument that is none of the above, times that do not fall or make fewer evaluations
            than the solver's order, a solver that was made for another model, or a denoiser that does not return what
            it was given the shape of.
    """
    check_key(key)
    check_model("model", model, Model)
    count, event = check_shape(shape)
    batch = count if batch is None else min(check_positive_int("batch", batch), count)
    dtype, working = check_dtype(dtype)
    check_start(start, (count, *event))
    ready = planned(model, solver, times, event, working)
    check_begins(start, ready)
    sizes = Sizes(count, event, trajectory, dtype)
    start = start if start is None or isinstance(start, jax.Array) else jnp.asarray(start)
    if batch == count:
        parts = [drawn(key, start, model, ready, sizes)]
    else:
        parts = _in_parts(jax.random.split(key, count), start, model, ready, sizes, batch, progress)
    values, finite, path = parts[0] if len(parts) == 1 else jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    sound = isinstance(finite, Tracer) or np.asarray(finite).all()
    failed = None if sound else _broken_at(jax.random.clone(key), start, model, ready, sizes, np.asarray(finite))
    return Samples(values, finite, path, ready.asked, failed, count)


def _in_parts(
    keys: Key[Array, " n"], start: Any, model: Any, ready: Ready, sizes: Sizes, batch: int, progress: bool
) -> list[Drawn]:
    """As many as were made when it was interrupted."""
    pieces = [slice(low, low + batch) for low in range(0, sizes.count, batch)]
    shown = track(pieces, "drawing", console=Console(stderr=True), transient=True) if progress else pieces
    parts = []
    try:
        for rows in shown:
            some = keys[rows], None if start is None else start[rows]
            parts.append(jax.block_until_ready(drawn(*some, model, ready, sizes._replace(count=batch))))
    except KeyboardInterrupt:
        if not parts:
            raise
    return parts


def _broken_at(
    key: Key[Array, ""], start: Any, model: Any, ready: Ready, sizes: Sizes, finite: np.ndarray
) -> tuple[int, ...]:
    """After which evaluation each draw was no number, and -1 for those that are: a second look at those that failed."""
    bad = np.flatnonzero(~finite)
    some = jax.random.split(key, sizes.count)[bad], None if start is None else start[bad]
    path = np.asarray(drawn(*some, model, ready, sizes._replace(count=len(bad), trajectory=True)).trajectory)
    wrong = ~np.all(np.isfinite(path), axis=tuple(range(2, path.ndim)))
    # It was none after the last one, also where another program rounds so that it is one now.
    wrong[:, -1] = True
    first = dict(zip(bad.tolist(), np.maximum(np.argmax(wrong, axis=1) - 1, 0).tolist(), strict=True))
    return tuple(first.get(i, -1) for i in range(len(finite)))
