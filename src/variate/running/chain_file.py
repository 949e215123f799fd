"""The checkpoint of chains: where they are, what was learned of the kernel, and all of their steps."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from variate.protocols import Steps

from .file import File, numbered, unnumbered

_PARTS = ("tuned", "state", "sums")
Block = tuple[Any, Steps]  # the values of a block of steps, and the steps


class Reached(NamedTuple):
    """Where a run is, between two blocks."""

    tuned: Any
    state: Any
    warm: tuple[Block, ...] = ()
    kept: tuple[Block, ...] = ()
    sums: Any = ()  # of all that was kept, where blocks do not hold it

    @property
    def blocks(self) -> int:
        return len(self.warm) + len(self.kept)


class ChainFile:
    """From which a run goes on, bit for bit as if it had never stopped, on machines and versions that compute alike."""

    def __init__(self, path: str | Path, identity: dict[str, str]):
        self.file = File(path, identity)

    def load(self, begun: Reached, blocks: Callable[[], Sequence[Block]]) -> Reached:
        """Where the run was, given where it begins and the shapes of a block of the warm-up and of a later one."""
        found = self.file.read()
        if found is None:
            return begun
        try:
            parts = {name: _like(getattr(begun, name), found, name) for name in _PARTS}
            for name, shapes in zip(("warm", "kept"), blocks(), strict=True):
                leaves, tree = unnumbered(name, found), jax.tree.structure(shapes)
                parts[name] = tuple(jax.tree.unflatten(tree, [x[n] for x in leaves]) for n in found[name])
        except (KeyError, IndexError, ValueError) as error:  # arrays are missing
            raise self.file.broken(error) from error
        return Reached(**parts)

    def save_in_passing(self, reached: Reached) -> None:
        self.file.write_in_passing(lambda: _arrays(reached))

    def save(self, reached: Reached) -> None:
        self.file.write(_arrays(reached))


def _arrays(reached: Reached) -> dict[str, np.ndarray]:
    arrays = {}
    for name in _PARTS:
        arrays |= numbered(name, jax.tree.leaves(eqx.filter(getattr(reached, name), eqx.is_array)))
    for name in ("warm", "kept"):
        blocks = [jax.tree.leaves(block) for block in getattr(reached, name)]
        arrays[name] = np.arange(len(blocks))
        arrays |= numbered(name, (np.array(leaves) for leaves in zip(*blocks, strict=True)))
    return arrays


def _like(tree: Any, found: dict[str, np.ndarray], name: str) -> Any:
    numbers, rest = eqx.partition(tree, eqx.is_array)
    leaves = [jax.numpy.asarray(number) for number in unnumbered(name, found)]
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(numbers), leaves), rest)
