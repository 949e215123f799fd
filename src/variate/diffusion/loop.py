"""The loop that all draws go through: noise at first, then a solver's stages one after another."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from variate.programs import generator

from .denoisers.base import Model
from .processes.augmented import AugmentedProcess
from .processes.base import Process
from .solvers.base import Stage

Anyhow = Process | AugmentedProcess


class Begun(NamedTuple):
    """What draws start from."""

    keys: Key[Array, " n"]
    start: Float[Array, "n ..."] | None
    sigma: Float[Array, "..."]  # a number, or a root of the covariance of variables

    def part(self, rows: Any) -> "Begun":
        return Begun(self.keys[rows], None if self.start is None else self.start[rows], self.sigma)


def begun_at(key: Key[Array, ""], process: Anyhow, time: float, count: int, start: Any, dtype: Any) -> Begun:
    """At a time, from given points or from noise as there is then."""
    sigma = jnp.asarray(process.sigma(jnp.asarray(time, dtype)), dtype)
    return Begun(jax.random.split(key, count), None if start is None else jnp.asarray(start, dtype), sigma)


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


def broken_at(begun: Begun, model: Model, plan: Stage, event: tuple[int, ...], finite: Any) -> tuple[int, ...]:
    """After which evaluation each draw was no number, and -1 for those that are: a second look at those that failed."""
    bad = np.flatnonzero(~np.asarray(finite))
    again = begun._replace(keys=jax.random.clone(begun.keys))
    path = np.asarray(run(again.part(bad), model, plan, event, True)[1])
    wrong = ~np.all(np.isfinite(path), axis=tuple(range(2, path.ndim)))
    # It was none after the last one, also where another program rounds so that it is one now.
    wrong[:, -1] = True
    first = dict(zip(bad.tolist(), np.maximum(np.argmax(wrong, axis=1) - 1, 0).tolist(), strict=True))
    return tuple(first.get(i, -1) for i in range(len(begun.keys)))


@eqx.filter_jit
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
