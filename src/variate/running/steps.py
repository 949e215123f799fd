"""Compiled blocks of steps of several chains: all of them, those on a device, or one group of them."""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key, PyTree

from variate.compiling import sooner
from variate.programs import generator
from variate.programs.one_kernel import mapped
from variate.protocols import Move, Steps

from .chain_file import Block
from .devices import Shared
from .keeping import thinned

BLOCK = 25  # steps: what an interrupt may cost, and the shortest window of a warm-up


@dataclasses.dataclass(frozen=True, eq=False)
class Flat:
    """The log density of a target, of its positions as vectors; a function like others, whatever it holds.

    One that is infinite is no number, as a kernel may go there and never leave. It has the type of the positions, since
    what data of another type make of it would be none that a loop can hold.
    """

    target: Any
    like: Any  # a position

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        found = self.target.log_density(ravel_pytree(self.like)[1](x))
        return jnp.where(found == jnp.inf, jnp.nan, found).astype(x.dtype)


class Group(eqx.Module):
    """Some of the chains, one after another: what `Shared` is for a device, for whoever has these alone."""

    first: Int[Array, ""]
    chains: int = eqx.field(static=True)  # in all

    def keys(self, key: Key[Array, ""], count: int) -> Key[Array, " chains"]:
        """Of the keys of all chains those of the chains that are here."""
        return lax.dynamic_slice_in_dim(jax.random.split(key, self.chains), self.first, count)

    def all_of(self, count: int) -> int:
        """How many chains there are in all, `count` of them here."""
        return self.chains

    def together(self, tree: Any) -> Any:
        """These alone: a kernel has learned what it can."""
        return tree

    def map(self, f: Any, numbers: PyTree[Array], at: "At", state: PyTree[Array]) -> Any:
        return f(numbers, at, state)


class At(NamedTuple):
    """A block of a run: the key of all, and how many were before it."""

    key: Key[Array, ""]
    blocks: Int[Array | np.ndarray, ""]


@sooner(eqx.filter_jit, once=True)
def begun(target: Any, like: Any, tuned: Any, key: Key[Array, ""], positions: PyTree[Array]) -> Any:
    """Where chains are in the beginning."""
    kernel, places = tuned.kernel(Flat(target, like)), jax.vmap(lambda tree: ravel_pytree(tree)[0])(positions)
    return jax.vmap(kernel.init)(jax.random.split(key, len(places)), places)


@sooner(eqx.filter_jit)
def block(
    target: Any, like: Any, tuned: Any, at: At, state: Any, thin: int, shared: Shared | Group
) -> tuple[Any, Any, Any, Steps]:
    """The kernel, where chains are, values and steps, after a block of `thin` steps for each that is kept."""
    fixed = eqx.partition((target, like, tuned), eqx.is_array)

    def steps_of_some(numbers: Any, at: At, state: Any) -> tuple[Any, Any, Block]:
        target, like, tuned = eqx.combine(numbers, fixed[1])
        log_density, unravel = Flat(target, like), ravel_pytree(like)[1]
        numbers, rest = eqx.partition(tuned, eqx.is_array)

        def once(at: tuple[Any, Any], key: Key[Array, ""]) -> tuple[tuple[Any, Any], Steps]:
            numbers, state = at
            tuned = eqx.combine(numbers, rest)
            kernel = tuned.kernel(log_density)
            keys = shared.keys(key, len(state.position))
            after, info = mapped(kernel.step, shared.all_of(len(state.position)))(keys, state)
            numbers = eqx.filter(tuned.learned(shared.together(Move(state, after, info))), eqx.is_array)
            steps = Steps(after.position, getattr(after, "gradient", None), info)
            return (numbers, after), each_walker(steps) if after.position.ndim > 2 else steps

        keys = jax.random.split(generator.flat(jax.random.fold_in(*at)), BLOCK * thin)
        (numbers, state), steps = lax.scan(once, (numbers, state), keys)
        steps = thinned(steps, thin)
        values = jax.vmap(jax.vmap(lambda x: target.constrain(unravel(x))))(steps.position)
        return numbers, state, (values, steps)

    numbers, state, found = shared.map(steps_of_some, fixed[0], at, state)
    return eqx.combine(numbers, eqx.filter(tuned, eqx.is_array, inverse=True)), state, *found


def each_walker(steps: Any) -> Any:
    """Walkers of ensembles as chains, those of an ensemble one after another."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps)
