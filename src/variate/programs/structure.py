"""A distribution as arrays beside a hashable remainder, which is how a primitive can carry it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# A NumPy array this small is kept as a constant: NumPyro stores `total_count` and the like so, and their values,
# not only their shapes, decide the size of a support.
_CONSTANT_SIZE = 1024


@dataclass(frozen=True)
class _Constant:
    """A small NumPy array, compared by its content."""

    content: bytes
    shape: tuple[int, ...]
    dtype: str

    def array(self) -> np.ndarray:
        return np.frombuffer(self.content, self.dtype).reshape(self.shape).copy()


class _Array:
    """Marks the place of an array among the leaves."""

    def __repr__(self) -> str:
        return "*"


_ARRAY = _Array()


@dataclass(frozen=True)
class Structure:
    """All of a distribution but its arrays: the tree and the leaves that are not arrays."""

    treedef: Any
    leaves: tuple[Any, ...]

    def build(self, arrays: Sequence[jax.Array]) -> Any:
        """The distribution with these arrays in their places."""
        remaining = iter(arrays)
        leaves = []
        for leaf in self.leaves:
            if leaf is _ARRAY:
                leaf = next(remaining)
            elif isinstance(leaf, _Constant):
                leaf = leaf.array()
            leaves.append(leaf)
        return jax.tree.unflatten(self.treedef, leaves)


def take_apart(distribution: Any) -> tuple[list[jax.Array], Structure]:
    """Arrays and structure of a distribution, so that `structure.build(arrays)` gives it back."""
    leaves, treedef = jax.tree.flatten(distribution)
    arrays, rest = [], []
    for leaf in leaves:
        if isinstance(leaf, np.ndarray) and leaf.size <= _CONSTANT_SIZE and leaf.dtype != object:
            rest.append(_Constant(leaf.tobytes(), leaf.shape, leaf.dtype.str))
        elif isinstance(leaf, jax.Array | np.ndarray | np.generic):
            arrays.append(jnp.asarray(leaf))
            rest.append(_ARRAY)
        else:
            rest.append(leaf)
    return arrays, Structure(treedef, tuple(rest))
