"""A line that shows how far a run is, what it has found and how long it will take."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from variate.estimates.blocks import State
from variate.estimates.tasks import Pieces

_SECONDS = 0.5  # between two readings


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
