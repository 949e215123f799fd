"""A line that shows how far a run is, what it has found and how long it will take."""

import contextlib
import time
from collections.abc import Callable, Iterator

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from variate.estimates.blocks import State
from variate.estimates.tasks import Pieces

from .chain_file import Reached

_SECONDS = 0.5  # between two readings


@contextlib.contextmanager
def chains_shown(warm: int, kept: int) -> Iterator[Callable[[Reached], None]]:
    """What is to be told of chains, which have so many blocks to do at most."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TextColumn("blocks"), TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        line, last = progress.add_task("warm-up", total=warm), [0.0]

        def tell(reached: Reached) -> None:
            done, total = (len(reached.kept), kept) if reached.kept else (len(reached.warm), warm)
            if time.monotonic() - last[0] > _SECONDS or done == total:
                last[0] = time.monotonic()
                info = (reached.kept or reached.warm)[-1][1].info
                lost = sum(int(np.sum(steps.info.divergent)) for _, steps in reached.kept)
                stage = f"draws, {lost} divergent" if reached.kept else "warm-up"
                text = f"{stage}, {np.mean(info.acceptance):.2f} accepted, {np.mean(info.evaluations):.0f} a step"
                progress.update(line, completed=done, total=total, description=text)

        yield tell


@contextlib.contextmanager
def chains_silent(warm: int, kept: int) -> Iterator[Callable[[Reached], None]]:
    """Nothing is told."""
    yield lambda reached: None


@contextlib.contextmanager
def shown(pieces: Pieces, done: int) -> Iterator[Callable[[int, State], None]]:
    """What is to be told of pieces that are done."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    times = TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, TextColumn("pieces"), *times, console=Console(stderr=True)) as progress:
        line, last = progress.add_task("sampling", total=pieces.count, completed=done), [0.0]

        def tell(done: int, state: State) -> None:
            if time.monotonic() - last[0] > _SECONDS or done == pieces.count:
                last[0] = time.monotonic()
                progress.update(line, completed=done, description=str(pieces.estimate(done, state)))

        yield tell


@contextlib.contextmanager
def silent(pieces: Pieces, done: int) -> Iterator[Callable[[int, State], None]]:
    """Nothing is told."""
    yield lambda done, state: None
