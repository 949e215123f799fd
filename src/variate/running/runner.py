"""The loop over the pieces of a task: in order, until there are enough, the time is up, or somebody interrupts."""

import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from variate.checks import check_positive, check_positive_int, describe
from variate.estimates.blocks import Folded, State
from variate.estimates.tasks import Pieces, Task

from . import progress
from .base import Crew, Here, Lost, Workers
from .checkpoint import Checkpoint


@dataclasses.dataclass(frozen=True)
class Runner:
    r"""Samples in pieces, for expectations that take minutes or days: `vt.expect(f, num_samples=10**9, runner=...)`.

    A piece depends on the key and its own number alone, and pieces are merged in their order. So the answer is the same
    bit for bit whoever does them and however often the run was interrupted, on machines and versions that compute
    alike. It differs in its last digits from that of `expect` without a runner, which merges block by block. A rule
    given as `until` is asked after every piece.

    Where it ends before its time, by `seconds`, an interrupt from the keyboard or a piece that cannot be done, the
    estimate is that of the pieces so far; it is not `converged`, and `ended` says why. An interrupt before the first
    piece is done is passed on.

    Of Markov chains (`vt.sample(..., runner=...)`) it says who makes the steps after the warm-up, and in what `groups`;
    the rest they have themselves.

    Args:
        workers: who does the pieces, `Devices()`, `Processes(2)` or `Ray()`; this process, on one device, if left out.
        checkpoint: a file (`.npz`) in which the state is kept, and from which the run goes on if it is there. The
            tolerance may be another then: what was drawn serves a smaller one as well.
        seconds: after how many to end. A limit that depends on time alone does not touch the error bar, as long as runs
            do not take longer for the results that they have.
        progress: whether to show it, on the standard error stream.
        piece: how many samples make a piece, about. It is what a lost worker costs, and what has to be done before
            anything is saved or shown; take more where a run is cheap, so that a piece takes a second.
        groups: into how many groups of one size, at most, Markov chains are shared out; 25 steps of a group are a piece
            of theirs. More than that many workers have nothing to do. Last digits may depend on it.

    Raises:
        TypeError: `workers` that are none.
        ValueError: `seconds`, a `piece` or `groups` that are not positive; a checkpoint of another run.
    """

    workers: Any = None
    checkpoint: str | Path | None = None
    _: dataclasses.KW_ONLY
    seconds: float | int | None = None
    progress: bool = False
    piece: int = 2**16
    groups: int = 16

    def __post_init__(self) -> None:
        if self.workers is not None and (isinstance(self.workers, type) or not isinstance(self.workers, Workers)):
            raise TypeError(f"workers must be Processes(2) or Ray(), say, got {describe(self.workers)}")
        if self.seconds is not None:
            check_positive("seconds", self.seconds)
        check_positive_int("piece", self.piece)
        check_positive_int("groups", self.groups)

    def run(self, task: Task) -> Folded:
        start, ended = time.monotonic(), None
        pieces = task.pieces(self.piece)
        file = None if self.checkpoint is None else Checkpoint(self.checkpoint, pieces)
        found = reached = (0, None) if file is None else file.load()
        with contextlib.ExitStack() as stack:
            try:
                tell = stack.enter_context((progress.shown if self.progress else progress.silent)(pieces, found[0]))
                # One name for both, or an interrupt could find a state and the number of its pieces apart.
                for reached in self._states(stack, pieces, *found):
                    tell(*reached)
                    if self.seconds is not None and time.monotonic() - start > self.seconds:
                        ended = f"ended after {self.seconds:g} s"
                        break
                    if file is not None:
                        file.save_in_passing(*reached)
            except KeyboardInterrupt:
                ended = "interrupted"
            except Lost as error:
                ended = str(error)
                if reached[1] is None:
                    raise
            finally:
                done, state = reached
                if file is not None and state is not None and done > found[0]:
                    file.save(done, state)
        if state is None:
            raise KeyboardInterrupt
        folded = pieces.read(done, state)
        if ended is None or done == pieces.count or pieces.enough(done, state):
            return folded
        return folded._replace(found=dataclasses.replace(folded.found, converged=False, ended=ended))

    def _states(
        self, stack: contextlib.ExitStack, pieces: Pieces, done: int, state: State | None
    ) -> Iterator[tuple[int, State]]:
        """How many pieces are done and what they come to, after each that was not; some are always under way."""
        if done == pieces.count or (state is not None and pieces.enough(done, state)):
            return
        crew: Crew = stack.enter_context((self.workers or Here()).open(pieces))
        left, begun = iter(range(done, pieces.count)), deque[Callable[[], State]]()
        while True:
            begun.extend(crew.submit(index) for index in _first(left, crew.ahead - len(begun)))
            if not begun:
                return
            piece = begun.popleft()()
            done, state = done + 1, piece if state is None else pieces.merge(state, piece)
            yield done, state
            if pieces.enough(done, state):
                return


def _first(indices: Iterator[int], count: int) -> list[int]:
    return [index for _, index in zip(range(count), indices, strict=False)]


def for_chains(runner: Any) -> Runner | None:
    """A runner, if there is one; raises TypeError for what is none, ValueError for one of what chains have."""
    if runner is None:
        return None
    if not isinstance(runner, Runner):
        raise TypeError(f"runner must be a vt.running.Runner, of Processes(2) say, got {describe(runner)}")
    if (runner.checkpoint, runner.seconds, runner.progress) != (None, None, False):
        raise ValueError("runner: vt.sample has a checkpoint and progress of its own, and until=vt.running.Seconds(60)")
    return runner
