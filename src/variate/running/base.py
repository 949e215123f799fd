"""Who does work in pieces: what the loop needs of a process, a cluster, or itself."""

import contextlib
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import cloudpickle
import jax
import numpy as np
from jaxtyping import PyTree

# Numbers depend on these.
_SETTINGS = """
    jax_enable_x64 jax_default_prng_impl jax_threefry_partitionable jax_numpy_dtype_promotion jax_numpy_rank_promotion
    jax_default_matmul_precision jax_random_seed_offset
    """.split()


class Lost(RuntimeError):
    """A piece that could not be done, however often it was tried."""


@runtime_checkable
class Work(Protocol):
    """What is done in pieces, each the same whoever does it: samples of a task, or blocks of chains."""

    def piece(self, order: Any, /) -> PyTree:
        """One of them, by its number, or by all that it takes: a value that pickles, whose text names the piece."""
        ...

    def like(self) -> PyTree:
        """The shapes of a piece."""
        ...


@runtime_checkable
class Crew(Protocol):
    """Workers that know the work."""

    @property
    def ahead(self) -> int:
        """How many pieces to submit before the first of them is waited for, where none waits for another."""
        ...

    def submit(self, order: Any) -> Callable[[], PyTree]:
        """Begin a piece; what comes back waits for it. Raises `Lost` where it cannot be had."""
        ...


@runtime_checkable
class Workers(Protocol):
    """Who can be told of work."""

    def open(self, pieces: Work) -> contextlib.AbstractContextManager[Crew]:
        """The crew that does its pieces, until it is closed."""
        ...


@dataclass(frozen=True)
class Here:
    """This process, one piece after the other."""

    @contextlib.contextmanager
    def open(self, pieces: Work) -> Iterator["_Here"]:
        yield _Here(pieces)


@dataclass(frozen=True)
class _Here:
    pieces: Work
    ahead: int = 2  # the next is begun before this one is read

    def submit(self, order: Any) -> Callable[[], PyTree]:
        state = self.pieces.piece(order)
        return lambda: jax.block_until_ready(state)


def packed(pieces: Work) -> bytes:
    """Work for another process, with JAX's settings.

    Raises:
        TypeError: a function that cannot be sent.
    """
    settings = {name: getattr(jax.config, name) for name in _SETTINGS if hasattr(jax.config, name)}
    try:
        return pickle.dumps((settings, cloudpickle.dumps(pieces)))
    except Exception as error:
        raise TypeError(
            f"f or target, and all that it holds, must be picklable to be run by other processes: {error}"
        ) from error


def unpacked(payload: bytes) -> Work:
    """The work of another process, whose settings become this one's."""
    settings, pieces = pickle.loads(payload)
    for name, value in settings.items():
        jax.config.update(name, value)
    return pickle.loads(pieces)


def numbers_of(state: PyTree) -> list[np.ndarray]:
    """A state without its structure, which both sides know."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def environment() -> dict[str, str]:
    """Of a new process that is to find what this one has imported."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def state_of(numbers: Any, like: PyTree) -> PyTree:
    return jax.tree.unflatten(jax.tree.structure(like), numbers)
