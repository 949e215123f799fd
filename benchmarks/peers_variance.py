"""What each estimator of the variance benchmark is measured by, here and in a peer's own process."""

import importlib
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SAMPLES = 16
ROUNDING = 3e-5  # of the largest coordinate: what single precision leaves of a difference of two larger costs
BATCHES, LEAST = 8, 0.2  # how many times are taken, and how many seconds they last in all at least
SLOW, FEW = 8.0, 12  # seconds that replicates may take before they are fewer, and how few they may become

# Of problems whose outcomes do not fit into memory, for what goes through them all.
OUTCOMES = {
    "autoencoder of dice": "5^10",
    "autoencoder of coins": "2^32",
    "walk of 100 coins": "2^100",
    "20 decisions": "12^20",
    "Poisson queue": "infinitely many",
}


class Found(NamedTuple):
    """A gradient's mean and its standard error, the variance summed over coordinates, and the seconds one takes."""

    mean: np.ndarray
    errors: np.ndarray
    variance: float
    stderr: float  # of the variance
    seconds: float
    replicates: int

    @property
    def product(self) -> float:
        return self.variance * self.seconds

    @property
    def relative(self) -> float:
        """The standard error of the variance, as a part of it."""
        return self.stderr / self.variance if self.variance else 0.0


def measured(gradient: Callable[[int], np.ndarray], replicates: int) -> Found:
    """Of `gradient(seed)`, a vector: how it varies over seeds, and the fastest of several batches of calls.

    A call is what a user makes: it ends when the numbers are there, and dispatch is in it. Seconds are the
    processor's, of all threads, since other programs take turns with this one. What is slow is called fewer times.
    """
    gradient(0)
    before = time.process_time()
    gradient(0)
    replicates = min(replicates, max(FEW, int(SLOW / max(time.process_time() - before, 1e-9))))
    batches, times, start = np.array_split(np.arange(1, replicates + 1), BATCHES), [], time.process_time()
    rows: list[np.ndarray] = []
    while len(times) < BATCHES or time.process_time() - start < LEAST:
        batch = batches[len(times) % BATCHES]
        before = time.process_time()
        found = [gradient(int(seed)) for seed in batch]
        times.append((time.process_time() - before) / len(batch))
        rows += found if len(times) <= BATCHES else []
    return of_rows(np.asarray(rows, np.float64), min(times))


def of_rows(rows: np.ndarray, seconds: float) -> Found:
    count, mean = len(rows), np.mean(rows, axis=0)
    squares = np.sum((rows - mean) ** 2, axis=1) * count / (count - 1)
    errors = np.std(rows, axis=0, ddof=1) / np.sqrt(count)
    stderr = np.std(squares, ddof=1) / np.sqrt(count)
    return Found(mean, errors, float(np.mean(squares)), float(stderr), seconds, count)


def in_few_words(error: BaseException) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    words = f"{type(error).__name__}: {re.sub(r'[^ ]*<locals>[.]', '', first)}"  # the last name is the function's
    return words if len(words) <= 80 else words[:77] + "..."


def others(name: str, params: list[np.ndarray], data: Sequence[np.ndarray]) -> Iterator[tuple[str, Any]]:
    """Gradients of a problem by peers that run in this process, or why there are none."""
    for peer, module in (("Storchastic", "peers_variance_storch"), ("Pyro", "peers_variance_pyro")):
        try:
            found = importlib.import_module(module)
        except ImportError as error:
            yield peer, in_few_words(error)
        else:
            yield from found.estimators(name, params, list(data))


def elsewhere(
    python: str, arrays: dict[str, np.ndarray], replicates: int, about: dict[str, str]
) -> Iterator[tuple[int, str, Found | str]]:
    """The number of a problem, a name, and what peers found that need a JAX of their own; `about` gets versions."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problems.npz"
        np.savez(path, **arrays)
        program = Path(__file__).with_name("peers_variance_jax.py")
        command = [python, str(program), str(path), str(replicates)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            for line in process.stdout or ():
                row = json.loads(line)
                about.update(row.pop("about", {}))
                if not row:
                    continue
                number, label = row.pop("problem"), row.pop("label")
                yield number, label, row["failed"] if "failed" in row else _found(row)


def _found(row: dict[str, Any]) -> Found:
    return Found(**{**row, "mean": np.array(row["mean"]), "errors": np.array(row["errors"])})
