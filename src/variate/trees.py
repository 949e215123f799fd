"""Pytrees: numbers apart from the rest, and the little arithmetic over leaves that estimates need."""

import functools
from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree

from .closures import Closed, closed_over


class Static(NamedTuple):
    """What remains of a pytree without its numbers; hashable, so `jax.jit` can key its cache on it."""

    leaves: tuple[Hashable, ...]
    structure: Any
    closed: Closed  # what its functions read besides their arguments


class _Traced:
    """Stands in a `Static` where a number was."""


def is_traced(leaf: Any) -> bool:
    """Whether `jax.jit` would trace the leaf: arrays and Python's numbers, but not its booleans.

    Booleans are flags far more often than data, `equinox.nn.Dropout.inference` for one, and have only two values.
    """
    if isinstance(leaf, bool):
        return False
    return isinstance(leaf, jax.Array | np.ndarray | np.number | np.bool_ | int | float | complex)


def split(tree: PyTree) -> tuple[list[Any], Static]:
    """The numbers of a pytree, and all else."""
    leaves, structure = jax.tree.flatten(tree)
    rest = tuple(_Traced if is_traced(leaf) else leaf for leaf in leaves)
    return [leaf for leaf in leaves if is_traced(leaf)], Static(rest, structure, closed_over(rest))


def join(numbers: list[Any], static: Static) -> PyTree:
    """The pytree that `split` took apart, with these numbers."""
    remaining = iter(numbers)
    leaves = [next(remaining) if leaf is _Traced else leaf for leaf in static.leaves]
    return jax.tree.unflatten(static.structure, leaves)


def place(index: tuple[int, ...]) -> str:
    """How messages and tables call an element of an array, after its name."""
    return f"[{', '.join(map(str, index))}]" if index else ""


def is_real_number(value: Any) -> bool:
    """Whether it is one floating point number, known or traced."""
    leaves, structure = jax.tree.flatten(value)
    if structure != jax.tree.structure(0.0) or not isinstance(leaves[0], float | np.generic | np.ndarray | jax.Array):
        return False
    return jnp.shape(leaves[0]) == () and jnp.issubdtype(jnp.result_type(leaves[0]), jnp.floating)


def as_float(x: Any) -> Array:
    """The array as floats of 32 bits or more: a mean of many needs more than the 8 or 11 of the half precisions."""
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x.astype(float)
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


def all_of(tree: PyTree[Array]) -> Bool[Array, ""]:
    """Whether every element of every leaf is true."""
    return functools.reduce(jnp.logical_and, [jnp.all(leaf) for leaf in jax.tree.leaves(tree)])


@jax.jit
def all_finite(tree: PyTree[Array]) -> Bool[Array, ""]:
    """Whether every element of every leaf is finite."""
    return all_of(jax.tree.map(jnp.isfinite, tree))


def finite_rows(tree: PyTree[Array]) -> Bool[Array, " n"]:
    """For each index of the leading axis, whether all leaves are finite there."""
    rows = [jnp.isfinite(leaf).reshape(leaf.shape[0], -1).all(axis=1) for leaf in jax.tree.leaves(tree)]
    return functools.reduce(jnp.logical_and, rows)
