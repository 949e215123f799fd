"""A file that holds what a task has come to, from which it goes on as if it had never stopped."""

import json
import os
import time
import zipfile
from pathlib import Path

import jax
import numpy as np

from variate.estimates.blocks import State
from variate.estimates.tasks import Pieces

from .base import numbers_of, state_of

_SHARE = 0.1


class Checkpoint:
    """NumPy's `.npz`: the numbers of a state, how many pieces they are of, and what task it was.

    Beside them the estimate so far, as `value` and `stderr` with a number for each array of the result.

    Raises:
        ValueError: a directory that does not exist, a file that is no checkpoint, or one of another task.
    """

    def __init__(self, path: str | Path, pieces: Pieces):
        self.path, self.pieces = Path(path), pieces
        if not self.path.absolute().parent.is_dir():
            raise ValueError(f"checkpoint: there is no directory {str(self.path.parent)!r}")
        self.identity = pieces.fingerprint()
        self.start, self.saving = time.monotonic(), 0.0

    def load(self) -> tuple[int, State | None]:
        """How many pieces are done, and what they came to."""
        if not self.path.exists():
            return 0, None
        try:
            with np.load(self.path, allow_pickle=False) as file:
                identity = json.loads(str(file["task"]))
                done, numbers = int(file["done"]), [file[f"state_{i}"] for i in range(int(file["numbers"]))]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(f"checkpoint: {str(self.path)!r} is not one ({error})") from error
        other = [what for what, own in self.identity.items() if identity.get(what) != own]
        if other:
            raise ValueError(
                f"checkpoint: {str(self.path)!r} is of another run, with other {' and other '.join(other)}: "
                "give this one a file of its own"
            )
        return done, state_of(numbers, self.pieces.like())

    def save_in_passing(self, done: int, state: State) -> None:
        """As often as it takes no more than a tenth of the time."""
        before = time.monotonic()
        if self.saving <= _SHARE * (before - self.start):
            self.save(done, state)
            self.saving += time.monotonic() - before

    def save(self, done: int, state: State) -> None:
        """Whole or not at all, whatever happens meanwhile."""
        estimate = self.pieces.estimate(done, state)
        arrays = {f"state_{i}": number for i, number in enumerate(numbers_of(state))}
        arrays |= {f"value_{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(estimate.value))}
        arrays |= {f"stderr_{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(estimate.stderr))}
        beside = self.path.with_name(self.path.name + ".part")
        with beside.open("wb") as file:
            np.savez(
                file,
                task=np.asarray(json.dumps(self.identity)),
                done=np.asarray(done),
                numbers=np.asarray(len(numbers_of(state))),
                allow_pickle=False,
                **arrays,
            )
        os.replace(beside, self.path)
