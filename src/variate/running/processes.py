"""Worker processes on this machine; one that dies is replaced, and its piece done again."""

import contextlib
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from jaxtyping import PyTree

from variate.checks import check_positive_int

from .base import Lost, Work, environment, packed, state_of

_TRIES = 3


@dataclass(frozen=True)
class Processes:
    """So many processes, each with its own JAX, for a `Runner`.

    They import what the function needs under the names it has here; what was defined in a script or a notebook is sent
    along. An accelerator is shared between them, which is rarely what one wants. A worker that dies is replaced and
    costs the piece that it was at; a piece that three of them die of ends the run.

    Raises `ValueError` for a count that is not positive.
    """

    count: int

    def __post_init__(self) -> None:
        check_positive_int("count", self.count)

    @contextlib.contextmanager
    def open(self, pieces: Work) -> Iterator["_Crew"]:
        crew = _Crew(packed(pieces), pieces.like(), self.count)
        try:
            yield crew
        finally:
            crew.close()


class _Crew:
    def __init__(self, payload: bytes, like: PyTree, count: int):
        self.payload, self.like, self.ahead = payload, like, 2 * count
        self.idle: queue.SimpleQueue[subprocess.Popen | None] = queue.SimpleQueue()
        self.started: list[subprocess.Popen] = []
        self.threads = ThreadPoolExecutor(count)
        self.starting, self.closed = threading.Lock(), False
        for _ in range(count):
            self.idle.put(None)

    def submit(self, order: Any) -> Callable[[], PyTree]:
        answer = self.threads.submit(self._do, order)
        return lambda: state_of(answer.result(), self.like)

    def close(self) -> None:
        with self.starting:  # a thread whose worker is killed here would start another
            self.closed = True
            for process in self.started:
                process.kill()
        self.threads.shutdown(cancel_futures=True)
        for process in self.started:
            process.communicate()

    def _do(self, order: Any) -> Any:
        worker = self.idle.get()
        try:
            for _ in range(_TRIES):
                worker = worker or self._start()
                answer = _ask(worker, order)
                if isinstance(answer, str):
                    raise Lost(f"piece {order} failed in a worker: {answer}")
                if answer is not None:
                    return answer
                worker = None
            raise Lost(f"piece {order} lost {_TRIES} workers, one after the other")
        finally:
            self.idle.put(worker)

    def _start(self) -> subprocess.Popen:
        with self.starting:
            if self.closed:
                raise Lost("the workers were sent home")
            # In a session of its own, so that an interrupt from the keyboard is for whoever gives the orders.
            worker = subprocess.Popen(
                [sys.executable, "-m", "variate.running.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment(),
                start_new_session=True,
            )
            self.started.append(worker)
        with contextlib.suppress(OSError):
            _send(worker, self.payload)
        return worker


def _ask(worker: subprocess.Popen, order: Any) -> Any:
    """The numbers of a piece, or what went wrong with it; None of a worker that died."""
    try:
        _send(worker, order)
        assert worker.stdout is not None
        return pickle.load(worker.stdout)
    except (OSError, EOFError, pickle.UnpicklingError):
        return None


def _send(worker: subprocess.Popen, value: Any) -> None:
    assert worker.stdin is not None
    pickle.dump(value, worker.stdin)
    worker.stdin.flush()
