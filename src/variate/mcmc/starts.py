"""Where chains start: at one place, each at a place of its own, or where a function of a key says."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Key, PyTree

from variate import checks
from variate.compiling import sooner
from variate.protocols import Target
from variate.running import memory
from variate.running.steps import BLOCK


class Starts(eqx.Module):
    """A start for each chain, `vt.sample(key, target, vt.mcmc.Starts(values))`.

    `values`: what the target calls a draw, with a leading axis of chains (of an ensemble sampler, of ensembles).
    Starts that are spread wider than the target are the better test of convergence: chains that were all put in one
    place agree on what they have not left.

    Raises:
        TypeError: there is no array among the values.
        ValueError: arrays without a leading axis, or with axes of different lengths.
    """

    values: PyTree[Array]

    def __init__(self, values: PyTree):
        self.values = jax.tree.map(jnp.asarray, values)
        shapes = {x.shape[:1] for x in jax.tree.leaves(self.values)}
        if not shapes:
            raise TypeError(f"values must be arrays with a leading axis of chains, got {checks.describe(values)}")
        if len(shapes) > 1 or () in shapes:
            given = jax.tree.map(jnp.shape, self.values)
            raise ValueError(f"values must have one leading axis of chains, got arrays of the shapes {given}")

    @property
    def first(self) -> PyTree[Array]:
        return jax.tree.map(lambda x: x[0], self.values)

    def checked(self, chains: int) -> "Starts":
        """Raise ValueError unless there is one for each of so many chains."""
        count = len(jax.tree.leaves(self.values)[0])
        if count != chains:
            raise ValueError(f"start: Starts must have a leading axis of num_chains={chains}, got one of {count}")
        return self


def each(start: Any, key: Key[Array, ""], chains: int) -> Any:
    """`Starts`, one value for all, or None: with a function of a key called for each of so many chains."""
    # A tree that holds arrays and can be called as well, an affine map say, is a value.
    if callable(start) and jax.tree_util.all_leaves([start]):
        start = Starts(jax.vmap(start)(jax.random.split(key, chains)))
    return start.checked(chains) if isinstance(start, Starts) else start


def positions_of(target: Target, start: Any, key: Key[Array, ""], chains: int) -> PyTree[Array]:
    """With a leading axis of chains, given what `each` says. Raises MemoryError where there is no room for so many."""
    shapes = jax.tree.leaves(_like(target, start, key))
    numbers = sum(x.size for x in shapes)
    memory.check_block(chains, BLOCK, numbers, max((x.dtype.itemsize for x in shapes), default=1))
    if start is None:
        return _anywhere(target, key, chains)
    if isinstance(start, Starts):
        found = jax.vmap(target.unconstrain)(start.values)
        # Under `vmap` no target says what is outside of a support, from which the way back may lead somewhere else.
        density = jax.vmap(log_prob)(start.values) if (log_prob := getattr(target, "log_prob", None)) else 0.0
        if not np.all(np.isfinite(density)):
            raise ValueError(f"start must have a finite log density in every chain, got {density}")
        return found
    one = target.unconstrain(jax.tree.map(jnp.asarray, start))
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (chains, *jnp.shape(x))), one)


def flat(positions: PyTree[Array]) -> jax.ShapeDtypeStruct:
    """What the numbers of one chain are in a row."""
    return jax.eval_shape(lambda each: ravel_pytree(jax.tree.map(lambda x: x[0], each))[0], positions)


def again(target: Target, start: Any, key: Key[Array, ""], chains: int) -> Callable[[int], PyTree[Array]] | None:
    """Other random places for chains, at the n-th attempt; none where it was said where they start."""
    if start is not None:
        return None

    def places(attempt: int) -> PyTree[Array]:
        # Splitting the key that chains had folds in what is below their number, and a path of Pathfinder the number.
        return _anywhere(target, jax.random.fold_in(jax.random.clone(key), chains + 1 + attempt), chains)

    return places


@sooner(eqx.filter_jit, once=True)
def _anywhere(target: Target, key: Key[Array, ""], chains: int) -> PyTree[Array]:
    return jax.vmap(target.start)(jax.random.split(key, chains))


def _like(target: Target, start: Any, key: Key[Array, ""]) -> PyTree:
    """The shapes of a position."""
    if start is None:
        return jax.eval_shape(target.start, key)
    one = start.first if isinstance(start, Starts) else jax.tree.map(jnp.asarray, start)
    return jax.eval_shape(target.unconstrain, one)
