"""What is compiled as `variate.compiling` has it beside the same as XLA would: the first call, and a later one.

python benchmarks/compiling.py            # some ten minutes; rewrites benchmarks/results/compiling.*
python benchmarks/compiling.py --quick    # a minute or two: that everything runs and the numbers are the same
"""

import argparse
import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import reports
import timing
from jax import Array, lax, random
from reports import Row
from rich.console import Console

import variate as vt
from variate import compiling

CALLS = 5


def payoff(key: Array, volatility: float) -> Array:
    price = 100 * jnp.exp(volatility * random.normal(key) - volatility**2 / 2)
    return jnp.maximum(price - 105, 0)


def asian(key: Array, volatility: float) -> Array:
    moves = vt.draw(key, dist.Normal(jnp.zeros(12), 1.0), name="moves")
    prices = 100 * jnp.exp(jnp.cumsum(volatility / 12**0.5 * moves - volatility**2 / 24))
    return jnp.maximum(prices.mean() - 100, 0)


def walk(key: Array, scale: float) -> Array:
    def step(place: Array, key: Array) -> tuple[Array, Array]:
        place = place + vt.draw(key, dist.Normal(0.0, scale))
        return place, jnp.abs(place)

    return jnp.mean(lax.scan(step, jnp.zeros(()), random.split(key, 50))[1])


def gammas(key: Array, shape: float) -> Array:
    return jnp.sum(vt.draw(key, dist.Gamma(5 * shape, 1.0).expand([4]).to_event(1)))


def coins(key: Array, logit: float) -> Array:
    def step(heads: Array, key: Array) -> tuple[Array, Array]:
        heads = heads + vt.draw(key, dist.Bernoulli(logits=logit - 0.1 * heads))
        return heads, heads**2

    return jnp.sum(lax.scan(step, jnp.zeros(()), random.split(key, 20))[1])


def schools(key: Array, effects: Array, errors: Array) -> None:
    key_mean, key_scale, key_effects = random.split(key, 3)
    mean = vt.draw(key_mean, dist.Normal(0.0, 5.0), name="mu")
    scale = vt.draw(key_scale, dist.HalfCauchy(5.0), name="tau")
    theta = vt.draw(key_effects, dist.Normal(jnp.zeros(8), 1.0), name="theta")
    vt.observe(dist.Normal(mean + scale * theta, errors), effects, name="y")


def posterior(key: Array, _: float) -> Any:
    effects = jnp.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    errors = jnp.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
    return vt.sample(key, vt.condition(schools, effects, errors)).values["mu"]


CASES: dict[str, Callable[..., Any]] = {
    "a call, 1,000,000 runs": vt.expect(payoff, num_samples=1_000_000),
    "an Asian call, 100,000 runs": vt.expect(asian, num_samples=100_000),
    "the same to 0.01, the method chosen": vt.expect(asian, until=vt.StdErr(0.01)),
    "50 steps of a walk, 50,000 runs": vt.expect(walk, num_samples=50_000),
    "four gammas, 50,000 runs": vt.expect(gammas, num_samples=50_000),
    "20 linked coins, value and gradient, 10,000 runs": vt.value_and_grad(coins, num_samples=10_000),
    "eight schools, 4 x 1,000 draws": posterior,
}


def one(name: str) -> None:
    """In a process of its own, or what another had compiled would be found: seconds of calls, and what they return."""
    spent, found = [], None
    for _ in range(1 + CALLS):
        start = time.process_time()
        found = jax.block_until_ready(CASES[name](random.key(0), 0.2))
        spent.append(time.process_time() - start)
    total = [float(np.sum(leaf)) for leaf in jax.tree.leaves(found) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    print(json.dumps([spent[0], float(np.median(spent[1:])), total[0]]))


def measured(name: str, plain: bool, totals: list[float]) -> list[float]:
    command = [sys.executable, __file__, "--one", name, *(["--plain"] if plain else [])]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    *seconds, total = json.loads(told.splitlines()[-1])
    totals.append(total)
    return seconds


def measure(quick: bool) -> Iterator[Row]:
    for name in CASES:
        totals: list[float] = []
        pair = (functools.partial(measured, name, plain, totals) for plain in (False, True))
        first, later = timing.compare(*pair, 0.0 if quick else 75.0)
        np.testing.assert_allclose(totals, totals[0], rtol=0.05 if CASES[name] is posterior else 0.0)  # bit for bit
        yield Row.of(name, "the first call", first, 1.0)
        yield Row.of(name, "a later call", later, 1.1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run: writes nothing and judges no speed")
    parser.add_argument("--one", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        compiling._SOONER = ({},)
    if options.one:
        one(options.one)
        return 0
    console = Console(width=None if sys.stdout.isatty() else 140)
    title = "Compiling: with the options of `variate.compiling` and without"
    return reports.finish(list(measure(options.quick)), "compiling", title, options.quick, console)


if __name__ == "__main__":
    sys.exit(main())
