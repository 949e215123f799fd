"""Numbers of a flat key beside those of the same key of JAX: the time they take, and what compiling them takes.

python benchmarks/generator.py            # a minute or two; rewrites benchmarks/results/generator.*
python benchmarks/generator.py --quick    # some seconds: that everything runs and the numbers are the same
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
import reports
import timing
from jax import Array, lax, random
from reports import Row
from rich.console import Console

from variate.programs import generator

KEY = random.key(0)


def lanes(function: Callable[[Array], Any], *counts: int) -> Callable[[Array], Any]:
    """One for each of so many keys, in as many nested `vmap`s."""

    def many(key: Array) -> Any:
        mapped = function
        for _ in counts:
            mapped = jax.vmap(mapped)
        return mapped(random.split(key, counts))

    return many


def steps(key: Array) -> Array:
    """A thousand steps, each of a vector and a number from keys of their own."""

    def step(total: Array, key: Array) -> tuple[Array, None]:
        own, other = random.split(key)
        return total + random.normal(own, (10,)) * random.uniform(other), None

    return lax.scan(step, np.zeros(10, np.float32), random.split(key, 1_000))[0]


CASES: dict[str, Callable[[Array], Any]] = {
    "1,000,000 uniform numbers, their sum": lambda key: random.uniform(key, (1_000_000,)).sum(),
    "1,000,000 normal numbers": lambda key: random.normal(key, (1_000_000,)),
    "32 normal numbers": lambda key: random.normal(key, (32,)),
    "normal numbers [64, 8, 8]": lambda key: random.normal(key, (64, 8, 8)),
    "4 normal numbers of each of 10,000 keys": lanes(lambda key: random.normal(key, (4,)), 10_000),
    "normal numbers [8, 4] of keys [2, 2, 4]": lanes(lambda key: random.normal(key, (8, 4)), 2, 2, 4),
    "1,000 steps of a scan": steps,
}


def measure(quick: bool) -> Iterator[Row]:
    seconds = 0.0 if quick else 2.0
    for name, case in CASES.items():

        def ours(key: Array, case: Callable = case) -> Any:
            return case(generator.flat(key))

        np.testing.assert_allclose(jax.jit(ours)(KEY), jax.jit(case)(KEY), rtol=1e-3, atol=1e-5)
        calls = (jax.jit(lambda key, f=f: (key, f(key))) for f in (ours, case))
        (pair,) = timing.compare(*(timing.repeated(call, KEY) for call in calls), seconds)
        yield Row.of(name, "a call", pair, 1.0)
        # A function of its own each time, as JAX keeps what it has compiled by the identity of the function.
        makes = (lambda f=f: partial(f) for f in (ours, case))
        *_, whole = timing.compare(*(partial(timing.stages, make, (KEY,)) for make in makes), seconds, width=0.05)
        yield Row.of(name, "tracing, lowering and compiling", whole, 1.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run: writes nothing and judges no speed")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    rows = list(measure(options.quick))
    return reports.finish(rows, "generator", "Random numbers: a flat key beside JAX's own", options.quick, console)


if __name__ == "__main__":
    sys.exit(main())
