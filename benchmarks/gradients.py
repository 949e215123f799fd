"""What `vt.value_and_grad` costs beside the same estimator written by hand, in JAX and in PyTorch.

python benchmarks/gradients.py            # some ten minutes; rewrites benchmarks/results/gradients.*
python benchmarks/gradients.py --quick    # under a minute: that everything runs and the estimates agree
"""

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

# Settled when JAX and PyTorch are imported; on two cores XLA would still pass work from one to the other.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["OMP_NUM_THREADS"] = "1"

import jax
import jax.numpy as jnp
import numpy as np
import peers_jax
import programs
import reports
import timing
from programs import Case
from reports import Row
from rich.console import Console

KEY = jax.random.key(0)


class Effort(NamedTuple):
    """Seconds that one comparison may take, how many programs, samples for error bars, sizes of programs to stage."""

    seconds: float
    cases: int
    samples: tuple[int, ...]
    equations: tuple[int, ...]
    draws: tuple[int, ...]


FULL = Effort(20.0, 3, (16, 64), (100, 1_000, 10_000), (100, 300, 1_000))
QUICK = Effort(0.0, 1, (16,), (20, 60), (2, 6))


def measure(effort: Effort) -> Iterator[Row]:
    *large, small = programs.cases()
    for case in (*large, small):
        check_agreement(case)
    for case in large[-effort.cases :]:
        yield from steps(case, effort)
        yield from memory(case)
        yield from compiling(case, effort)
        yield from error_bars(case, effort)
    yield from dispatch(small, effort)
    yield from growth("equations", effort.equations, effort)
    yield from growth("draws", effort.draws, effort)
    if importlib.util.find_spec("torch"):
        yield from against_torch(large[0], effort)
    if importlib.util.find_spec("storch"):
        yield from against_storchastic(small, effort)


def arguments(case: Case) -> tuple:
    return case.params, KEY, *case.data


def ours(case: Case, samples: int | None = None, stderr: bool = False) -> Callable:
    return programs.step(case.program, samples or case.samples, stderr)


def by_hand(case: Case) -> Callable:
    return peers_jax.step(getattr(peers_jax, case.program.__name__), case.samples)


def check_agreement(case: Case) -> None:
    """Both give one estimate: the same key, the same numbers."""
    step, hand = jax.jit(ours(case))(*arguments(case)), jax.jit(by_hand(case))(*arguments(case))
    leaves = map(jax.tree.leaves, ((case.params, 0.0), step, hand))
    for before, a, b in zip(*leaves, strict=True):
        off = jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b - before))
        if not off < 1e-3:  # of a step that is itself a small part of the parameters, in single precision
            raise AssertionError(f"{case.name}: the two estimates differ by {off:.1e} of their size")


def steps(case: Case, effort: Effort) -> Iterator[Row]:
    mine, theirs = (timing.repeated(jax.jit(step), *arguments(case)) for step in (ours(case), by_hand(case)))
    (pair,) = timing.compare(mine, theirs, effort.seconds)
    yield Row.of(case.name, "a step", pair, 1.05)


def memory(case: Case) -> Iterator[Row]:
    def kilobytes(step: Callable) -> float:
        used = jax.jit(step).lower(*arguments(case)).compile().memory_analysis()
        return (used.temp_size_in_bytes + used.output_size_in_bytes) / 1024

    mine, theirs = kilobytes(ours(case)), kilobytes(by_hand(case))
    yield Row(case.name, "peak memory", mine, theirs, "KiB", mine / theirs, bound=1.1)


def compiling(case: Case, effort: Effort) -> Iterator[Row]:
    mine, theirs = (partial(timing.stages, partial(make, case), arguments(case)) for make in (ours, by_hand))
    tracing, staging, whole = timing.compare(mine, theirs, 2 * effort.seconds, width=0.05)
    yield Row.of(case.name, "tracing", tracing, 3.0)
    yield Row.of(case.name, "tracing and lowering", staging, 3.0)
    yield Row.of(case.name, "tracing, lowering and compiling", whole, 1.5)


def error_bars(case: Case, effort: Effort) -> Iterator[Row]:
    for samples in effort.samples:
        having, lacking = (timing.repeated(jax.jit(ours(case, samples, e)), *arguments(case)) for e in (True, False))
        (pair,) = timing.compare(having, lacking, effort.seconds)
        yield Row.of(case.name, f"error bars, {samples} samples (peer: without)", pair, 1.3)


def dispatch(case: Case, effort: Effort) -> Iterator[Row]:
    """A step of a toy is little more than the call of a compiled function."""

    def nothing(params, key):
        return params, jnp.zeros(())

    step, hand, empty = (timing.repeated(jax.jit(f), *arguments(case)) for f in (ours(case), by_hand(case), nothing))
    (pair,) = timing.compare(step, hand, effort.seconds)
    yield Row.of(case.name, "a step", pair, None)
    yield Row(case.name, "a step, in all", 1e3 * pair.ours, None, "ms", bound=0.012)
    (pair,) = timing.compare(step, empty, effort.seconds)
    yield Row.of(case.name, "a step (peer: an empty function)", pair, None)


def growth(kind: str, sizes: tuple[int, ...], effort: Effort) -> Iterator[Row]:
    """Staging of ever longer programs."""
    args, each = (jnp.asarray(0.3), KEY), []
    for size in sizes:
        mine = partial(programs.step, getattr(programs, kind)(size), 4)
        theirs = partial(peers_jax.step, getattr(peers_jax, kind)(size), 4)
        measurements = (partial(timing.stages, make, args, compiling=False) for make in (mine, theirs))
        tracing, staging = timing.compare(*measurements, effort.seconds, width=0.05)
        yield Row.of(f"{size:,} {kind}", "tracing", tracing, 3.0)
        yield Row.of(f"{size:,} {kind}", "tracing and lowering", staging, 3.0)
        each.append(1e3 * staging.ours / size)
    what = f"staging of each (peer: of {sizes[0]:,})"
    yield Row(f"{sizes[-1]:,} {kind}", what, each[-1], each[0], "ms", each[-1] / each[0], bound=1.2)


def against_torch(case: Case, effort: Effort) -> Iterator[Row]:
    import peers_torch

    theirs = timed(case, peers_torch.autoencoder(case.params, *case.data, case.samples))
    mine, hand = (timing.repeated(jax.jit(f), *arguments(case)) for f in (ours(case), by_hand(case)))
    (pair,) = timing.compare(mine, theirs, effort.seconds)
    yield Row.of(case.name, "a step (peer: PyTorch by hand)", pair, 1.0)
    (pair,) = timing.compare(hand, theirs, effort.seconds)
    yield Row.of(case.name, "JAX by hand (peer: PyTorch by hand)", pair, None)


def against_storchastic(case: Case, effort: Effort) -> Iterator[Row]:
    """0.012 ms to its 1.2 ms, as a ratio that does not depend on the machine."""
    import peers_torch

    theirs = timed(case, peers_torch.toy(case.params, case.samples))
    (pair,) = timing.compare(timing.repeated(jax.jit(ours(case)), *arguments(case)), theirs, effort.seconds)
    yield Row.of(case.name, "a step (peer: Storchastic)", pair, 0.01)


def timed(case: Case, step: Callable[[], float]) -> timing.Measurement:
    """A peer's step, which takes care of its own parameters."""
    if not np.isfinite(value := step()):
        raise AssertionError(f"{case.name}: the peer's value is {value}")

    def once() -> tuple[float]:
        start = time.process_time()
        step()
        return (time.process_time() - start,)

    return once


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run: writes nothing and judges no speed")
    options = parser.parse_args()
    effort = QUICK if options.quick else FULL
    console = Console(width=None if sys.stdout.isatty() else 140)
    with console.status("measuring") as status:
        rows = []
        for row in measure(effort):
            rows.append(row)
            status.update(f"measured: {row.program}, {row.what}")
    missed = reports.finish(rows, "gradients", "Gradients: ours against by hand", options.quick, console)
    missing = [name for name in ("torch", "storch") if importlib.util.find_spec(name) is None]
    if missing:
        console.print(rf"There is no comparison with {', '.join(missing)}: pip install '.\[bench]'")
    return missed


if __name__ == "__main__":
    sys.exit(main())
