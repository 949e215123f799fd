"""All devices of this process, each with pieces of its own."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax

from variate.checks import describe
from variate.estimates.blocks import State
from variate.estimates.tasks import Pieces


@dataclass(frozen=True)
class Devices:
    """The accelerators of this process for a `Runner`, one piece on each at a time: by default all that JAX sees.

    Each compiles the same piece for itself and works on its own; only what pieces come to is sent to the first, to be
    merged in order. So the answer is that of one of them alone, bit for bit, where they are of the same kind.

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


class _Crew:
    def __init__(self, pieces: Pieces, devices: list[Any]):
        self.home, self.ahead = pieces.key.device, 2 * len(devices)  # each has its next piece while one is read
        self.copies = [pieces.on(device) for device in devices]

    def submit(self, index: int) -> Callable[[], State]:
        state = self.copies[index % len(self.copies)].piece(index)  # not waited for
        return lambda: jax.block_until_ready(jax.device_put(state, self.home))
