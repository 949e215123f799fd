"""Blocks of runs and what becomes of them: in one loop on the device, or in pieces that are merged in their order."""

import abc
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from .estimate import Estimate
from .sampling import Invalid
from .weights import Watch


class State(NamedTuple):
    """Of some blocks: their fold, how many runs of sets were not finite, draws with parameters out of range, tails."""

    fold: Any
    nonfinite: Int[Array, ""]
    invalid: Invalid
    watch: Watch | None


class Folded(NamedTuple):
    """What sampling ends with: `off` is by how much controls have another mean than was stated."""

    found: Estimate
    invalid: Invalid
    off: Array
    watch: Watch | None


class Blocks(abc.ABC):
    """Blocks of a sampling, wherever they are run."""

    count: int
    runs: int  # of one
    empty: State
    looking: bool  # whether a rule says when there are enough

    @abc.abstractmethod
    def add(self, index: Array, state: State) -> State:
        """With the block of this index."""

    @abc.abstractmethod
    def join(self, one: Any, other: Any) -> Any:
        """Of two folds."""

    @abc.abstractmethod
    def enough(self, done: Any, state: State) -> Bool[Array, ""]:
        """Whether sampling may end after so many blocks, or has to: no later run mends what is not finite."""

    @abc.abstractmethod
    def read(self, done: Any, state: State) -> Folded:
        """What so many blocks come to; their number is Python's unless a rule found it."""

    def merge(self, one: State, other: State) -> State:
        """Of both, of which `one` came first."""
        met = {site: times + other.invalid[site] for site, times in one.invalid.items()}
        watch = None if one.watch is None or other.watch is None else one.watch.merge(other.watch)
        return State(self.join(one.fold, other.fold), one.nonfinite + other.nonfinite, met, watch)

    def piece(self, first: Any, size: int, center: list[Array]) -> State:
        """The blocks from this index on, `size` of them if there are as many."""
        watch = self.empty.watch and dataclasses.replace(self.empty.watch, center=center)
        last = jnp.minimum(first + size, self.count)
        return jax.lax.fori_loop(first, last, self.add, self.empty._replace(watch=watch))

    def center(self) -> list[Array]:
        """From where the tails of all pieces are measured."""
        watch = self.add(jnp.zeros((), int), self.empty).watch
        return [] if watch is None else watch.center

    def all(self) -> Folded:
        """As many blocks as there are, or as it takes, in one loop."""
        if not self.looking:
            state = jax.lax.fori_loop(0, self.count, self.add, self.empty)
            return self.read(self.count, jax.lax.optimization_barrier(state))

        def go_on(carry: tuple[Array, State]) -> Array:
            return (carry[0] < self.count) & ((carry[0] == 0) | ~self.enough(*carry))

        start = (jnp.zeros((), int), self.empty)
        done, state = jax.lax.while_loop(go_on, lambda carry: (carry[0] + 1, self.add(*carry)), start)
        return self.read(done, jax.lax.optimization_barrier(state))
