"""A file of arrays that is written whole or not at all, and says of what run it is."""

import contextlib
import json
import os
import time
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from variate import version
from variate.checks import describe

_SHARE = 0.1


def numbered(name: str, arrays: Iterable[Any]) -> dict[str, np.ndarray]:
    """Arrays under names of their own: `name_0`, `name_1`, ..."""
    return {f"{name}_{i}": np.asarray(array) for i, array in enumerate(arrays)}


def unnumbered(name: str, found: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The arrays under such names, in order."""
    return [found[f"{name}_{i}"] for i in range(sum(key.startswith(f"{name}_") for key in found))]


def path_of(name: str, value: Any) -> Path:
    """Raise TypeError unless it is one."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be the path of a file, got {describe(value)}")
    return Path(value)


class File:
    """NumPy's `.npz`, with an identity: what makes this run another than others, each with the words for it.

    The versions of JAX and of Variate are part of it, for numbers depend on both.

    Raises:
        TypeError: a path that is none.
        ValueError: a directory that does not exist or cannot be written to, a file that is no checkpoint, or one of
            another run.
    """

    def __init__(self, path: str | Path, identity: Mapping[str, str]):
        versions = {"version of JAX": jax.__version__, "version of Variate": version.__version__}
        self.path, self.identity = path_of("checkpoint", path), {**identity, **versions}
        if not self.path.absolute().parent.is_dir():
            raise ValueError(f"checkpoint: there is no directory {str(self.path.parent)!r}")
        if not os.access(self.path.absolute().parent, os.W_OK):
            raise ValueError(f"checkpoint: the directory {str(self.path.parent)!r} cannot be written to")
        self.start, self.saving, self.failed = time.monotonic(), 0.0, False

    def read(self) -> dict[str, np.ndarray] | None:
        """What is in it, if it is there."""
        if not self.path.exists():
            return None
        try:
            with self.path.open("rb") as stream:
                file = np.load(stream, allow_pickle=False)
                found = dict(file) if isinstance(file, np.lib.npyio.NpzFile) else {}
            identity = dict(json.loads(str(found.pop("task"))))
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise self.broken(error) from error
        other = [what for what, own in self.identity.items() if identity.get(what) != own]
        if other:
            raise ValueError(
                f"checkpoint: {str(self.path)!r} is of another run, with other {' and other '.join(other)}: "
                "give this one a file of its own"
            )
        return found

    def broken(self, error: Exception) -> ValueError:
        return ValueError(f"checkpoint: {str(self.path)!r} is not one, or not whole ({error})")

    def write(self, arrays: Mapping[str, Any]) -> None:
        """Whole or not at all, whatever happens meanwhile; where it cannot be, what was there stays."""
        beside = self.path.with_name(self.path.name + ".part")
        try:
            with beside.open("wb") as file:
                np.savez(file, allow_pickle=False, task=np.asarray(json.dumps(self.identity)), **arrays)
            os.replace(beside, self.path)
        except OSError as error:  # a full disk is no reason to lose what is in memory
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            if not self.failed:
                self.failed = True
                words = f"checkpoint: {str(self.path)!r} could not be written ({error}), what was there stays"
                warnings.warn(f"{words}; the run goes on, and tries again", RuntimeWarning, stacklevel=2)

    def write_in_passing(self, arrays: Callable[[], Mapping[str, Any]]) -> None:
        """As often as it takes no more than a tenth of the time."""
        before = time.monotonic()
        if self.saving <= _SHARE * (before - self.start):
            self.write(arrays())
            self.saving += time.monotonic() - before
