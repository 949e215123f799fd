"""A file that holds what a task has come to, from which it goes on as if it had never stopped."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from variate.estimates.blocks import State
from variate.estimates.tasks import Pieces

from .base import numbers_of, state_of
from .file import File, numbered, unnumbered


class Checkpoint:
    """The numbers of a state, how many pieces they are of, and what task it was.

    Beside them the estimate so far, as `value` and `stderr` with a number for each array of the result.

    Raises:
        ValueError: a directory that does not exist, a file that is no checkpoint, or one of another task.
    """

    def __init__(self, path: str | Path, pieces: Pieces):
        self.pieces, self.file = pieces, File(path, pieces.fingerprint())

    def load(self) -> tuple[int, State | None]:
        """How many pieces are done, and what they came to."""
        found = self.file.read()
        if found is None:
            return 0, None
        return int(found["done"]), state_of(unnumbered("state", found), self.pieces.like())

    def save_in_passing(self, done: int, state: State) -> None:
        """As often as it takes no more than a tenth of the time."""
        self.file.write_in_passing(lambda: self._arrays(done, state))

    def save(self, done: int, state: State) -> None:
        """Whole or not at all, whatever happens meanwhile."""
        self.file.write(self._arrays(done, state))

    def _arrays(self, done: int, state: State) -> Mapping[str, Any]:
        estimate = self.pieces.estimate(done, state)
        shown = {"value": estimate.value, "stderr": estimate.stderr}
        arrays = [numbered(name, jax.tree.leaves(tree)) for name, tree in shown.items()]
        return numbered("state", numbers_of(state)) | arrays[0] | arrays[1] | {"done": np.asarray(done)}
