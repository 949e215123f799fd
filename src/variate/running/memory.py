"""How much memory there is for the draws of chains, and errors that say that there was too little."""

import os
from pathlib import Path

import jax

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")  # a container's share of the machine
_OUT = "RESOURCE_EXHAUSTED"  # XLA's word for it


def available() -> float:
    """Bytes that can still be had, without what would have to be swapped; infinite where nobody tells."""
    return min(_of_machine(), _of_group())


def is_lack(error: BaseException) -> bool:
    """Whether an error says that no memory was left, here or on a device."""
    return isinstance(error, MemoryError) or (isinstance(error, jax.errors.JaxRuntimeError) and _OUT in str(error))


def check_block(chains: int, steps: int, numbers: int, itemsize: int) -> None:
    """Raise MemoryError where a block of so many steps of chains of so many numbers has no room.

    Of each step the position is kept, as are its values and, by most kernels, its gradient.
    """
    needed, free = 3.0 * chains * steps * numbers * itemsize, available()
    if needed > free:
        raise MemoryError(
            f"num_chains={chains} chains of {numbers} numbers take {size(needed)} of memory in {steps} steps, and "
            f"{size(free)} are left: ask for fewer"
        )


def _of_machine() -> float:
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        return 1024.0 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        pass
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return float("inf")


def _of_group() -> float:
    try:
        return float(int((_GROUP / "memory.max").read_text()) - int((_GROUP / "memory.current").read_text()))
    except (OSError, ValueError):  # "max", or no such group
        return float("inf")


def size(count: float | int) -> str:
    """Bytes in words."""
    return f"{count / 1e9:.3g} GB"
