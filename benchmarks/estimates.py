"""What `vt.expect` costs beside the same mean and standard error written by hand in JAX.

python benchmarks/estimates.py            # some two minutes; rewrites benchmarks/results/estimates.*
python benchmarks/estimates.py --quick    # seconds: that everything runs and the estimates agree
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import reports
import timing
from reports import Row
from rich.console import Console

import variate as vt

KEY = jax.random.key(0)


def square(key: jax.Array, mean: jax.Array) -> jax.Array:
    return vt.draw(key, dist.Normal(mean, 1.0)) ** 2


def square_by_hand(key: jax.Array, mean: jax.Array) -> jax.Array:
    return (mean + jax.random.normal(key)) ** 2


def option(key: jax.Array, strike: jax.Array) -> jax.Array:
    """The payoff of an Asian option on a path of 64 steps."""
    steps = vt.draw(key, dist.Normal(jnp.zeros(64), 0.1))
    return jnp.maximum(jnp.mean(jnp.exp(jnp.cumsum(steps) - 0.32)) - strike, 0.0)


def option_by_hand(key: jax.Array, strike: jax.Array) -> jax.Array:
    steps = 0.1 * jax.random.normal(key, (64,))
    return jnp.maximum(jnp.mean(jnp.exp(jnp.cumsum(steps) - 0.32)) - strike, 0.0)


def by_hand(f: Callable, samples: int, block: int) -> Callable:
    """Mean and standard error by sums over blocks, as one would write it at first."""

    def estimate(key: jax.Array, *args: Any) -> tuple[jax.Array, jax.Array]:
        def add(sums: tuple, i: jax.Array) -> tuple:
            keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(i * block + jnp.arange(block))
            x = jax.vmap(lambda k: f(k, *args))(keys)
            return (sums[0] + jnp.sum(x), sums[1] + jnp.sum(x**2)), None

        (total, squares), _ = jax.lax.scan(add, (jnp.zeros(()), jnp.zeros(())), jnp.arange(samples // block))
        mean = total / samples
        return mean, jnp.sqrt((squares / samples - mean**2) / (samples - 1))

    return estimate


def stepped(estimate: Callable[..., Any]) -> Callable:
    """A step whose answer feeds the next one's argument, so that none is skipped."""
    return jax.jit(lambda x, key: (x + 0 * estimate(key, x)[0], estimate(key, x)))


def measure(seconds: float, samples: int) -> Iterator[Row]:
    for name, ours, hand in (("square of a normal", square, square_by_hand), ("Asian option", option, option_by_hand)):
        expect = vt.expect(ours, num_samples=samples, block_size=1024)

        def estimate(key: jax.Array, x: jax.Array, expect: Callable = expect) -> tuple:
            found = expect(key, x)
            return found.value, found.stderr

        manual = by_hand(hand, samples, 1024)
        one = jnp.asarray(1.0)
        for a, b in zip(jax.jit(estimate)(KEY, one), jax.jit(manual)(KEY, one), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-2)
        steps = [timing.repeated(stepped(f), one, KEY) for f in (estimate, manual)]
        (pair,) = timing.compare(*steps, budget=seconds)
        yield Row.of(name, f"run, {samples:,} samples", pair, 1.1)
        versions = estimate, by_hand(hand, samples, samples)
        compiled = [jax.jit(version).lower(KEY, one).compile() for version in versions]
        used = [f.memory_analysis().temp_size_in_bytes for f in compiled]
        yield Row(name, "memory, beside all at once", used[0] / 1e3, used[1] / 1e3, "kB", ratio=used[0] / used[1])
    fixed = vt.expect(square, num_samples=4096)(KEY, 1.0)
    until = vt.expect(square, until=vt.StdErr(0.02), block_size=256)(KEY, 1.0)
    plain = int(np.ceil((float(fixed.stderr) * 4096**0.5 / 0.02) ** 2))
    n = float(until.num_samples)
    yield Row(
        "square of a normal", "samples to an error of 0.02, looked at or not", n, float(plain), "", ratio=n / plain
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    rows = list(measure(0.0 if quick else 20.0, 2**12 if quick else 2**17))
    Console(width=120).print(reports.table(rows))
    if not quick:
        reports.write(rows, Path(__file__).parent / "results" / "estimates", "vt.expect beside the same by hand")


if __name__ == "__main__":
    main()
