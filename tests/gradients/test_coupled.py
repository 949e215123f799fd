"""Coupled finite perturbations where a value has probability 0, and where a count is as high as it goes."""

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
