"""Draws that are written to a Zarr store as they come, block by block, and none of which stays in memory."""

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from variate.protocols import Steps

from .chain_file import Block, Reached
from .draws import Draws
from .keeping import Every, draws_of
from .measures import Constants, storable

_POSTERIOR, _STATS = "posterior", "sample_stats"


class Unwritten(Exception):
    """A block of draws that the store did not take."""


@dataclass(frozen=True)
class Stored:
    """Draws of Markov chains in a Zarr store: `vt.mcmc.stream` makes it.

    `path` of the store, in the layout of ArviZ. `unwritten`: draws that it did not take, for which the run ended; they
    are in memory alone. `ended`, `seconds`, `kernel` and `biased` as of `Draws`.
    """

    path: Path
    structure: Any
    unwritten: Draws | None = None
    constants: Constants = dataclasses.field(default_factory=dict)
    ended: str | None = None
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    kernel: str = ""
    biased: bool = False

    def tree(self) -> Any:
        """ArviZ's `DataTree`, `posterior` and `sample_stats`, whose numbers are read from the store when asked for."""
        import xarray

        return xarray.open_datatree(self.path, engine="zarr")

    def draws(self) -> Draws:
        """All of them in memory, with those that the store did not take, for `expect` and whatever `Draws` have."""
        found = [] if self._empty else [self._read()]
        found += [] if self.unwritten is None else [self.unwritten]
        joined = jax.tree.map(lambda *parts: np.concatenate(parts, 1), *found)
        return dataclasses.replace(
            joined,
            ended=self.ended,
            seconds=self.seconds,
            kernel=self.kernel,
            biased=self.biased,
            constants=self.constants,
        )

    @property
    def _empty(self) -> bool:
        return not (self.path / ".zmetadata").exists()

    def _read(self) -> Draws:
        with self.tree() as tree:
            values, stats = (
                {name: np.asarray(x) for name, x in tree[group].data_vars.items()} for group in (_POSTERIOR, _STATS)
            )
        order = storable(jax.tree.unflatten(self.structure, range(self.structure.num_leaves)))
        acceptance, divergent, evaluations = (stats.pop(x) for x in ("acceptance_rate", "diverging", "n_steps"))
        values = jax.tree.unflatten(self.structure, [values[name] for name in order])
        return Draws(values, acceptance, divergent, evaluations, told=stats)


@dataclass(frozen=True)
class Streamed(Every):
    """Every draw, in a store and not in memory."""

    path: Path = Path()
    at: dict[str, Any] = dataclasses.field(default_factory=dict)  # the structure of values, and what was not written

    def begin(self, values: Callable[[], PyTree]) -> Any:
        self.at["structure"] = jax.tree.structure(values())
        return ()

    def go_on(self, reached: Reached) -> None:
        """From where a run is. Raises ValueError where the store is of another one."""
        there = next(path for path in (self.path.absolute(), *self.path.absolute().parents) if path.exists())
        if not (there.is_dir() and os.access(there, os.W_OK)):
            raise ValueError(f"store: {str(self.path)!r} cannot be made: {str(there)!r} is no directory to write to")
        have = self._length()
        if not reached.blocks and self.path.exists():
            raise ValueError(f"store: there is {str(self.path)!r} already; a run goes on where it has its checkpoint")
        if have < len(reached.kept):
            raise ValueError(
                f"store: {str(self.path)!r} has {have} blocks of draws, the checkpoint {len(reached.kept)}"
            )

    def held(self, index: int, block: Block) -> Block:
        """What stays in memory of a block that was made."""
        try:
            self._write(index, draws_of([block], 1))
        except OSError as error:
            self.at["unwritten"] = draws_of([block], 1)
            words = f"store: {str(self.path)!r} could not be written ({error}), the run ends with what is there"
            warnings.warn(words, RuntimeWarning, stacklevel=2)
            raise Unwritten(f"ended, for the store could not be written: {error}") from error
        # Means of what is told: of a block nothing remains that grows.
        info = jax.tree.map(lambda x: np.asarray(x, float).mean((0, 1)), block[1].info)
        return (), Steps(jnp.zeros(0), None, info._replace(divergent=np.sum(block[1].info.divergent)))

    def like(self, block: Block) -> Block:
        return (), Steps(jnp.zeros(0), None, block[1].info)

    def read(self, reached: Reached, most: int) -> Any:
        return self.end(reached, most).draws()

    def end(self, reached: Reached, most: int) -> Any:
        return Stored(self.path, self.at["structure"], self.at.get("unwritten"), self.constants)

    def identity(self, sums: Any) -> str:
        return f"stored {self.thin}"

    def _length(self) -> int:
        """Blocks that are there whole."""
        import zarr

        if not (self.path / ".zmetadata").exists():
            return 0
        acceptance: Any = zarr.open_consolidated(self.path, mode="r")[f"{_STATS}/acceptance_rate"]
        return acceptance.shape[1] // acceptance.chunks[1]

    def _write(self, index: int, draws: Draws) -> None:
        """A block is there as soon as the metadata, one file, tell of it: readers find it whole or not at all."""
        import zarr

        root = zarr.open_group(self.path, mode="a", zarr_format=2)
        for group, arrays in ((_POSTERIOR, storable(draws.values)), (_STATS, draws.stats())):
            inside = root.require_group(group)
            for name, x in arrays.items():
                chains, steps, *rest = x.shape
                if name not in inside:
                    dims = ["chain", "draw", *[f"{name}_dim_{n}" for n in range(len(rest))]]
                    # Without a number that stands for what is missing: readers would miss all zeros.
                    new = {"shape": (chains, 0, *rest), "chunks": x.shape, "dtype": x.dtype, "fill_value": None}
                    inside.create_array(name, attributes={"_ARRAY_DIMENSIONS": dims}, **new)
                array: Any = inside[name]
                array.resize((chains, (index + 1) * steps, *rest))
                array[:, index * steps :] = x
        with contextlib.closing(root.store):
            zarr.consolidate_metadata(root.store, zarr_format=2)
