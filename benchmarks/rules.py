"""What a step by each rule costs beside the same rule written by hand; what replays cost, and staging of long scans.

python benchmarks/rules.py            # half an hour or more; rewrites benchmarks/results/rules.*
python benchmarks/rules.py --quick    # some three: that everything runs and the estimates agree
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial

# Settled when JAX is imported; on two cores XLA would still pass work from one to the other.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import peers_rules as by_hand
import programs
import reports
import timing
from reports import Row
from rich.console import Console
from rule_cases import CASES, COINS, Case, parameters

import variate as vt
from variate import gradients as g

KEY, SAMPLES, CHECKED = jax.random.key(0), 16, 512
SCANS = (10, 100, 1_000, 10_000)


def ours(program: programs.Program, rule: g.Rule | g.Perturbation | None, argument: int = 1) -> Callable:
    """A function of its own each time, as JAX keeps what it has traced by the identity of the function."""

    def afresh(*args):
        return program(*args)

    if isinstance(rule, g.Perturbation):
        return perturbed(afresh, rule)
    options = {"num_samples": SAMPLES, "stderr": False, "allow_bias": True, "rules": {"x": rule} if rule else None}
    estimate = vt.value_and_grad(afresh, argument, **options)

    def gradient(params, key):
        value, found = estimate(key, params)
        return value.value, found.value

    return gradient


def perturbed(program: programs.Program, method: g.Perturbation) -> Callable:
    """The latents alone are unknown to a black box."""

    def opened(key, latents, layers):
        return program(key, {"latents": latents, **layers})

    estimate = g.black_box(opened, method=method, num_samples=SAMPLES)

    def gradient(params, key):
        layers = {name: x for name, x in params.items() if name != "latents"}
        value, found = estimate(key, params["latents"], layers)
        return value.value, {"latents": found.value}

    return gradient


def hand(case: Case) -> Callable:
    if isinstance(case.rule, g.Perturbation):
        return lambda params, key: case.hand(key, params, SAMPLES)
    return lambda params, key: jax.value_and_grad(lambda params: case.hand(key, params, SAMPLES))(params)


def step(gradient: Callable) -> Callable:
    def update(params, key):
        value, found = gradient(params, key)
        return {**params, **programs.descend({name: params[name] for name in found}, found)}, value

    return update


def check_agreement(case: Case) -> None:
    """Each coordinate of the mean gradient in the latents, by both, within chance of 10^-6 in all."""

    def many(gradient: Callable, salt: int) -> np.ndarray:
        keys = jax.random.split(jax.random.fold_in(KEY, salt), CHECKED)
        found = jax.jit(lambda keys: jax.lax.map(lambda key: gradient(case.params, key)[1]["latents"], keys))(keys)
        return np.asarray(found, np.float64).reshape(CHECKED, -1)

    a, b = many(ours(case.program, case.rule), 1), many(hand(case), 2)
    off = np.abs(a.mean(0) - b.mean(0)) / np.sqrt((a.var(0) + b.var(0)) / CHECKED)
    if not np.max(off) < 6.3:
        raise AssertionError(f"{case.name}: the two gradients differ by {np.max(off):.1f} standard errors")


def rule(case: Case, seconds: float) -> Iterator[Row]:
    mine, theirs = ours(case.program, case.rule), hand(case)
    (pair,) = timing.compare(*(timing.repeated(jax.jit(step(f)), case.params, KEY) for f in (mine, theirs)), seconds)
    yield Row.of(case.name, "a step", pair, 1.1)
    makes = (lambda: step(ours(case.program, case.rule)), lambda: step(hand(case)))
    compiling = (partial(timing.stages, make, (case.params, KEY)) for make in makes)
    *_, whole = timing.compare(*compiling, seconds, width=0.05)
    yield Row.of(case.name, "tracing, lowering and compiling", whole, 1.5)


def dispatch(seconds: float) -> Iterator[Row]:
    case = CASES[0]
    empty = jax.jit(lambda params, key: (params, jnp.zeros(())))
    mine = timing.repeated(jax.jit(step(ours(case.program, case.rule))), case.params, KEY)
    (pair,) = timing.compare(mine, timing.repeated(empty, case.params, KEY), seconds)
    yield Row.of(case.name, "a step (peer: an empty function, which is dispatch)", pair, None)


def replays(count: int, seconds: float) -> Iterator[Row]:
    """As many coins, a replay each; only their logits are differentiated, so that a run has no way back to pay for."""
    params = parameters(count)
    layers = {name: x for name, x in params.items() if name != "latents"}

    def program(key, latents, layers):
        return COINS(key, {"latents": latents, **layers})

    estimate = vt.value_and_grad(program, num_samples=SAMPLES, stderr=False, rules={"x": g.Enumerate()})

    def update(latents, key, layers):
        value, found = estimate(key, latents, layers)
        return latents - 1e-4 * found.value, value.value

    def plain(latents, key, layers):
        found = by_hand.runs(key, {"latents": latents, **layers}, SAMPLES)
        return latents + 0 * found, found

    arguments = params["latents"], KEY, layers
    single = timing.repeated(jax.jit(plain), *arguments)
    mine, theirs = timing.repeated(jax.jit(update), *arguments), lambda: [(1 + count) * x for x in single()]
    (pair,) = timing.compare(mine, theirs, seconds)
    yield Row.of(f"{SAMPLES} samples, {count} replays", f"a gradient (peer: {1 + count} runs)", pair, 1.15)


def scans(seconds: float) -> Iterator[Row]:
    def make(steps: int) -> Callable:
        def program(key, t):
            def turn(state, key):
                b = vt.draw(key, dist.Bernoulli(logits=t - state), name="x")
                return 0.9 * state + b, state * b

            return jnp.sum(jax.lax.scan(turn, jnp.zeros(()), jax.random.split(key, steps))[1])

        return ours(program, None)

    for steps in SCANS[1:]:
        each = (partial(timing.stages, partial(make, n), (jnp.asarray(0.3), KEY)) for n in (steps, SCANS[0]))
        *_, whole = timing.compare(*each, seconds, width=0.05)
        yield Row.of(f"scan of {steps:,} draws", f"tracing, lowering and compiling (peer: of {SCANS[0]})", whole, 1.1)


def measure(quick: bool) -> Iterator[Row]:
    seconds = 0.0 if quick else 1.5
    for case in CASES:
        check_agreement(case)
        yield from rule(case, seconds)
    yield from dispatch(seconds)
    for count in (1, 4, 16):
        yield from replays(count, seconds)
    yield from scans(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run: writes nothing and judges no speed")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    return reports.finish(list(measure(options.quick)), "rules", "Rules: ours against by hand", options.quick, console)


if __name__ == "__main__":
    sys.exit(main())
