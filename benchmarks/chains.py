"""What a step of a kernel costs beside its gradients, what many chains take, and whether killed runs go on.

python benchmarks/chains.py                # an hour; rewrites benchmarks/results/chains.*
python benchmarks/chains.py --minutes 1    # the same with a short run that is killed; writes nothing
python benchmarks/chains.py --long         # the run that is killed alone: forty-five minutes; writes nothing
python benchmarks/chains.py --quick        # two minutes: that everything runs
"""

import argparse
import dataclasses
import hashlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import reports
import running
import timing
from jax import lax
from reports import Row
from rich.console import Console

import variate as vt
from variate.programs import LogDensity

jax.config.update("jax_enable_x64", True)
D, ROWS, MANY = 50, 500, 1_000
OVERHEAD, LEVEL, GROWTH = 1.3, 1.1, 1.1


def regression(weights: Any, x: Any, y: Any) -> Any:
    """A logistic regression with a normal prior."""
    return jnp.sum(jax.nn.log_sigmoid(y * (x @ weights))) - 0.5 * weights @ weights


def data(rows: int, size: int) -> tuple[jax.Array, jax.Array]:
    k1, k2 = jax.random.split(jax.random.key(0))
    x = jax.random.normal(k1, (rows, size)) / size**0.5
    return x, jnp.where(jax.random.uniform(k2, (rows,)) < jax.nn.sigmoid(x.sum(1)), 1.0, -1.0)


KERNELS: dict[str, Any] = {
    "HMC of 8 steps": vt.mcmc.HMC(0.05, 8, 1.0),
    "MALA": vt.mcmc.MALA(0.05, 1.0),
    "Barker": vt.mcmc.Barker(0.05, 1.0),
}


def gradients(density: Callable, chains: int, count: int) -> timing.Measurement:
    """So many gradients in a row of all chains, each where the one before led."""

    @jax.jit
    def run(x: jax.Array) -> jax.Array:
        def once(x: jax.Array, _: Any) -> tuple[jax.Array, jax.Array]:
            value, slope = jax.vmap(jax.value_and_grad(density))(x)
            return x + 1e-3 * slope, value

        return lax.scan(once, x, length=count)[1]

    return measured(run, jnp.zeros((chains, D)))


def steps(kernel: Any, chains: int, count: int) -> timing.Measurement:
    @jax.jit
    def run(x: jax.Array) -> jax.Array:
        k1, k2 = jax.random.split(jax.random.key(1))

        def once(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            state, info = jax.vmap(kernel.step)(jax.random.split(key, chains), state)
            return state, info.acceptance

        start = jax.vmap(kernel.init)(jax.random.split(k1, chains), x)
        return lax.scan(once, start, jax.random.split(k2, count))[1]

    return measured(run, jnp.zeros((chains, D)))


def measured(run: Callable, x: jax.Array) -> timing.Measurement:
    def seconds() -> list[float]:
        start = time.process_time()
        jax.block_until_ready(run(x))
        return [time.process_time() - start]

    seconds()
    return seconds


def overhead(count: int, budget: float) -> Iterator[Row]:
    x, y = data(ROWS, D)
    density = partial(regression, x=x, y=y)
    name = f"a step, {MANY:,} chains"
    for label, kernel in KERNELS.items():
        each = 8 if "8" in label else 1
        own = steps(dataclasses.replace(kernel, log_density=density), MANY, count // each)
        (pair,) = timing.compare(own, gradients(density, MANY, count), budget)
        yield Row.of(name, f"{label}, over its gradients", pair, OVERHEAD)


def level(budget: float) -> Iterator[Row]:
    """As many steps by many chains and by one."""
    x, y = data(ROWS, D)
    kernel = dataclasses.replace(KERNELS["HMC of 8 steps"], log_density=partial(regression, x=x, y=y))
    for chains in (10, 100, MANY):
        one = steps(kernel, 1, 2 * MANY)
        (pair,) = timing.compare(steps(kernel, chains, 2 * MANY // chains), one, budget)
        yield Row.of(f"{2 * MANY:,} steps, HMC of 8", f"{chains:,} chains, over one alone", pair, LEVEL)


def normal(x: Any) -> Any:
    return -0.5 * jnp.sum((x / jnp.linspace(0.5, 2.0, D)) ** 2)


def folded(chains: int, samples: int) -> float:
    """The memory that means over chains take above that of the imports, in MB."""
    before = running.memory("VmRSS")
    options: dict = {"kernel": vt.mcmc.HMC(num_steps=8), "num_warmup": 100}
    found = vt.mcmc.fold(
        jax.random.key(0), normal, None, jnp.zeros(D), num_chains=chains, num_samples=samples, **options
    )
    assert found.doubts() == []
    return running.memory("VmHWM") - before


def memory(chains: int, samples: int) -> Iterator[Row]:
    few, many = (float(alone("folded", chains, count).communicate()[0]) for count in (samples, 8 * samples))
    name = f"means of {D} numbers, {chains:,} chains"
    yield Row(name, f"memory, {8 * samples:,} steps over {samples:,}", many, few, "MB", many / few, bound=GROWTH)


def chains_of(path: str, **asked: Any) -> str:
    """What a run draws, as a digest, how much of each chain, and the seconds it took; it is kept in a file."""
    x, y = data(20_000, 10)
    target = LogDensity(regression, jnp.zeros(10), x, y)
    options: dict = {"kernel": vt.mcmc.HMC(num_steps=8), "num_warmup": 200, "thin": 4}
    draws = vt.sample(jax.random.key(0), target, checkpoint=path or None, **asked, **options)
    bits = hashlib.sha256(np.asarray(draws.values).tobytes()).hexdigest()
    return f"{bits} {draws.acceptance.shape[1]} {draws.seconds['all']}"


def killed(seconds: float, folder: Path) -> Iterator[Row]:
    """A run for so long that nobody disturbs, beside one that is killed twice and goes on up to as many draws."""
    start = time.perf_counter()
    whole, path = alone("chains_for", seconds, ""), folder / "chains.npz"
    deaths: list[float] = []
    while len(deaths) < 2:
        process, began = alone("chains_for", 10 * seconds, str(path)), time.perf_counter()
        while process.poll() is None and time.perf_counter() - began < seconds / 3:
            time.sleep(0.1)
        assert process.poll() is None, "it had ended before anybody could kill it"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert path.exists()
        deaths.append(time.perf_counter() - start)
    bits, count, spent = whole.communicate()[0].split()
    again, resumed = alone("chains_up_to", count, str(path)).communicate()[0].split()[::2]
    name = f"four chains of {int(count):,} draws"
    yield Row(name, "killed twice and resumed: other bits", int(again != bits), None, "", bound=0)
    yield Row(name, "undisturbed", float(spent), None, "s")
    yield Row(name, "killed after", deaths[0], None, "s")
    yield Row(name, "and after", deaths[1], None, "s")
    yield Row(name, "and what was left", float(resumed), None, "s")


def alone(what: str, *arguments: Any) -> subprocess.Popen:
    command = [sys.executable, __file__, "--alone", what, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


ALONE: dict[str, Callable[[str, str], Any]] = {
    "folded": lambda chains, samples: folded(int(chains), int(samples)),
    "chains_for": lambda seconds, path: chains_of(path, until=vt.running.Seconds(float(seconds))),
    "chains_up_to": lambda count, path: chains_of(path, num_samples=int(count)),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--minutes", type=float, default=30.0, help="of the run that is killed; 30 write the results")
    parser.add_argument("--long", action="store_true", help="nothing but the run that is killed")
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        what, first, second = options.alone
        print(ALONE[what](first, second))
        return 0
    minutes, count, chains, budget = (1.0, 16, 100, 0.0) if options.quick else (options.minutes, 400, 10_000, 60.0)
    with tempfile.TemporaryDirectory() as folder:
        rows = [] if options.long else [*overhead(count, budget), *level(budget), *memory(chains, 100)]
        rows += killed(60 * minutes, Path(folder))
    quick = options.quick or options.long or minutes < 30
    return reports.finish(rows, "chains", "Many chains, and long ones", quick, Console(width=150))


if __name__ == "__main__":
    raise SystemExit(main())
