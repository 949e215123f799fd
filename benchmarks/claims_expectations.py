"""The claims of papers on expectations."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from claim import Claim, verdict
from sklearn.datasets import load_digits

import variate as vt
from variate.estimates import AdaptiveMultiple, EmpiricalBernstein, Hoeffding, Mixture, adapt, certify


def spread(run: Callable, replicates: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of the numbers that `run(key)` returns, and their variances."""
    rows = np.stack([np.asarray(run(key)) for key in jax.random.split(jax.random.key(7), replicates)])
    return rows.mean(axis=0), rows.var(axis=0, ddof=1)


def shared(program: Callable, name: str, runs: int, components: int = 1) -> Callable[[jax.Array], jax.Array]:
    """Of several expectations from one sample: half of the runs to learn, half to estimate, with its controls."""
    scheme = AdaptiveMultiple(components=components, rounds=4, num_samples=runs // 10, spread=1.0)
    learn = adapt(program, name, scheme=scheme)

    def run(key: jax.Array) -> jax.Array:
        learning, using = jax.random.split(key)
        learnt = learn(learning)
        method = Mixture(
            {name: list(learnt.given[name])}, shares={name: learnt.shares[name][:-1].tolist()}, regressed=True
        )
        return vt.expect(program, method=method, num_samples=runs // 2, block_size=2_000)(using).value

    return run


PAPER = "Demange-Chryst, Bachoc and Morio (2023), several expectations"
RUNS = 20_000


def moments_at_once(replicates: int) -> Claim:
    """Their first test case, with their runs and their weights: squared relative errors, summed."""
    powers = 2.0 * jnp.arange(1, 11)
    truth = np.cumprod(np.arange(1, 20, 2.0))

    def program(key: jax.Array) -> jax.Array:
        return vt.draw(key, dist.Normal(0.0, 1.0), name="x") ** powers

    replicates = min(replicates, 200)
    mean, ours = spread(shared(program, "x", RUNS, components=2), replicates)
    _, plain = spread(lambda key: vt.expect(program, num_samples=RUNS, block_size=2_000)(key).value, replicates)
    off = float(np.max(np.abs(mean - truth) / np.sqrt(ours / replicates)))
    gain = float(np.sum(plain / truth**2) / np.sum(ours / truth**2))
    return Claim(
        PAPER,
        "far less summed variance than plain runs on the even moments of a normal number, unbiased",
        f"ten moments, {RUNS:,} runs in all: {gain:.3g} times less, means within {off:.1f} standard errors",
        verdict(gain > 10 and off < 4),
    )


def variance_aware_certificates(_: int) -> Claim:
    """On digits, with the classifier of the page on certification."""
    images, labels = (jnp.asarray(each) for each in load_digits(return_X_y=True))
    images = images / 16
    middles = jnp.stack([images[:1400][labels[:1400] == digit].mean(axis=0) for digit in range(10)])

    def classify(image: jax.Array) -> jax.Array:
        return jax.nn.softmax(-8.0 * jnp.sum((image - middles) ** 2, axis=1))

    keys = jax.random.split(jax.random.key(0), 200)
    bounds: tuple[Any, ...] = (EmpiricalBernstein(0, 1), Hoeffding(0, 1))
    found = {}
    for samples in (1_000, 10_000):
        for interval in bounds:
            run = certify(classify, 0.25, interval=interval, num_samples=samples)
            label, radius = jax.jit(
                lambda keys, run=run: jax.lax.map(lambda at: run(*at)[:2], (keys, images[1400:1600]))
            )(keys)
            right = label == labels[1400:1600]
            found[samples, type(interval)] = [float(jnp.mean(right & (radius >= r))) for r in (0.1, 0.3, 0.5)]
    said = [
        f"{samples:,} samples, up to 0.1, 0.3 and 0.5: {_shares(found[samples, EmpiricalBernstein])} with the "
        f"variance, {_shares(found[samples, Hoeffding])} without"
        for samples in (1_000, 10_000)
    ]
    return Claim(
        "Delattre et al. (2024), Lipschitz-variance-margin tradeoff",
        "better certified accuracy by bounds that see the variance",
        f"200 digits, each certificate at 99.9%; {'; '.join(said)}",
        verdict(
            found[10_000, EmpiricalBernstein][2] > found[10_000, Hoeffding][2],
            "at large radii and with many samples; on digits, not on the paper's images",
        ),
    )


def _shares(each: list[float]) -> str:
    return ", ".join(f"{share:.1%}" for share in each)
