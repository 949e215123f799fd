"""Error bars are outputs: over thousands of keys they cover the truth as often as they say."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from variate.estimates import Estimate, StdErr, WeightedMoments, expect, moments

N_KEYS = 4_000
# Right intervals leave this band with probability 1.4e-5; it is the one that is asked of every error bar here.
LOW, HIGH = 0.935, 0.965
# Coverage of 95% or more falls below this with probability 1e-6 at most.
AT_LEAST = 0.95 - 4.75 * np.sqrt(0.05 * 0.95 / N_KEYS)

pytestmark = pytest.mark.slow


class Case(NamedTuple):
    """A program, the truth, and how many samples make its mean normal enough."""

    program: Callable[[jax.Array], Any]
    truth: Any
    options: dict[str, Any]


def correlated(key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    x = jax.random.normal(key, (2,))
    return x[0], {"sum": x[0] + x[1], "square": x**2}


CASES = {
    "normal": Case(jax.random.normal, 0.0, {"num_samples": 300, "block_size": 100}),
    "eight normals": Case(jax.random.normal, 0.0, {"num_samples": 8, "block_size": 3}),
    "coin": Case(lambda key: jax.random.bernoulli(key, 0.2), 0.2, {"num_samples": 1_000}),
    "skewed": Case(lambda key: jnp.exp(0.7 * jax.random.normal(key)), np.exp(0.245), {"num_samples": 2_000}),
    "correlated tree": Case(correlated, (0.0, {"sum": 0.0, "square": np.ones(2)}), {"num_samples": 1_500}),
}


def covered(estimate: Estimate, truth: Any) -> list[float]:
    """How often each coordinate's 95% interval holds the truth."""
    low, high = estimate.interval(0.95)
    inside = jax.tree.map(lambda lo, hi, x: jnp.mean((lo <= x[None]) & (x[None] <= hi), axis=0), low, high, truth)
    return [float(x) for leaf in jax.tree.leaves(inside) for x in np.ravel(leaf)]


def one_by_one(run: Callable[[jax.Array], Any], keys: jax.Array) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """Estimates that steer Python, the ends of their intervals and their values.

    The checker of keys, which makes every call dearer, has seen all there is to see in the first.
    """
    found = [run(keys[0])]
    with jax.debug_key_reuse(False):
        found += [run(key) for key in keys[1:]]
        ends = np.array([each.interval() for each in found])
    return found, ends, np.array([float(each.value) for each in found])


def coverage(key: jax.Array, case: Case) -> list[float]:
    # A fresh function, so that nothing compiled before a mutant was put in is used again.
    program = lambda key: case.program(key)  # noqa: E731
    keys = jax.random.split(jax.random.clone(key), N_KEYS)
    return covered(jax.jit(jax.vmap(expect(program, **case.options)))(keys), jax.tree.map(jnp.asarray, case.truth))


@pytest.mark.wide
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_intervals_cover(key: jax.Array, case: Case) -> None:
    rates = coverage(key, case)
    assert all(LOW < rate < HIGH for rate in rates), rates


def without_delta(a: Any, b: Any, weight_a: Any, weight_b: Any) -> Any:
    return MERGED(a, b, weight_a, weight_b)._replace(root=jnp.hypot(a.root, b.root))


def over_n_squared(self: moments.Moments) -> Estimate:
    estimate = READ(self)
    return dataclasses.replace(
        estimate, stderr=jax.tree.map(lambda x: x / jnp.sqrt(self.num_samples.astype(float)), estimate.stderr)
    )


def same_block_again(key: jax.Array, index: Any) -> jax.Array:
    return FOLD_IN(key, index % 100)


def normal_quantiles(self: Estimate, level: float = 0.95) -> tuple:
    return INTERVAL(dataclasses.replace(self, degrees=None), level)


MERGED, READ, FOLD_IN, INTERVAL = moments.merged, moments.Moments.read, jax.random.fold_in, Estimate.interval
MUTANTS = {
    "merge without the delta² term": ("eight normals", moments, "merged", without_delta),
    "variance over n²": ("normal", moments.Moments, "read", over_n_squared),
    "the same samples in every block": ("normal", jax.random, "fold_in", same_block_again),
    "normal quantiles for eight": ("eight normals", Estimate, "interval", normal_quantiles),
}


@pytest.mark.parametrize(("name", "owner", "attribute", "mutant"), MUTANTS.values(), ids=MUTANTS)
def test_coverage_catches(
    key: jax.Array, name: str, owner: Any, attribute: str, mutant: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, attribute, mutant)
    assert not all(LOW < rate < HIGH for rate in coverage(key, CASES[name]))


@dataclasses.dataclass(frozen=True)
class Naive(StdErr):
    """The mutant: a plain error bar, looked at after every block."""

    def _widening(self, num_samples: jax.Array, miss: float, dtype: Any) -> jax.Array:
        return jnp.ones((), dtype)


# Loose tolerances and early first looks, where looking again and again does the most harm.
STOPPED = {
    "normal": (Case(jax.random.normal, 0.0, {"block_size": 4}), {"absolute": 0.25, "min_samples": 4}),
    "coin": (
        Case(lambda key: jax.random.bernoulli(key, 0.05), 0.05, {"block_size": 20}),
        {"absolute": 0.03, "min_samples": 100},
    ),
    "exponential": (Case(jax.random.exponential, 1.0, {"block_size": 10}), {"absolute": 0.1, "min_samples": 20}),
    "skewed": (
        Case(lambda key: jnp.exp(jax.random.normal(key)), np.exp(0.5), {"block_size": 50}),
        {"absolute": 0.2, "min_samples": 50},
    ),
}


@pytest.mark.wide
@pytest.mark.parametrize(("case", "tolerance"), STOPPED.values(), ids=STOPPED)
def test_intervals_at_stopping_cover_and_naive_ones_do_not(key: jax.Array, case: Case, tolerance: dict) -> None:
    rates = [
        coverage(key, case._replace(options=case.options | {"until": kind(**tolerance)})) for kind in (StdErr, Naive)
    ]
    assert rates[0][0] > AT_LEAST > rates[1][0], rates


def importance(log_weights: Callable[[jax.Array], jax.Array], key: jax.Array) -> list[float]:
    """E[x] under N(0.5, 1) from 1,000 draws of N(0, 1.5²), folded in blocks of 100."""

    def estimate(key: jax.Array) -> Estimate:
        x = 1.5 * jax.random.normal(key, (10, 100))
        logs = log_weights(-0.5 * (x - 0.5) ** 2 + 0.5 * (x / 1.5) ** 2)
        add = lambda fold, block: (fold.merge(WeightedMoments.of_rows(*block)), None)  # noqa: E731
        return jax.lax.scan(add, WeightedMoments.empty(jnp.zeros(())), (x, logs))[0].read()

    keys = jax.random.split(jax.random.clone(key), N_KEYS)
    return covered(jax.jit(jax.vmap(estimate))(keys), jnp.asarray(0.5))


def test_weighted_intervals_cover(key: jax.Array) -> None:
    assert LOW < importance(lambda logs: logs + 7.0, key)[0] < HIGH
    assert importance(jnp.zeros_like, key)[0] < LOW  # the weights forgotten
