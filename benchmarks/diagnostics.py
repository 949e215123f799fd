"""Sliced Wasserstein distances beside those of POT (Python Optimal Transport).

python benchmarks/diagnostics.py            # a minute; rewrites benchmarks/results/diagnostics.*
python benchmarks/diagnostics.py --quick    # seconds: that everything runs and the distances agree
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import ot
import reports
import timing
from reports import Row
from rich.console import Console
from sklearn.datasets import load_digits

from variate.diagnostics import sliced_wasserstein

DIRECTIONS = 1_024


def problems() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    random = np.random.default_rng(0)
    yield (
        "normals, 500 and 400 in 20 dimensions",
        random.normal(size=(500, 20)),
        0.2 + 1.3 * random.normal(size=(400, 20)),
    )
    clouds = [random.normal(size=(2_048, 3)) for _ in range(2)]
    rings = clouds[0] / np.linalg.norm(clouds[0], axis=1, keepdims=True) * np.array([1, 2, 0.5])
    yield "point clouds, 2,048 each in 3 dimensions", rings, 0.5 * clouds[1]
    digits = random.permutation(load_digits().data / 16)
    yield "digits, two halves in 64 dimensions", digits[:898], digits[898:1796]


def seconds(run: Callable[[int], Any]) -> timing.Measurement:
    calls = iter(range(10**9))

    def measure() -> list[float]:
        start = time.process_time()
        run(next(calls))
        return [time.process_time() - start]

    return measure


def measure(budget: float, repeats: int) -> Iterator[Row]:
    for name, x, y in problems():
        x, y = x.astype(np.float32), y.astype(np.float32)
        find = sliced_wasserstein(x, y, num_samples=DIRECTIONS)

        def ours(seed: int, find: Callable = find) -> float:
            return float(find(jax.random.key(seed)).value)

        def peer(seed: int, x: np.ndarray = x, y: np.ndarray = y) -> float:
            return float(ot.sliced_wasserstein_distance(x, y, n_projections=DIRECTIONS, seed=seed)) ** 2

        one, other = (np.array([run(seed) for seed in range(repeats)]) for run in (ours, peer))
        spread, others = float(one.std(ddof=1)), float(other.std(ddof=1))
        stated = float(np.mean([find(jax.random.key(seed)).stderr for seed in range(repeats)]))
        assert abs(one.mean() - other.mean()) < 5 * np.hypot(one.std(), other.std()) / repeats**0.5
        (pair,) = timing.compare(seconds(ours), seconds(peer), budget)
        yield Row.of(name, f"time of {DIRECTIONS:,} directions", pair, None)
        yield Row(name, "standard deviation", spread, others, "", ratio=spread / others)
        yield Row(name, "mean error bar, which POT has none of", stated, None, "")
        cost = pair.ratio * (spread / others) ** 2
        yield Row(name, "variance x time", cost, 1.0, "", ratio=cost, bound=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    rows = list(measure(0.0 if quick else 10.0, 20 if quick else 50))
    Console(width=130).print(reports.table(rows))
    if not quick:
        reports.write(rows, Path(__file__).parent / "results" / "diagnostics", "Distances between samples")


if __name__ == "__main__":
    main()
