"""Coupled finite perturbations at values of probability 0, of counts as high as they go, and by numbers of failures."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from scipy import stats

import variate as vt
from variate.gradients import Coupled
from variate.gradients.rules import coupled

VALUES = jnp.asarray([1.0, -2.0, 5.0, 0.5, 3.0])

# Of the five values: probabilities at t = 0, and how they move with t; those of 0 leave it, or stay.
TABLES: dict[str, tuple[list[float], list[float]]] = {
    "one on the way": ([0.5, 0.0, 0.5, 0.0, 0.0], [-1.0, 0.0, 1.0, 0.0, 0.0]),
    "all probable": ([0.1, 0.2, 0.3, 0.2, 0.2], [-1.0, 0.3, 1.0, 0.2, -0.5]),
    "moving from 0": ([0.4, 0.0, 0.0, 0.6, 0.0], [-1.0, 0.3, 0.5, -0.3, 0.5]),
    "moving from 0 before the first": ([0.0, 0.0, 1.0, 0.0, 0.0], [0.7, 0.3, -2.0, 0.4, 0.6]),
}


def gradients(law: Callable[[Array], dist.Distribution], at: float, key: Array, number: int = 4096) -> np.ndarray:
    def program(key: Array, t: Array) -> Array:
        return VALUES[vt.draw(key, law(t), name="n")]

    run = vt.grad(program, num_samples=1, rules={"n": Coupled()}, stderr=False)
    found = jax.jit(jax.vmap(lambda k: run(k, jnp.asarray(at)).value))(jax.random.split(key, number))
    return np.asarray(found)


@pytest.mark.parametrize("name", TABLES)
def test_values_of_probability_zero_are_not_lost(name: str, key: Array) -> None:
    """A z-test at 1e-6; exact where there is nothing to choose."""
    start, slope = (np.asarray(row) for row in TABLES[name])
    found = gradients(lambda t: dist.Categorical(probs=jnp.asarray(start) + t * jnp.asarray(slope)), 0.0, key)
    wanted = slope @ np.asarray(VALUES)
    error = found.std(ddof=1) / np.sqrt(found.size)
    assert abs(found.mean() - wanted) <= stats.norm.isf(5e-7) * error + 1e-12


def test_a_choice_without_its_weight_is_caught(key: Array) -> None:
    """Of the improbable values on the way only the first, as if there were no others."""
    start, slope = (np.asarray(row) for row in TABLES["moving from 0"])
    found = gradients(lambda t: dist.Categorical(probs=jnp.asarray(start) + t * jnp.asarray(slope)), 0.0, key)
    halved = np.where(np.abs(found) > np.abs(found).min(), found / 2, found)
    error = halved.std(ddof=1) / np.sqrt(found.size)
    assert abs(halved.mean() - slope @ np.asarray(VALUES)) > stats.norm.isf(5e-7) * error


def test_a_count_goes_no_higher_than_its_number_of_trials(key: Array) -> None:
    def program(key: Array, t: Array) -> Array:
        first, second = jax.random.split(key)
        n = vt.draw(first, dist.Binomial(4, t), name="n")
        left = vt.draw(second, dist.Binomial(4 - n, 0.5))  # of fewer than none there would be no draw
        count = n.astype(float)
        return count * jnp.log(5.0 - count) + left.astype(float)

    run = vt.grad(program, num_samples=1, rules={"n": Coupled()}, stderr=False)
    found = jax.jit(jax.vmap(lambda k: run(k, jnp.asarray(0.6)).value))(jax.random.split(key, 4096))
    assert jnp.all(jnp.isfinite(found))
    n = np.arange(5)
    cost = n * np.log(5.0 - n) + (4 - n) / 2
    mass = stats.binom(4, 0.6).pmf(n)
    wanted = np.sum(cost * mass * (n / 0.6 - (4 - n) / 0.4))
    assert abs(found.mean() - wanted) < stats.norm.isf(5e-7) * found.std() / np.sqrt(found.size)


def by_failures(key: Array) -> float:
    """How many standard errors a gradient of E x^2 in the number of failures is off, where E x is 1."""
    run = vt.grad(
        lambda key, t: vt.draw(key, dist.NegativeBinomialProbs(t, 0.4), name="n").astype(float) ** 2,
        num_samples=20_000,
        rules={"n": Coupled()},
    )
    found = run(key, jnp.asarray(1.5))
    return float(abs(found.value - (4 / 3 + 10 / 9)) / found.stderr)


def test_a_failure_more_is_a_poisson_number_of_logarithmic_ones(key: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    assert by_failures(jax.random.clone(key)) < stats.norm.isf(5e-7)
    monkeypatch.setattr(coupled, "logarithmic", lambda key, q: jnp.ones_like(q))
    assert by_failures(key) > 10


@pytest.mark.parametrize("q", [1e-7, 0.05, 0.6, 0.97])
def test_logarithmic_numbers_have_their_law(q: float, key: Array) -> None:
    """Chi-square at 1e-6 of all values with twenty draws or more, and of the others together."""
    size = 100_000
    found = np.asarray(coupled.logarithmic(key, jnp.full(size, q)))
    mass = stats.logser(q).pmf(np.arange(1, 200)) * size
    seen = np.array([np.sum(found == k) for k in range(1, 200)])
    common = mass >= 20
    expected = np.append(mass[common], size - mass[common].sum())
    often = np.append(seen[common], size - seen[common].sum())
    kept = expected > 1
    assert np.sum((often - expected)[kept] ** 2 / expected[kept]) <= stats.chi2.isf(1e-6, max(kept.sum() - 1, 1))
    assert often[~kept].sum() < 20
