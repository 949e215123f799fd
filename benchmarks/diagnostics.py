"""Distances between samples beside those of POT (Python Optimal Transport).

python benchmarks/diagnostics.py            # a minute; rewrites benchmarks/results/diagnostics.*
python benchmarks/diagnostics.py --quick    # seconds: that everything runs and the distances agree
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import ot
import reports
import timing
from reports import Row
from rich.console import Console
from sklearn.datasets import load_digits

from variate.diagnostics import Sphere, max_sliced_wasserstein, sliced_wasserstein
from variate.diagnostics.max_sliced import farthest, starts

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


def farthest_lines(budget: float, repeats: int) -> Iterator[Row]:
    """The maximum over directions: of these samples, where more is better, and of their distributions."""
    climb = jax.jit(lambda key, x, y: farthest(2.0, starts(key, 16, x, y), 64, x, y)[1])

    def random(x: np.ndarray, y: np.ndarray, seed: int) -> float:
        return float(ot.max_sliced_wasserstein_distance(x, y, n_projections=DIRECTIONS, seed=seed)) ** 2

    for scale, name in ((2.0, "64 coordinates, one of twice the spread"), (1.0, "64 coordinates, no difference")):
        draws = np.random.default_rng(1).normal(size=(repeats, 2, 1_000, 64)).astype(np.float32)
        draws[:, 1, :, 0] *= scale
        find = [max_sliced_wasserstein(x, y)(jax.random.key(i)).distance for i, (x, y) in enumerate(draws)]
        value, stderr = (np.array([getattr(each, what) for each in find]) for what in ("value", "stderr"))
        climbed = [float(climb(jax.random.key(i), jnp.asarray(x), jnp.asarray(y))) for i, (x, y) in enumerate(draws)]
        drawn = [random(x, y, i) for i, (x, y) in enumerate(draws)]
        x, y = draws[0]
        ours = max_sliced_wasserstein(x, y)
        (pair,) = timing.compare(
            seconds(lambda seed, ours=ours: float(ours(jax.random.key(seed)).distance.value)),
            seconds(lambda seed, x=x, y=y: random(x, y, seed)),
            budget,
        )
        yield Row.of(name, f"time of the farthest line, POT's of {DIRECTIONS:,}", pair, None)
        yield Row(name, "maximum of these samples", float(np.mean(climbed)), float(np.mean(drawn)), "")
        truth = (scale - 1) ** 2
        yield Row(name, f"maximum of the distributions, {truth:.0f}", float(value.mean()), float(np.mean(drawn)), "")
        yield Row(name, "mean error bar, which POT has none of", float(stderr.mean()), None, "")
        above = float(np.mean(value - 1.645 * stderr > truth))
        yield Row(name, "share of bounds at 95 % that are above the truth", above, None, "")


def spheres(budget: float, repeats: int) -> Iterator[Row]:
    """Not one distance, so the spread is beside the value."""
    random, name = np.random.default_rng(2), "directions, 500 each in 3 dimensions"
    x, y = random.normal(size=(2, 500, 3)).astype(np.float32)
    y[:, 2] += 1
    x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
    find = sliced_wasserstein(x, y, on=Sphere(), num_samples=256)

    def ours(seed: int) -> float:
        return float(find(jax.random.key(seed)).value)

    def peer(seed: int) -> float:
        return float(ot.sliced_wasserstein_sphere(x, y, n_projections=256, seed=seed)) ** 2

    one, other = (np.array([run(seed) for seed in range(repeats)]) for run in (ours, peer))
    (pair,) = timing.compare(seconds(ours), seconds(peer), budget)
    yield Row.of(name, "time of 256 functions, or great circles", pair, None)
    spreads = [float(each.std(ddof=1) / each.mean()) for each in (one, other)]
    yield Row(name, "standard deviation beside the value", *spreads, "", ratio=spreads[0] / spreads[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    budget, repeats = (0.0, 20) if quick else (10.0, 50)
    rows = [row for part in (measure, farthest_lines, spheres) for row in part(budget, repeats)]
    Console(width=130).print(reports.table(rows))
    if not quick:
        reports.write(rows, Path(__file__).parent / "results" / "diagnostics", "Distances between samples")


if __name__ == "__main__":
    main()
