"""What it saves to compile without XLA's emitters of fusions, and what it costs: the first call, and a later one.

By this `variate.compiling` is for chains and not for the loops of estimates. Chains are also without YNNPACK then, and
their steps one kernel; so they are compared once more with what is compiled without emitters alone.

python benchmarks/compiling.py            # some ten minutes; rewrites benchmarks/results/compiling.*
python benchmarks/compiling.py --quick    # some minutes: that everything runs and the numbers are the same
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import estimates
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import reports
import timing
from jax import Array, lax, random
from posteriors import eight_schools
from posteriors.base import data
from reports import Row
from rich.console import Console

import variate as vt
from variate import compiling

CALLS = 5
Options = tuple[dict[str, Any], ...]


def payoff(key: Array, volatility: float) -> Array:
    price = 100 * jnp.exp(volatility * random.normal(key) - volatility**2 / 2)
    return jnp.maximum(price - 105, 0)


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


def schools(key: Array, _: float) -> Any:
    read = data("eight_schools")
    return vt.sample(key, vt.condition(eight_schools.noncentered, read["y"], read["sigma"])).expect(lambda x: x["mu"])


SCHOOLS = "eight schools, 4 x 1,000 draws"
CASES: dict[str, Callable[..., Any]] = {
    "a call, 1,000,000 runs": vt.expect(payoff, num_samples=1_000_000),
    "an Asian option, 50,000 runs": vt.expect(estimates.option, num_samples=50_000),
    "the same to 0.001, the method chosen": vt.expect(estimates.option, until=vt.StdErr(0.001)),
    "50 steps of a walk, 50,000 runs": vt.expect(walk, num_samples=50_000),
    "four gammas, 50,000 runs": vt.expect(gammas, num_samples=50_000),
    "20 linked coins, value and gradient, 10,000 runs": vt.value_and_grad(coins, num_samples=10_000),
    SCHOOLS: schools,
}


def one(name: str) -> None:
    """In a process of its own, or what another had compiled would be found: seconds of calls, and what they return."""
    spent, found = [], None
    for _ in range(1 + CALLS):
        start = time.process_time()
        found = jax.block_until_ready(CASES[name](random.key(0), 0.2))
        spent.append(time.process_time() - start)
    estimate = found[1] if isinstance(found, tuple) else found
    print(json.dumps([spent[0], float(np.median(spent[1:])), float(estimate.value), float(estimate.stderr)]))


# What is compiled sooner, and what once.
PEERS: dict[str, tuple[Options, Options]] = {
    "plain": (({},), ({},)),
    "several": (({"xla_cpu_use_fusion_emitters": False},), compiling._ONCE),
}


def measured(name: str, peer: str | None, found: list[list[float]]) -> list[float]:
    command = [sys.executable, __file__, "--one", name, *(["--peer", peer] if peer else [])]
    flags = {} if peer == "plain" else {"XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false"}
    told = subprocess.run(command, env=os.environ | flags, stdout=subprocess.PIPE, text=True, check=True).stdout
    first, later, *estimate = json.loads(told.splitlines()[-1])
    found.append(estimate)
    return [first, later]


def measure(quick: bool) -> Iterator[Row]:
    compared = [(name, name, "plain") for name in CASES]
    for title, name, peer in [*compared, ("eight schools, beside steps of several kernels", SCHOOLS, "several")]:
        found: list[list[float]] = []
        pair = (functools.partial(measured, name, other, found) for other in (None, peer))
        first, later = timing.compare(*pair, 0.0 if quick else 75.0)
        values, errors = np.transpose(found)
        # Bit for bit, but for chains, which another rounding sends elsewhere.
        bound = 5 * np.hypot(errors, errors[0]) if name == SCHOOLS else np.zeros(len(values))
        assert np.all(np.abs(values - values[0]) <= bound), (name, found)
        yield Row.of(title, "the first call", first, None)
        yield Row.of(title, "a later call", later, None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run: writes nothing and judges no speed")
    parser.add_argument("--one", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        compiling._SOONER, compiling._ONCE = PEERS[options.peer]
    if options.one:
        one(options.one)
        return 0
    console = Console(width=None if sys.stdout.isatty() else 140)
    title = "Compiling without XLA's emitters of fusions (ours) and with them (peer)"
    return reports.finish(list(measure(options.quick)), "compiling", title, options.quick, console)


if __name__ == "__main__":
    sys.exit(main())
