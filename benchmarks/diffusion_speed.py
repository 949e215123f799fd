"""What a solver costs beside the model: the same update by hand, evaluations alone, and diffusers' steps.

python benchmarks/diffusion_speed.py            # a minute; rewrites benchmarks/results/diffusion_speed.*
python benchmarks/diffusion_speed.py --quick    # that everything runs

Needs `pip install '.[bench]'`.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import timing
import torch
from reports import Row, finish
from rich.console import Console

from variate.demo import digit_denoiser
from variate.diffusion import (
    Denoiser,
    DPMSolverPP,
    Level,
    Prediction,
    Process,
    Rescaled,
    VariancePreserving,
    sample,
    uniform_log_snr,
)

PROCESS, STEPS, VARIANCE = VariancePreserving(), 20, 0.3
TIMES = uniform_log_snr(PROCESS, STEPS)


class Cheap(Denoiser):
    """Of normal data: a multiplication, so that what the solver does is what is measured."""

    process: Process

    def predict(self, x: Any, level: Level) -> Prediction:
        data = level.alpha * VARIANCE / (level.alpha**2 * VARIANCE + level.sigma**2) * x
        return Prediction(data, (x - level.alpha * data) / level.sigma)


def ours(model: Denoiser, shape: tuple[int, ...]) -> Callable[[jax.Array], jax.Array]:
    key = jax.random.key(0)
    return jax.jit(lambda start: sample(key, model, DPMSolverPP(), TIMES, shape, start=start).values)


def by_hand() -> Callable[[jax.Array], jax.Array]:
    """DPM-Solver++(2M) as one writes it for one problem: its coefficients, and a scan."""
    alpha, sigma = (np.asarray(f(jnp.asarray(TIMES)), np.float64) for f in (PROCESS.alpha, PROCESS.sigma))
    h = np.diff(np.log(alpha / sigma))
    weight = -alpha[1:] * np.expm1(-h)
    back = np.append(0.0, 0.5 * h[1:] / h[:-1])
    rows = (sigma[1:] / sigma[:-1], weight * (1 + back), -weight * back, alpha[:-1], sigma[:-1])

    def step(carry: Any, row: Any) -> tuple[Any, None]:
        x, before = carry
        keep, new, old, alpha, sigma = row
        data = alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2) * x
        return (keep * x + new * data + old * before, data), None

    numbers = tuple(jnp.asarray(row, jnp.float32) for row in rows)
    return jax.jit(lambda start: jax.lax.scan(step, (start, jnp.zeros_like(start)), numbers)[0][0])


def called(model: Denoiser, shape: tuple[int, ...]) -> Callable[[jax.Array], jax.Array]:
    """As users write it: what it looks at before and after the run is a part of it."""
    key = jax.random.key(0)
    return lambda start: sample(key, model, DPMSolverPP(), TIMES, shape, start=start).values


def seconds(run: Callable[[], Any], calls: int) -> timing.Measurement:
    def measure() -> list[float]:
        start = time.process_time()
        for _ in range(calls):
            jax.block_until_ready(run())
        return [(time.process_time() - start) / calls]

    measure()
    return measure


def scan(budget: float) -> Row:
    start = jax.random.normal(jax.random.key(1), (1000, 2))
    run, hand = ours(Cheap(PROCESS), start.shape), by_hand()
    np.testing.assert_allclose(run(start), hand(start), rtol=1e-3, atol=1e-5)
    (pair,) = timing.compare(seconds(lambda: run(start), 50), seconds(lambda: hand(start), 50), budget)
    return Row.of("1000 x 2, 20 steps", "beside a scan by hand", pair, 1.1)


def call(budget: float) -> Row:
    """No bound: what a call looks at takes some 0.2 ms whatever the model, more than this run."""
    start = jax.random.normal(jax.random.key(1), (1000, 2))
    run, inside = called(Cheap(PROCESS), start.shape), ours(Cheap(PROCESS), start.shape)
    (pair,) = timing.compare(seconds(lambda: run(start), 50), seconds(lambda: inside(start), 50), budget)
    return Row.of("1000 x 2, 20 steps, called", "beside itself inside jit", pair, None)


def called_network(budget: float) -> Row:
    model = Rescaled(PROCESS, digit_denoiser.denoiser(digit_denoiser.saved(), 3))
    start = jax.random.normal(jax.random.key(1), (256, 64))
    run, inside = called(model, start.shape), ours(model, start.shape)
    (pair,) = timing.compare(seconds(lambda: run(start), 3), seconds(lambda: inside(start), 3), budget)
    return Row.of("digits' network, 256 draws, called", "beside itself inside jit", pair, 1.1)


def network(budget: float) -> Row:
    model = Rescaled(PROCESS, digit_denoiser.denoiser(digit_denoiser.saved(), 3))
    start = jax.random.normal(jax.random.key(1), (256, 64))
    levels = Level(*(jnp.asarray(x[:-1], jnp.float32) for x in PROCESS.level(jnp.asarray(TIMES))))

    def evaluations(x: jax.Array) -> jax.Array:
        """As many, one after another, and nothing else."""

        def step(x: Any, level: Level) -> tuple[Any, None]:
            return jax.vmap(lambda one: model.predict(one, level).data)(x), None

        return jax.lax.scan(step, x, levels)[0]

    run, alone = ours(model, start.shape), jax.jit(evaluations)
    (pair,) = timing.compare(seconds(lambda: run(start), 3), seconds(lambda: alone(start), 3), budget)
    return Row.of("digits' network, 256 draws", "beside its evaluations alone", pair, 1.05)


def library(budget: float) -> Row:
    """Their steps with predictions that are there already: no bound, since theirs are made for large networks."""
    scheduler = diffusers.DPMSolverMultistepScheduler(beta_schedule="linear", algorithm_type="dpmsolver++")
    noise = torch.randn(1000, 2)

    def theirs() -> None:
        scheduler.set_timesteps(STEPS)
        x = noise
        for t in scheduler.timesteps:
            x = scheduler.step(noise, t, x, return_dict=False)[0]

    start = jnp.asarray(noise.numpy())
    run = ours(Cheap(PROCESS), start.shape)
    (pair,) = timing.compare(seconds(lambda: run(start), 50), seconds(theirs, 5), budget)
    return Row.of("1000 x 2, 20 steps", "beside diffusers, no model", pair, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    rows = [measured(0.0 if quick else 20.0) for measured in (scan, network, library, call, called_network)]
    raise SystemExit(finish(rows, "diffusion_speed", "Solvers of diffusion models: time", quick, Console(width=120)))


if __name__ == "__main__":
    main()
