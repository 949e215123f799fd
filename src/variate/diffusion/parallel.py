"""Draws in parallel in time: all steps of a window at once, again and again until they agree."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt

from variate.checks import check_key, check_number, check_positive_int, describe
from variate.closures import fresh_jit

from .denoisers.base import Denoiser, Model, check_model
from .denoisers.precision import in_precision
from .loop import Begun, begun_with
from .plans import check_begins, planned
from .sampling import check_dtype, check_shape, check_start
from .solvers.base import Linear, Solver
from .solvers.ddim import DDIM


class ParallelSamples(eqx.Module):
    """Draws, and how many rounds of evaluations each took."""

    values: Float[Array, "n ..."]
    finite: Bool[Array, " n"]  # which draws are numbers throughout
    rounds: Int[Array, " n"]  # one after another, each of `window` evaluations at once
    window: int = eqx.field(static=True)

    def __repr__(self) -> str:
        n, *event = self.values.shape
        rounds = int(jnp.max(self.rounds))
        return f"{n:,} draws of shape {tuple(event)}, in at most {rounds} rounds of {self.window} evaluations each"


def sample_parallel(
    key: Key[Array, ""] | Any,
    model: Denoiser | Any,
    solver: Solver | Any,
    times: Any,
    shape: tuple[int, ...],
    *,
    window: int,
    tolerance: float = 0.1,
    start: Float[Array, "n ..."] | Any = None,
    dtype: Any = None,
) -> ParallelSamples:
    r"""The draws of `sample` for the same key, found by Picard's iteration on a window of steps at once.

    A round asks the model at all points of the window, adds up the steps from there, and so makes new points: $x_j
    \leftarrow x_i + \sum_{k = i}^{j - 1} (S_k(x_k) - x_k)$, where $S_k$ is the solver's step with its noise. The window
    moves on to the first point that moved, root mean square over its coordinates, by more than `tolerance` times the
    noise that the process would put in there; the first step of a window is always right given where it starts. With a
    tolerance of 0 the draws are those of `sample`, up to rounding, and nothing is gained where rounding moves a point
    each time; otherwise they are off by about the tolerance. There are never more rounds than steps.

    Choose it for hundreds of short steps, where a device evaluates many points in the time of one. It makes more
    evaluations in all, so where they are what costs, the wrong choice; and with few steps there is nothing to overlap.

    Args:
        key: as for `sample`.
        model: a denoiser.
        solver: one that asks once a step and keeps nothing: `DDIM()`, `Ancestral()` or `Euler()`.
        times: falling.
        shape: of the draws; the first axis counts them.
        window: how many steps are taken at once.
        tolerance: in units of the noise of a step.
        start: the points to start from; noise by default.
        dtype: of the draws; JAX's own by default.

    Raises:
        TypeError, ValueError: as `sample`, a solver that keeps something from step to step, a tolerance below 0.

    Source: Shih, Belkhale, Ermon, Sadigh and Anari (2023), Parallel sampling of diffusion models, NeurIPS 36,
    algorithm 1.
    """
    check_key(key)
    check_model("model", model)
    count, event = check_shape(shape)
    check_start(start, shape)
    if check_number("tolerance", tolerance) < 0:
        raise ValueError(f"tolerance must not be negative, got {tolerance}")
    dtype, working = check_dtype(dtype)
    ready = planned(model, solver, times, event, working)
    check_begins(start, ready)
    plan, sigma, times = ready.stages(), ready.sigma, np.asarray(ready.times)
    if not isinstance(plan, Linear) or plan.anchor is not None or plan.depth > 1 or len(plan.level.time) >= len(times):
        raise ValueError(f"solver must ask once a step and keep nothing, as DDIM() does, got {describe(solver)}")
    window = min(check_positive_int("window", window), len(times) - 1)
    noise = DDIM(1.0).plan(model.process, times).x.noise
    allowed = tolerance * np.append(np.zeros(len(times) - 1) if noise is None else noise, 0.0)
    begun = Begun(jax.random.split(key, count), None if start is None else jnp.asarray(start, working), sigma)
    asked = model if dtype == working else in_precision(model, dtype)
    values, rounds = _run(begun, asked, plan, jnp.asarray(allowed, working), (window, event))
    values = values.astype(dtype)
    finite = jnp.all(jnp.isfinite(values), axis=tuple(range(1, values.ndim)))
    return ParallelSamples(values, finite, rounds, window)


@fresh_jit
def _run(
    begun: Begun, model: Model, plan: Linear, allowed: Array, sizes: tuple[int, tuple[int, ...]]
) -> tuple[Array, Array]:
    window, event = sizes

    def one(key: Key[Array, ""], start: Float[Array, "..."] | None) -> tuple[Array, Array]:
        start, key_steps = begun_with(key, start, model.process, begun.sigma, event)  # as `sample` has them
        return _picard(jax.random.key_data(key_steps), start, model, plan, allowed, window)

    return jax.vmap(one)(begun.keys, begun.start)


def _picard(
    seed: UInt[Array, "..."], start: Array, model: Model, plan: Linear, allowed: Array, window: int
) -> tuple[Array, Array]:
    """One draw, and its rounds. The seed is a key's: each step has the same noise in every round."""
    count = len(allowed) - 1

    def step(index: Array, x: Array) -> Array:
        stage = jax.tree.map(lambda leaf: leaf[index], plan)
        key = jax.random.fold_in(jax.random.wrap_key_data(seed), index)
        return stage.step(key, model, stage.init(x)).x

    def round_of(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        path, begin, rounds = state
        index = begin + jnp.arange(window)
        inside, index = index < count, jnp.minimum(index, count - 1)
        here, wide = path[index], (-1,) + (1,) * start.ndim
        moves = jnp.where(inside.reshape(wide), jax.vmap(step)(index, here) - here, jnp.zeros_like(here))
        new = path[begin][None] + jnp.cumsum(moves, axis=0)
        moved = jnp.sqrt(jnp.mean((new - path[index + 1]) ** 2, axis=tuple(range(1, new.ndim))))
        agreed = jnp.sum(jnp.cumprod((moved <= allowed[index + 1]) & inside))
        # What lies behind the window starts from its end.
        path = path.at[jnp.where(inside, index + 1, count + 1)].set(new, mode="drop")
        behind = (jnp.arange(count + 1) > begin + window).reshape(wide)
        return jnp.where(behind, new[-1][None], path), begin + jnp.minimum(1 + agreed, window), rounds + 1

    path = jnp.broadcast_to(start, (count + 1, *start.shape))
    state = (path, jnp.zeros((), int), jnp.zeros((), int))
    path, _, rounds = jax.lax.while_loop(lambda state: state[1] < count, round_of, state)
    return path[-1], rounds
