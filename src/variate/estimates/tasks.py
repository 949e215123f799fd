"""A sampling in pieces that any process can do, in any order: what `expect(runner=...)` hands over."""

import dataclasses
import functools
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from variate.programs.digests import digest, digest_of
from variate.trees import Static, join, split

from .blocks import Blocks, Folded, State
from .estimate import Estimate
from .folding import blocks_of
from .plan import Plan
from .sampling import sampler


class Job(NamedTuple):
    """What is to be sampled and how; static, so part of what compiled functions are cached under."""

    plan: Plan
    static: Static  # of the function and its arguments
    kinds: Static  # of the methods
    checked: bool  # whether parameters out of range are counted


class Task(NamedTuple):
    """A job with its numbers."""

    job: Job
    key: Key[Array, ""]
    numbers: list[Any]
    given: list[Any]

    def pieces(self, runs: int) -> "Pieces":
        """Of about so many runs each."""
        found: list[Blocks] = []
        jax.eval_shape(lambda *of: found.append(_blocks(self.job, *of)), *self[1:])
        center = _center(self.job, jax.random.clone(self.key), self.numbers, self.given)
        # A power of two, so that sets that grow are looked at between pieces.
        return Pieces(*self, center, found[0].count, 2 ** (max(runs // found[0].runs, 1).bit_length() - 1))


class Pieces(NamedTuple):
    """A task cut into pieces, each the same whoever does it. Pickles where the function does."""

    job: Job
    key: Key[Array, ""]
    numbers: list[Any]
    given: list[Any]
    center: list[Array]  # from where tails are measured
    blocks: int  # of all pieces
    size: int  # of a piece, in blocks

    @property
    def count(self) -> int:
        return -(-self.blocks // self.size)

    def piece(self, index: int | Array) -> State:
        return _piece(self.job, self.size, *self._inputs, self.center, jnp.asarray(index * self.size))

    def on(self, device: Any) -> "Pieces":
        """With its numbers on a device, which will do the pieces that are asked of it."""
        held = (self.key, self.numbers, self.given, self.center)
        key, numbers, given, center = jax.device_put(held, device)
        return self._replace(key=key, numbers=numbers, given=given, center=center)

    def like(self) -> State:
        """The shapes of a piece."""
        return jax.eval_shape(
            functools.partial(_piece, self.job, self.size), *self._inputs, self.center, jnp.asarray(0)
        )

    def merge(self, one: State, other: State) -> State:
        """Of consecutive pieces."""
        return _merge(self.job, *self._inputs, one, other)

    def enough(self, done: int, state: State) -> bool:
        """Whether the first `done` pieces are."""
        return self.job.plan.until is not None and bool(_enough(self.job, *self._inputs, self._blocks(done), state))

    def estimate(self, done: int, state: State) -> Estimate:
        """From the first `done` pieces, but for the degrees of freedom, for which this would be compiled every time."""
        return self.read(done if self.job.plan.until is not None else self.count, state).found

    def read(self, done: int, state: State) -> Folded:
        """What the first `done` pieces come to; `converged` only if no more were asked for."""
        if self.job.plan.until is not None:
            return _assessed(self.job, *self._inputs, self._blocks(done), state)
        folded = _read(self.job, int(self._blocks(done)), *self._inputs, state)
        converged = folded.found.converged & (done == self.count)
        return folded._replace(found=dataclasses.replace(folded.found, converged=converged))

    def fingerprint(self) -> dict[str, str]:
        """What makes this task another than others, each with the words for it."""
        body, inputs = functools.partial(_piece, self.job, self.size), (*self._inputs, self.center, jnp.asarray(0))
        return {
            "function, method, pieces or number of samples": digest_of(body, *inputs),
            "arguments": digest(*self.numbers, *self.given),
            "key": digest(self.key),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        # Structures of Equinox's modules are not the same after pickling, modules are.
        of, methods = join(self.numbers, self.job.static), join(self.given, self.job.kinds)
        return _unpickled, (self.job.plan, self.job.checked, self.key, of, methods, *self[4:])

    @property
    def _inputs(self) -> tuple[Any, ...]:
        return jax.random.clone(self.key), self.numbers, self.given

    def _blocks(self, done: int) -> Array:
        return jnp.asarray(min(done * self.size, self.blocks))


def _unpickled(plan: Plan, checked: bool, key: Any, of: Any, methods: Any, *rest: Any) -> Pieces:
    (numbers, static), (given, kinds) = split(of), split(methods)
    return Pieces(Job(plan, static, kinds, checked), key, numbers, given, *rest)


@runtime_checkable
class TaskRunner(Protocol):
    """Who does a task, piece by piece, where sampling takes more than one loop on one device."""

    def run(self, task: Task) -> Folded:
        """All of it, or as much as there was time for, which is not `converged`."""
        ...


def _blocks(job: Job, key: Key[Array, ""], numbers: list[Any], given: list[Any]) -> Blocks:
    # Without the barriers a caller's own jit could fold its constants into the loop and round differently.
    key, numbers = jax.lax.optimization_barrier((key, numbers))
    rows = sampler(join(given, job.kinds), job.static, job.plan.num_samples, key, numbers, job.checked)
    return blocks_of(job.plan, rows, key)


@functools.partial(jax.jit, static_argnums=0)
def run_at_once(job: Job, key: Key[Array, ""], numbers: list[Any], given: list[Any]) -> Folded:
    """All blocks in one loop on the device."""
    return _blocks(job, key, numbers, given).all()


@functools.partial(jax.jit, static_argnums=(0, 1))
def _piece(
    job: Job, size: int, key: Any, numbers: list[Any], given: list[Any], center: list[Array], first: Array
) -> State:
    return _blocks(job, key, numbers, given).piece(first, size, center)


@functools.partial(jax.jit, static_argnums=0)
def _center(job: Job, key: Any, numbers: list[Any], given: list[Any]) -> list[Array]:
    return _blocks(job, key, numbers, given).center()


@functools.partial(jax.jit, static_argnums=0)
def _merge(job: Job, key: Any, numbers: list[Any], given: list[Any], one: State, other: State) -> State:
    return _blocks(job, key, numbers, given).merge(one, other)


@functools.partial(jax.jit, static_argnums=0)
def _enough(job: Job, key: Any, numbers: list[Any], given: list[Any], done: Array, state: State) -> Array:
    return _blocks(job, key, numbers, given).enough(done, state)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _read(job: Job, done: int, key: Any, numbers: list[Any], given: list[Any], state: State) -> Folded:
    return _blocks(job, key, numbers, given).read(done, state)


@functools.partial(jax.jit, static_argnums=0)
def _assessed(job: Job, key: Any, numbers: list[Any], given: list[Any], done: Array, state: State) -> Folded:
    return _blocks(job, key, numbers, given).read(done, state)
