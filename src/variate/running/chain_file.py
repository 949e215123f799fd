"""The checkpoint of chains: where they are, what was learned of the kernel, and all of their steps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from variate.protocols import Steps

from .file import File, numbered, unnumbered

Block = tuple[Any, Steps]  # the values of a block of steps, and the steps


class Reached(NamedTuple):
    """Where a run is, between two blocks."""

    tuned: Any
    state: Any
    warm: tuple[Block, ...] = ()
    kept: tuple[Block, ...] = ()

    @property
    def blocks(self) -> int:
        return len(self.warm) + len(self.kept)


class ChainFile:
    """From which a run goes on, bit for bit as if it had never stopped, on machines and versions that compute alike."""

    def __init__(self, path: str | Path, identity: dict[str, str]):
        self.file = File(path, identity)

    def load(self, begun: Reached, block: Callable[[], Block]) -> Reached:
        """Where the run was, given where it begins and the shapes of a block."""
        found = self.file.read()
        if found is None:
            return begun
        shapes = block()

        def blocks(name: str) -> tuple[Block, ...]:
            leaves = unnumbered(name, found)
            return tuple(jax.tree.unflatten(jax.tree.structure(shapes), [x[n] for x in leaves]) for n in found[name])

        return Reached(
            _like(begun.tuned, found, "tuned"), _like(begun.state, found, "state"), blocks("warm"), blocks("kept")
        )

    def save_in_passing(self, reached: Reached) -> None:
        self.file.write_in_passing(lambda: _arrays(reached))

    def save(self, reached: Reached) -> None:
        self.file.write(_arrays(reached))


def _arrays(reached: Reached) -> dict[str, np.ndarray]:
    arrays = {}
    for name in ("tuned", "state"):
        arrays |= numbered(name, jax.tree.leaves(eqx.filter(getattr(reached, name), eqx.is_array)))
    shapes = jax.tree.leaves((reached.warm + reached.kept)[0])
    for name in ("warm", "kept"):
        blocks = [jax.tree.leaves(block) for block in getattr(reached, name)]
        arrays[name] = np.arange(len(blocks))
        stacked = [np.array([block[i] for block in blocks]) for i in range(len(shapes))]
        arrays |= numbered(name, (x.reshape(-1, *np.shape(y)) for x, y in zip(stacked, shapes, strict=True)))
    return arrays


def _like(tree: Any, found: dict[str, np.ndarray], name: str) -> Any:
    numbers, rest = eqx.partition(tree, eqx.is_array)
    leaves = [jax.numpy.asarray(number) for number in unnumbered(name, found)]
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(numbers), leaves), rest)
