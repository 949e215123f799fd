"""What `vt.value_and_grad` costs beside the same estimator written by hand, in JAX and in PyTorch.

    python benchmarks/gradients.py            # some ten minutes; rewrites benchmarks/results/gradients.*
    python benchmarks/gradients.py --quick    # seconds: that everything runs and the estimates agree
"""

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import peers_jax
import programs
import timing
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
KEY = jax.random.key(0)


class Row(NamedTuple):
    """One comparison; without a `peer` it is a number of ours, without a `bound` it is for information."""

    what: str
    ours: float
    peer: float | None
    unit: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    bound: float | None = None

    @property
    def ok(self) -> bool | None:
        if self.bound is None:
            return None
        return (self.ours if self.ratio is None else self.ratio) <= self.bound


class Budget(NamedTuple):
    """Seconds that one comparison may take, and the largest programs to stage."""

    seconds: float
    equations: tuple[int, ...]
    draws: tuple[int, ...]


FULL = Budget(20.0, (100, 1_000, 10_000), (100, 300, 1_000))
QUICK = Budget(0.0, (100, 300), (10, 30))


def row(what: str, pair: timing.Pair, bound: float | None, unit: str = "ms") -> Row:
    return Row(what, 1e3 * pair.ours, 1e3 * pair.peer, unit, pair.ratio, pair.low, pair.high, bound)


def hand(case: programs.Case) -> Callable:
    """The program of a case as written by hand."""
    return getattr(peers_jax, case.program.__name__)


def check_agreement(case: programs.Case) -> None:
    """Both give one estimate: the same key, the same numbers."""
    args = (case.params, KEY, *case.data)
    ours = jax.jit(programs.step(case.program, case.samples))(*args)
    theirs = jax.jit(peers_jax.step(hand(case), case.samples))(*args)
    for before, a, b in zip(jax.tree.leaves((case.params, 0)), *map(jax.tree.leaves, (ours, theirs)), strict=True):
        off = jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b - before))
        if not off < 1e-3:  # of a step that is itself a small part of the parameters, in single precision
            raise AssertionError(f"{case.name}: the two estimates differ by {off:.1e} of their size")


def run_time(case: programs.Case, budget: Budget) -> Iterator[Row]:
    args = (case.params, KEY, *case.data)
    ours = timing.repeated(jax.jit(programs.step(case.program, case.samples)), *args)
    peer = timing.repeated(jax.jit(peers_jax.step(hand(case), case.samples)), *args)
    yield row(f"{case.name}: a step", timing.compare(ours, peer, budget.seconds), 1.05)


def memory(case: programs.Case) -> Iterator[Row]:
    args = (case.params, KEY, *case.data)

    def kilobytes(step: Callable) -> float:
        used = jax.jit(step).lower(*args).compile().memory_analysis()
        return (used.temp_size_in_bytes + used.output_size_in_bytes) / 1024

    ours = kilobytes(programs.step(case.program, case.samples))
    peer = kilobytes(peers_jax.step(hand(case), case.samples))
    yield Row(f"{case.name}: memory", ours, peer, "KiB", ours / peer, bound=1.1)


def before_running(case: programs.Case, budget: Budget) -> Iterator[Row]:
    args = (case.params, KEY, *case.data)
    ours = partial(timing.stages, lambda: programs.step(case.program, case.samples), args)
    peer = partial(timing.stages, lambda: peers_jax.step(hand(case), case.samples), args)
    whole = timing.compare(lambda: sum(ours()), lambda: sum(peer()), budget.seconds, width=0.05)
    yield row(f"{case.name}: compiling, all of it", whole, 1.5)
    yield from staging(case.name, partial(ours, compiling=False), partial(peer, compiling=False), budget)


def staging(name: str, ours: Callable, peer: Callable, budget: Budget) -> Iterator[Row]:
    """Everything before XLA, and the part of it that is Python's tracing."""
    whole = timing.compare(lambda: sum(ours()[:2]), lambda: sum(peer()[:2]), budget.seconds / 2, width=0.05)
    yield row(f"{name}: staging", whole, 3.0)
    traced = timing.compare(lambda: ours().trace, lambda: peer().trace, budget.seconds / 2, width=0.05)
    yield row(f"{name}: staging, tracing alone", traced, 3.0)


def growth(kind: str, sizes: tuple[int, ...], budget: Budget) -> Iterator[Row]:
    """Staging of ever longer programs."""
    spent = []
    for size in sizes:
        samples = 4
        args = (jnp.asarray(0.3), KEY)
        mine, theirs = getattr(programs, kind)(size), getattr(peers_jax, kind)(size)
        ours = partial(timing.stages, partial(programs.step, mine, samples), args, compiling=False)
        peer = partial(timing.stages, partial(peers_jax.step, theirs, samples), args, compiling=False)
        rows = list(staging(f"{size:,} {kind}", ours, peer, budget))
        spent.append(rows[0].ours / size)
        yield from rows
    yield Row(
        f"{kind}: staging of each, {sizes[-1]:,} against {sizes[0]:,}",
        1e3 * spent[-1],
        1e3 * spent[0],
        "µs",
        spent[-1] / spent[0],
        bound=1.2,
    )


def error_bars(case: programs.Case, samples: int, budget: Budget) -> Iterator[Row]:
    args = (case.params, KEY, *case.data)
    having = timing.repeated(jax.jit(programs.step(case.program, samples, stderr=True)), *args)
    lacking = timing.repeated(jax.jit(programs.step(case.program, samples)), *args)
    pair = timing.compare(having, lacking, budget.seconds)
    yield row(f"{case.name}: with error bars, {samples} samples, against without", pair, 1.3)


def dispatch(case: programs.Case, budget: Budget) -> Iterator[Row]:
    """A step of a toy is the cost of calling a compiled function."""
    step = timing.repeated(jax.jit(programs.step(case.program, case.samples)), case.params, KEY)
    nothing = timing.repeated(jax.jit(lambda params, key: (params, jnp.zeros(()))), case.params, KEY)
    pair = timing.compare(step, nothing, budget.seconds)
    yield row(f"{case.name}: a step against an empty function's", pair, None)
    yield Row(f"{case.name}: a step", 1e3 * pair.ours, None, "ms", bound=0.012)


def against_torch(case: programs.Case, budget: Budget) -> Iterator[Row]:
    """For a process of one thread."""
    import peers_torch

    ours = timing.repeated(jax.jit(programs.step(case.program, case.samples)), case.params, KEY, *case.data)
    by_hand = timing.repeated(jax.jit(peers_jax.step(hand(case), case.samples)), case.params, KEY, *case.data)
    step = peers_torch.autoencoder(case.params, *case.data, case.samples)
    if not np.isfinite(value := step()):
        raise AssertionError(f"{case.name}: PyTorch's value is {value}")

    def peer() -> float:
        start = time.perf_counter()
        step()
        return time.perf_counter() - start

    yield row(f"{case.name}: a step on one thread, against PyTorch's", timing.compare(ours, peer, budget.seconds), 1.0)
    pair = timing.compare(by_hand, peer, budget.seconds)
    yield row(f"{case.name}: by hand in JAX on one thread, against PyTorch's", pair, None)


def in_one_thread(quick: bool) -> list[Row]:
    """Threads are fixed when a process starts."""
    command = [sys.executable, __file__, "--torch", *["--quick"] * quick]
    environment = {**os.environ, "XLA_FLAGS": ONE_THREAD, "OMP_NUM_THREADS": "1"}
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return [Row(*fields) for fields in json.loads(output.splitlines()[-1])]


def measure(quick: bool) -> Iterator[Row]:
    budget = QUICK if quick else FULL
    cases = programs.cases()
    large, small = cases[:-1], cases[-1]
    for case in cases:
        check_agreement(case)
    for case in large:
        yield from run_time(case, budget)
        yield from memory(case)
        yield from before_running(case, budget)
        for samples in (16,) if quick else (16, 64):
            yield from error_bars(case, samples, budget)
    yield from dispatch(small, budget)
    yield from growth("equations", budget.equations, budget)
    yield from growth("draws", budget.draws, budget)
    if importlib.util.find_spec("torch"):
        yield from in_one_thread(quick)


def table(rows: list[Row]) -> Table:
    shown = Table("what", "ours", "peer", "ratio", "95%", "bound", "ok", title="Gradients: ours against by hand")
    for column in shown.columns[1:]:
        column.justify = "right"
    for cells in map(texts, rows):
        shown.add_row(*cells)
    return shown


def texts(row: Row) -> list[str]:
    def number(value: float | None, unit: str = "") -> str:
        return "" if value is None else f"{value:.3g}{unit}" if value < 1000 else f"{value:,.0f}{unit}"

    interval = "" if row.low is None or row.high is None else f"{row.low:.2f}–{row.high:.2f}"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    ok = {True: "yes", False: "NO", None: ""}[row.ok]
    unit = f" {row.unit}"
    bound = "" if row.bound is None else f"≤ {row.bound:g}" + (unit if row.ratio is None else "")
    return [row.what, number(row.ours, unit), number(row.peer, unit), ratio, interval, bound, ok]


def machine() -> dict[str, Any]:
    names = [name for name in ("jax", "jaxlib", "numpyro", "variate", "torch") if importlib.util.find_spec(name)]
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: _version(name) for name in names},
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str:
    return version(name) if name != "variate" else __import__("variate").__version__


def write(rows: list[Row]) -> None:
    RESULTS.mkdir(exist_ok=True)
    found = {"machine": machine(), "rows": [{**r._asdict(), "ok": r.ok} for r in rows]}
    (RESULTS / "gradients.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    about = ", ".join(f"{name} {value}" for name, value in machine().items())
    lines = ["# Gradients: ours against by hand", "", f"{about}.", ""]
    lines += ["| what | ours | peer | ratio | 95% | bound | ok |", "|---|--:|--:|--:|--:|--:|--:|"]
    lines += [f"| {' | '.join(texts(r))} |" for r in rows]
    (RESULTS / "gradients.md").write_text("\n".join(lines) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds; writes nothing, judges no speed")
    parser.add_argument("--torch", action="store_true", help=argparse.SUPPRESS)  # the child process of one thread
    options = parser.parse_args()
    if options.torch:
        rows = list(against_torch(programs.cases()[0], QUICK if options.quick else FULL))
        print(json.dumps(rows))
        return 0
    console, rows = Console(), []
    for found in measure(options.quick):
        rows.append(found)
        console.print(*texts(found), sep="  ")
    console.print(table(rows))
    if importlib.util.find_spec("torch") is None:
        console.print("PyTorch is not installed, so there is no comparison with it: pip install '.\\[bench]'")
    if options.quick:
        return 0
    write(rows)
    return int(any(r.ok is False for r in rows))


if __name__ == "__main__":
    sys.exit(main())
