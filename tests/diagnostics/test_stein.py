"""The kernel Stein discrepancy is what it is defined as, and its test has its level and some power."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import variate as vt
from variate.diagnostics import SteinTest, kernel_stein, stein
from variate.diagnostics.stein import Points, stein_kernel
from variate.running import Draws

SIGNS, REPEATS = 199, 120
LIMIT = stats.binom.ppf(1 - 1e-6, REPEATS, 0.05)  # rejections at 5%, of as many


def score(x: jax.Array) -> jax.Array:
    """Of a skewed law in two dimensions: the logarithm of a Gamma variable of shape 2, and a normal one."""
    return jnp.stack([2 - jnp.exp(x[0]), -x[1]])


def by_definition(x: jax.Array, y: jax.Array) -> jax.Array:
    def k(x: jax.Array, y: jax.Array) -> jax.Array:
        return (1.5 + jnp.sum((x - y) ** 2)) ** -0.5

    by_x, by_y = jax.grad(k, 0), jax.grad(k, 1)
    both = jnp.trace(jax.jacobian(by_x, 1)(x, y))
    return k(x, y) * score(x) @ score(y) + score(x) @ by_y(x, y) + score(y) @ by_x(x, y) + both


def with_scores(x: jax.Array) -> Points:
    return Points(x, jax.vmap(score)(x))


def test_the_kernel_is_what_it_is_defined_as(key: jax.Array) -> None:
    x = jax.random.normal(key, (2, 5, 2))
    found = stein_kernel(with_scores(x[0]), with_scores(x[1]), jnp.asarray(1.5))
    exact = jax.vmap(jax.vmap(by_definition, (None, 0)), (0, None))(*x)
    np.testing.assert_allclose(found, exact, rtol=1e-10)


def test_its_mean_over_the_target_is_nought_wherever_the_other_point_is() -> None:
    """By quadrature; a mutant without the trace is off."""
    one = np.linspace(-25, 6, 1201)
    other = np.linspace(-9, 9, 361)
    at = jnp.asarray(np.stack(np.meshgrid(one, other, indexing="ij"), -1).reshape(-1, 2))
    weights = jnp.exp(2 * at[:, 0] - jnp.exp(at[:, 0]) - at[:, 1] ** 2 / 2)
    here = with_scores(jnp.array([[0.3, -1.0], [2.0, 4.0]]))
    mean = weights @ stein_kernel(with_scores(at), here, jnp.asarray(1.5)) / jnp.sum(weights)
    np.testing.assert_allclose(mean, 0, atol=1e-9)
    apart = jnp.sum((at[:, None] - here.at[None]) ** 2, -1)
    trace = 2 * (1.5 + apart) ** -1.5 - 3 * apart * (1.5 + apart) ** -2.5
    assert np.all(np.abs(weights @ trace / jnp.sum(weights)) > 1e-3)


def rejected(key: jax.Array, make: Callable[[jax.Array], jax.Array], batches: int) -> tuple[int, np.ndarray]:
    """How many of the tests of samples of a standard normal law are at 5% at most, and the values over their errors."""

    def once(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        data, signs = jax.random.split(key)
        x = make(data).reshape(batches, -1, 2)
        value, error, signed = stein.tested(signs, Points(x, -x), None, SIGNS)
        return (1 + jnp.sum(signed >= value)) / (1 + SIGNS), value / error

    p, z = jax.jit(lambda keys: jax.lax.map(once, keys))(jax.random.split(key, REPEATS))
    return int(np.sum(np.asarray(p) <= 0.05)), np.asarray(z)


def test_level_and_power_for_independent_points(key: jax.Array) -> None:
    k1, k2 = jax.random.split(key)
    count, z = rejected(k1, lambda key: jax.random.normal(key, (100, 2)), 100)
    assert count <= LIMIT
    assert np.sum(np.abs(z) > 1.96) <= LIMIT
    shifted, _ = rejected(k2, lambda key: jax.random.normal(key, (100, 2)) + jnp.array([[0.5, 0.0]]), 100)
    assert shifted > 0.8 * REPEATS


@pytest.mark.slow
def test_level_and_power_for_chains_and_draws_taken_as_independent_fail(key: jax.Array) -> None:
    """Four chains of 96 draws; each of its own batch is the mutant."""

    def chains(key: jax.Array) -> jax.Array:
        z = jax.random.normal(key, (96, 4, 2))

        def step(x: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
            x = 0.5 * x + 0.75**0.5 * z
            return x, x

        return jnp.concatenate([z[:1], jax.lax.scan(step, z[0], z[1:])[1]]).swapaxes(0, 1)

    keys = jax.random.split(key, 3)
    assert rejected(keys[0], chains, 64)[0] <= LIMIT
    assert rejected(keys[1], chains, 384)[0] > LIMIT
    assert rejected(keys[2], lambda key: 1.3 * chains(key), 64)[0] > 0.8 * REPEATS


def log_density(x: Any) -> jax.Array:
    return -0.5 * jnp.sum(x["a"] ** 2) - 0.5 * x["b"] ** 2


def sample(key: jax.Array, shape: tuple[int, ...]) -> dict[str, jax.Array]:
    k1, k2 = jax.random.split(key)
    return {"a": jax.random.normal(k1, (*shape, 2)), "b": jax.random.normal(k2, shape)}


def test_draws_and_points_of_a_target(key: jax.Array) -> None:
    k1, k2, k3 = jax.random.split(key, 3)
    values, ones = sample(k1, (4, 165)), np.ones((4, 165))
    draws = Draws(values, ones, ones > 1, ones.astype(int))
    test = kernel_stein(draws, log_density, scale=1.5)(k2)
    assert isinstance(test, SteinTest)
    assert isinstance(test.distance, vt.Estimate)
    assert int(test.distance.num_samples) == 640
    assert test.distance.converged
    assert 0.001 < test.p_value <= 1
    assert repr(test).startswith("p = ")
    wrong = kernel_stein(jax.tree.map(lambda x: 2 * x[0], values), log_density)(k3)
    assert wrong.p_value == 1e-3
    bounded = vt.programs.distribution_target(dist.Exponential(2.0))
    k4, k5 = jax.random.split(jax.random.clone(k3))
    fine = kernel_stein({"x": jax.random.exponential(k4, (200,)) / 2}, bounded)(k5)
    assert fine.p_value > 1e-3
    directly = kernel_stein({"x": jax.random.exponential(jax.random.clone(k4), (200,)) / 2}, dist.Exponential(2.0))
    assert directly(jax.random.clone(k5)).distance.value == fine.distance.value


def test_what_is_no_number_is_not_absorbed(key: jax.Array) -> None:
    found = kernel_stein(jnp.arange(8.0)[:, None], lambda x: jnp.sqrt(5.5 - x[0]), scale=1.0)
    test = found(key)
    assert np.isnan(test.p_value)
    assert not test.distance.converged


def test_bad_input_is_refused() -> None:
    x = jnp.zeros((8, 2))
    with pytest.raises(TypeError, match="target must be a target or a log density, got"):
        kernel_stein(x, 3.0)
    with pytest.raises(ValueError, match="the number of batches must be"):
        kernel_stein(x[:3], log_density)
    with pytest.raises(ValueError, match="scale must be"):
        kernel_stein(x, log_density, scale=-1.0)
    with pytest.raises(ValueError, match="num_signs must be"):
        kernel_stein(x, log_density, num_signs=0)
