"""All devices of this process, each with pieces of its own."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key, PyTree

from variate.checks import describe
from variate.estimates.blocks import State
from variate.estimates.tasks import Pieces


@dataclass(frozen=True)
class Devices:
    """The accelerators of this process for a `Runner`, one piece on each at a time: by default all that JAX sees.

    Each compiles the same piece for itself and works on its own; only what pieces come to is sent to the first, to be
    merged in order. So the answer is that of one of them alone, bit for bit, where they are of the same kind.

    Markov chains are shared out, to as many of them as divide their number into equal parts of two or more; in every
    step of the warm-up all learn the same from all chains.

    Args:
        devices: which (`jax.local_devices()[:2]`, say).

    Raises:
        TypeError: something that is no device.
        ValueError: no device at all, or one twice.
    """

    devices: Any = None

    def __post_init__(self) -> None:
        if self.devices is None:
            return
        if not isinstance(self.devices, (tuple, list)):
            raise TypeError(f"devices must be a list of devices of jax.local_devices(), got {describe(self.devices)}")
        for device in self.devices:
            if not isinstance(device, jax.Device):
                raise TypeError(f"devices must be devices of jax.local_devices(), got {describe(device)} among them")
        if not self.devices or len(set(self.devices)) < len(self.devices):
            raise ValueError(f"devices must be one or more, each once, got {describe(self.devices)}")

    @contextlib.contextmanager
    def open(self, pieces: Pieces) -> Iterator["_Crew"]:
        yield _Crew(pieces, list(jax.local_devices() if self.devices is None else self.devices))

    def line(self, count: int) -> Mesh:
        """As many of them as divide a number of chains into equal parts of two or more."""
        devices = list(jax.local_devices() if self.devices is None else self.devices)
        # What is compiled for a chain alone, vectors for matrices, rounds otherwise than what is for several.
        most = max(n for n in range(1, len(devices) + 1) if count % n == 0 and count // n >= min(count, 2))
        return Mesh(np.array(devices[:most]), (_CHAINS,))


_CHAINS = "chains"


@dataclass(frozen=True)
class Shared:
    """How a step of all chains is shared out: on a line of devices, or, without one, not at all."""

    line: Mesh | None = None

    def to_all(self, tree: PyTree) -> PyTree:
        """With its arrays on every device."""
        return self._put(tree, PartitionSpec())

    def to_each(self, tree: PyTree) -> PyTree:
        """With the part of its arrays that is about its own chains on each device."""
        return self._put(tree, PartitionSpec(_CHAINS))

    def _put(self, tree: PyTree, where: PartitionSpec) -> PyTree:
        if self.line is None:
            return tree
        numbers, rest = eqx.partition(tree, eqx.is_array)
        return eqx.combine(jax.device_put(numbers, NamedSharding(self.line, where)), rest)

    def home(self, tree: PyTree[Array]) -> PyTree[Array]:
        """On the first device, where what is done with it is what one alone would do."""
        return tree if self.line is None else jax.device_put(tree, self.line.devices.flat[0])

    def map(self, f: Callable, numbers: PyTree[Array], at: PyTree[Array], state: PyTree[Array]) -> Any:
        """f of what all devices have and of chains of their own, to numbers, chains and steps of chains."""
        if self.line is None:
            return f(numbers, at, state)
        all_of, own = PartitionSpec(), PartitionSpec(_CHAINS)
        out = (all_of, own, PartitionSpec(None, _CHAINS))
        return jax.shard_map(f, mesh=self.line, in_specs=(all_of, all_of, own), out_specs=out, check_vma=False)(
            numbers, at, state
        )

    def keys(self, key: Key[Array, ""], count: int) -> Key[Array, " chains"]:
        """Of the keys of all chains those of the chains that are here."""
        keys = jax.random.split(key, self.all_of(count))
        return keys if self.line is None else lax.dynamic_slice_in_dim(keys, lax.axis_index(_CHAINS) * count, count)

    def all_of(self, count: int) -> int:
        """How many chains there are in all, `count` of them here."""
        return count if self.line is None else count * self.line.size

    def together(self, tree: Any) -> Any:
        """Arrays of the chains that are here, of all chains."""
        return tree if self.line is None else jax.tree.map(lambda x: lax.all_gather(x, _CHAINS, tiled=True), tree)


class _Crew:
    def __init__(self, pieces: Pieces, devices: list[Any]):
        self.home, self.ahead = pieces.key.device, 2 * len(devices)  # each has its next piece while one is read
        self.copies = [pieces.on(device) for device in devices]

    def submit(self, index: int) -> Callable[[], State]:
        state = self.copies[index % len(self.copies)].piece(index)  # not waited for
        return lambda: jax.block_until_ready(jax.device_put(state, self.home))
