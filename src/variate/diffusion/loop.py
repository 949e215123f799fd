"""The loop that all draws go through: noise at first, then a solver's stages one after another."""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from variate.closures import Closed, closed_over, fresh_jit
from variate.programs import generator

from .denoisers.base import Model
from .denoisers.precision import in_precision
from .plans import Ready
from .processes.augmented import AugmentedProcess
from .processes.base import Process
from .solvers.base import Stage

Anyhow = Process | AugmentedProcess


class Begun(NamedTuple):
    """What draws start from."""

    keys: Key[Array, " n"]
    start: Float[Array, "n ..."] | None
    sigma: Float[Array, "..."]  # a number, or a root of the covariance of variables


def begun_with(
    key: Key[Array, ""],
    start: Float[Array, "..."] | None,
    process: Anyhow,
    sigma: Float[Array, "..."],
    event: tuple[int, ...],
) -> tuple[Float[Array, "..."], Key[Array, ""]]:
    """Where one draw starts, and the key of its steps."""
    key_start, key_steps = jax.random.split(generator.flat(key))
    if start is None:
        start = process.spread(sigma, jax.random.normal(key_start, event, sigma.dtype))
    return start, key_steps


def cast(plan: Any, dtype: Any) -> Any:
    """A plan in the precision of a run."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), plan)


class Sizes(NamedTuple):
    """What programs differ in, beside what they are of."""

    count: int  # of draws
    event: tuple[int, ...]
    trajectory: bool
    dtype: Any  # of the draws


class Drawn(NamedTuple):
    """What a program returns."""

    values: Float[Array, "n ..."]
    finite: Bool[Array, " n"]
    trajectory: Float[Array, "n times ..."] | None


class _Fixed(NamedTuple):
    """All that a program depends on but for arrays, which the leaves of the model are where these are None."""

    leaves: tuple[Any, ...]
    model: Any
    stages: Any
    sizes: Sizes
    closed: Closed  # what functions of the model read


def drawn(
    key: Key[Array, "..."], start: Float[Array, "n ..."] | None, model: Model, ready: Ready, sizes: Sizes
) -> Drawn:
    """Draws by one key, or by one for each."""
    leaves, tree = jax.tree.flatten(model)
    is_array = [isinstance(leaf, jax.Array | np.ndarray | np.generic) for leaf in leaves]
    fixed = tuple(None if varies else leaf for leaf, varies in zip(leaves, is_array, strict=True))
    arrays = list(itertools.compress(leaves, is_array))
    known = _Fixed(fixed, tree, ready.tree, sizes, closed_over(fixed))
    return _drawn(key, start, ready.sigma, arrays, ready.leaves, known)


# By `jax.jit` itself: what `eqx.filter_jit` does before it runs takes longer than this run with a cheap model.
@functools.partial(jax.jit, static_argnums=5)
def _drawn(key: Any, start: Any, sigma: Any, arrays: list[Any], leaves: tuple[Any, ...], fixed: _Fixed) -> Drawn:
    rest, sizes = iter(arrays), fixed.sizes
    model = jax.tree.unflatten(fixed.model, [next(rest) if leaf is None else leaf for leaf in fixed.leaves])
    stages = jax.tree.unflatten(fixed.stages, leaves)
    keys = jax.random.split(key, sizes.count) if key.ndim == 0 else key
    start = None if start is None else start.astype(sigma.dtype)
    if sizes.dtype != sigma.dtype:
        model = in_precision(model, sizes.dtype)
    found = run(Begun(keys, start, sigma), model, stages, sizes.event, sizes.trajectory)
    values, path = jax.tree.map(lambda x: x.astype(sizes.dtype), found)
    return Drawn(values, jnp.all(jnp.isfinite(values), axis=tuple(range(1, values.ndim))), path)


@fresh_jit
def run(
    begun: Begun, model: Model | Any, plan: Stage, event: tuple[int, ...], trajectory: bool
) -> tuple[Float[Array, "n ..."], Float[Array, "n times ..."] | None]:
    """The draws, and where the model was asked."""
    indices = jnp.arange(len(jax.tree.leaves(plan)[0]))

    def one(key: Key[Array, ""], start: Float[Array, "..."] | None) -> Any:
        start, key_steps = begun_with(key, start, model.process, begun.sigma, event)

        def body(state: Any, row: tuple[Stage, Int[Array, ""]]) -> tuple[Any, Any]:
            stage, index = row
            after = stage.step(jax.random.fold_in(key_steps, index), model, state)
            return after, state.x if trajectory else None

        state, path = jax.lax.scan(body, plan.init(start), (plan, indices))
        return state.x, None if path is None else jnp.concatenate([path, state.x[None]])

    return jax.vmap(one)(begun.keys, begun.start)
