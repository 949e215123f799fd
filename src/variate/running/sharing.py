"""Chains in groups that are shared out to workers: a block of steps of a group is a piece, whoever does it."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from variate.protocols import Steps

from .base import Crew, Workers, numbers_of, state_of
from .chain_file import Reached
from .steps import At, Group, block


class Order(NamedTuple):
    """To take a group of chains through a block of steps, from where they are."""

    block: int
    first: int  # chain of the group
    numbers: list[np.ndarray]  # of the kernel, as it was tuned, and of where the chains are

    def __str__(self) -> str:
        return f"{self.block} of the chains from {self.first} on"


@dataclasses.dataclass(frozen=True)
class Chains:
    """What workers know of chains once and for all. Pickles where the target and the kernel do."""

    target: Any
    position: PyTree[Array]  # like all
    key: Key[Array, ""]
    begun: tuple[Any, Any]  # the kernel and a group of chains; orders have other numbers of them
    count: int  # of all chains
    thin: int

    @property
    def size(self) -> int:
        """Of a group."""
        return len(self.begun[1].position)

    def order(self, block: int, first: int, tuned: Any, state: Any) -> Order:
        return Order(block, first, numbers_of(eqx.filter((tuned, state), eqx.is_array)))

    def piece(self, order: Order) -> tuple[Any, Any, Any]:
        """Where the chains are after the block, its values, and what is told of its steps."""
        numbers, rest = eqx.partition(self.begun, eqx.is_array)
        tuned, state = eqx.combine(state_of(map(jnp.asarray, order.numbers), numbers), rest)
        at, group = At(self.key, np.asarray(order.block, np.uint32)), Group(jnp.asarray(order.first), self.count)
        _, state, values, steps = block(self.target, self.position, tuned, at, state, self.thin, group)
        return state, values, steps.info

    def like(self) -> Any:
        """The shapes of a piece."""
        return eqx.filter_eval_shape(self.piece, self.order(0, 0, *self.begun))


class Groups:
    """Groups of one size, so that all are steps of one program, each with its own chains in a row.

    Where they do not divide, the last group begins among the chains of the one before, and leaves those to it.
    """

    def __init__(self, crew: Crew, chains: Chains, last: int):
        self.crew, self.chains, self.last = crew, chains, last
        self.firsts = [min(first, chains.count - chains.size) for first in range(0, chains.count, chains.size)]
        self.under_way: list[Callable[[], Any]] = []

    def after(self, reached: Reached) -> tuple[Any, Any, Any, Steps]:
        """The kernel, where all chains are, values and steps of a block more."""
        number, tuned, found = reached.blocks, reached.tuned, []
        begun = self.under_way or [self._begin(number, x, tuned, self._group(x, reached.state)) for x in self.firsts]
        self.under_way = []
        for first, wait in zip(self.firsts, begun, strict=True):
            found.append(wait())
            if number + 1 < self.last:  # at once, whether the other groups are that far or not
                self.under_way.append(self._begin(number + 1, first, tuned, found[-1][0]))
        states, values, told = zip(*found, strict=True)
        state = jax.tree.map(jnp.asarray, self._joined(states, 0))
        return tuned, state, self._joined(values, 1), Steps(jnp.zeros(0), None, self._joined(told, 1))

    def _begin(self, number: int, first: int, tuned: Any, state: Any) -> Callable[[], Any]:
        return self.crew.submit(self.chains.order(number, first, tuned, state))

    def _group(self, first: int, state: Any) -> Any:
        return jax.tree.map(lambda x: x[first : first + self.chains.size], state)

    def _joined(self, groups: Sequence[Any], axis: int) -> Any:
        twice = len(groups) * self.chains.size - self.chains.count

        def joined(*parts: Any) -> np.ndarray:
            each = parts[-1].shape[axis] // self.chains.size  # walkers of an ensemble are in a row
            return np.concatenate([*parts[:-1], np.split(parts[-1], [twice * each], axis)[1]], axis)

        return jax.tree.map(joined, *groups)


@contextlib.contextmanager
def shared_out(workers: Workers, chains: Chains, last: int) -> Iterator[Groups]:
    """To workers who are there until it is closed, and do the blocks before the `last`."""
    with workers.open(chains) as crew:
        yield Groups(crew, chains, last)
