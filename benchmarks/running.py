"""What a `Runner` costs beside one compiled loop written by hand, and whether long runs are what they should be.

python benchmarks/running.py            # some ten minutes; rewrites benchmarks/results/running.*
python benchmarks/running.py --quick    # a minute: that everything runs and agrees
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import estimates
import jax
import jax.numpy as jnp
import numpy as np
import reports
import timing
from reports import Row
from rich.console import Console

import variate as vt
from variate.running import Processes, Ray, Runner

KEY, ONE, BLOCK, PIECE = jax.random.key(0), 1.0, 8_192, 2**22


def sampled(samples: int, **wanted: Any) -> vt.Estimate:
    runner = Runner(piece=PIECE, **wanted)
    return vt.expect(estimates.square, num_samples=samples, block_size=BLOCK, runner=runner)(jax.random.clone(KEY), ONE)


def throughput(samples: int, budget: float) -> Iterator[Row]:
    hand = jax.jit(estimates.by_hand(estimates.square_by_hand, samples, BLOCK))

    def ours() -> Any:
        return sampled(samples).value

    def peer() -> Any:
        return hand(jax.random.clone(KEY), jnp.asarray(ONE))[0]

    def seconds(run: Callable[[], Any]) -> timing.Measurement:
        def measure() -> list[float]:
            start = time.perf_counter()
            jax.block_until_ready(run())
            return [time.perf_counter() - start]

        return measure

    np.testing.assert_allclose(ours(), peer(), rtol=1e-2)
    (pair,) = timing.compare(seconds(ours), seconds(peer), budget)
    yield Row.of("throughput", f"{samples:,} samples, time", pair, 1 / 0.9)


def alone(arguments: list[str]) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, __file__, "--alone", *arguments], stdout=subprocess.PIPE, text=True)


def run_alone(samples: int, path: str, workers: str) -> None:
    """In a process of its own: the value, the memory above that of the imports, and the seconds."""
    kinds = {"one": None, "two": Processes(2), "ray": Ray()}
    before = memory("VmRSS")
    start = time.perf_counter()
    found = sampled(samples, checkpoint=path, workers=kinds[workers])
    seconds = time.perf_counter() - start
    print(found.value.item().hex(), memory("VmHWM") - before, seconds)


def memory(what: str) -> float:
    """Of this process, in MB: what it holds (VmRSS), or the most that it ever held (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


def answer(process: subprocess.Popen) -> tuple[str, float, float]:
    value, used, seconds = process.communicate()[0].split()
    return value, float(used), float(seconds)


def half_done(process: subprocess.Popen, path: Path, samples: int) -> float:
    """Waits for the checkpoint of a run's first half, and says how much it holds."""
    while process.poll() is None:
        if path.exists():
            with np.load(path) as file:
                share = int(file["done"]) * PIECE / samples
            if share >= 0.5:
                return share
        time.sleep(0.01)
    raise RuntimeError("it had ended before anybody could interrupt it")


def children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            after_name = path.read_text().rpartition(")")[2].split()
            if int(after_name[1]) == parent:
                found.append(int(path.parent.name))
    return found


def scale(samples: int, folder: Path) -> Iterator[Row]:
    count = str(samples)
    value, used, seconds = answer(alone([count, str(folder / "one.npz"), "one"]))
    name = f"{samples:,} samples"
    yield Row(name, "memory above that of the imports", used, None, "MB", bound=300)
    yield Row(name, "one process", seconds, None, "s")

    half = alone([count, str(folder / "half.npz"), "one"])
    done = half_done(half, folder / "half.npz", samples)
    half.send_signal(signal.SIGKILL)
    half.communicate()
    again, _, rest = answer(alone([count, str(folder / "half.npz"), "one"]))
    yield Row(name, f"killed at {done:.0%} and resumed: other bits", int(again != value), None, "", bound=0)
    yield Row(name, "what was left", rest, None, "s")

    both, _, seconds_both = answer(alone([count, str(folder / "two.npz"), "two"]))
    yield Row(name, "two processes: other bits", int(both != value), None, "", bound=0)
    yield Row(name, "two processes", seconds_both, None, "s")

    losing = alone([count, str(folder / "lost.npz"), "two"])
    half_done(losing, folder / "lost.npz", samples)
    os.kill(children(losing.pid)[0], signal.SIGKILL)
    lost, _, seconds_lost = answer(losing)
    yield Row(name, "one of two killed half-way: other bits", int(lost != value), None, "", bound=0)
    yield Row(name, "one of two killed half-way", seconds_lost, None, "s")

    cluster, _, seconds_cluster = answer(alone([count, str(folder / "ray.npz"), "ray"]))
    yield Row(name, "a local Ray cluster: other bits", int(cluster != value), None, "", bound=0)
    yield Row(name, "a local Ray cluster", seconds_cluster, None, "s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--alone", nargs=3)
    options = parser.parse_args()
    if options.alone:
        samples, path, workers = options.alone
        return run_alone(int(samples), path, workers)
    many, few = (10**8, 2**22) if options.quick else (10**9, 2**26)
    with tempfile.TemporaryDirectory() as folder:
        rows = [*throughput(few, 0.0 if options.quick else 60.0), *scale(many, Path(folder))]
    Console(width=150).print(reports.table(rows))
    if not options.quick:
        reports.write(rows, Path(__file__).parent / "results" / "running", "Long runs")


if __name__ == "__main__":
    main()
