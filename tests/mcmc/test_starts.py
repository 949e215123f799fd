"""Chains start where they are told: all at one place, each at its own, or where a function of a key says."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import variate as vt
from variate.mcmc import Pathfinder, RandomWalk, Starts
from variate.programs import distribution_target
from variate.running import beginnings
from variate.running.beginnings import far_below

STILL = RandomWalk(1e-7)  # of which draws are where the chain started
POSITIVE = distribution_target(dist.LogNormal(jnp.zeros(2), 1.0))


def density(x: Any) -> jax.Array:
    return -0.5 * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(x))


def first(key: jax.Array, target: Any, start: Any) -> Any:
    draws = vt.sample(key, target, start, kernel=STILL, num_warmup=25, num_samples=25)
    return jax.tree.map(lambda x: np.asarray(x[:, 0]), draws.values)


def test_each_chain_starts_at_its_own(key: jax.Array) -> None:
    k1, k2 = jax.random.split(key)
    values = {"a": jnp.arange(4.0), "b": jnp.arange(8.0).reshape(4, 2)}
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), first(k1, density, Starts(values)), values)
    positive = {"x": 1.0 + jnp.arange(8.0).reshape(4, 2)}
    np.testing.assert_allclose(first(k2, POSITIVE, Starts(positive))["x"], positive["x"], rtol=1e-4)


def test_a_function_is_called_with_a_key_for_each_chain(key: jax.Array) -> None:
    found = first(key, density, lambda key: 5 + jax.random.normal(key, (2,)))
    assert len(np.unique(found)) == 8
    assert np.all(np.abs(found - 5) < 6)  # false alarms: 2e-8
    np.testing.assert_array_equal(
        found, first(jax.random.clone(key), density, lambda k: 5 + jax.random.normal(k, (2,)))
    )


def test_paths_begin_at_starts(key: jax.Array) -> None:
    modes = lambda x: jnp.logaddexp(-50 * (x - 10) ** 2, -50 * (x + 10) ** 2)[0]  # noqa: E731
    starts = Starts(jnp.array([[9.0], [-9.0], [11.0], [-11.0]]))
    assert np.sign(first(key, modes, Pathfinder(starts)))[:, 0].tolist() == [1, -1, 1, -1]


class Affine(eqx.Module):
    weight: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.weight * x


def test_a_tree_that_can_be_called_is_a_value(key: jax.Array) -> None:
    np.testing.assert_allclose(first(key, density, Affine(jnp.asarray(2.0))).weight, np.full(4, 2.0), atol=1e-4)


@pytest.mark.parametrize(
    ("target", "start", "error", "words"),
    [
        (density, lambda: Starts(jnp.zeros((3, 2))), ValueError, "leading axis of num_chains=4, got one of 3"),
        (
            density,
            lambda: Starts({"a": jnp.zeros(4), "b": jnp.zeros((3, 2))}),
            ValueError,
            "one leading axis",
        ),
        (density, lambda: Starts(1.0), ValueError, "one leading axis"),
        (density, lambda: Starts({}), TypeError, "values must be arrays"),
        (density, lambda: Starts(jnp.arange(4)), TypeError, "must be real"),
        (POSITIVE, lambda: Starts({"x": jnp.ones((4, 3))}), ValueError, "'x'"),
        (POSITIVE, lambda: {"x": jnp.ones((4, 2))}, ValueError, "'x'"),
        (
            lambda x: jnp.log(x),
            lambda: Starts(jnp.array([1.0, 1.0, -1.0, 1.0])),
            ValueError,
            "finite log density in",
        ),
        (POSITIVE, lambda: Starts({"x": -jnp.ones((4, 2))}), ValueError, "finite log density in"),
    ],
)
def test_wrong_starts_are_named(target: Any, start: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        vt.sample(jax.random.key(0), target, start(), kernel=STILL)


def cliff(x: jax.Array) -> jax.Array:
    """Falls like an exponential, so that 19 of 100 starts are more than 10^5 below others."""
    return jnp.sum(-0.5 * x**2) - jnp.exp(jnp.exp(2 * x[0]))


@pytest.mark.parametrize("attempts", [10, 0])
def test_a_chain_that_would_start_far_below_the_others_starts_elsewhere(
    attempts: int, key: jax.Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 40 chains 8 would be there, none with probability 2e-4."""
    monkeypatch.setattr(beginnings, "_TRIES", attempts)

    def model(key: jax.Array) -> None:
        x = vt.draw(key, dist.Normal(0.0, 1.0).expand([2]), name="x")
        vt.factor(cliff(x) + 0.5 * jnp.sum(x**2))

    draws = vt.sample(key, vt.condition(model), num_chains=40, num_warmup=25, num_samples=25, kernel=STILL)
    low = far_below(np.asarray(jax.vmap(cliff)(draws.values["x"][:, 0])))
    assert np.any(low) == (attempts == 0)


def test_starts_that_are_given_are_kept_however_far_below(key: jax.Array) -> None:
    far = jnp.array([[0.0, 0.0], [1.7, 0.0], [0.5, 1.0], [-1.0, 0.0]])
    np.testing.assert_allclose(first(key, cliff, Starts(far)), far, atol=1e-4)
    assert far_below(np.asarray(jax.vmap(cliff)(far))).tolist() == [False, True, False, False]


def test_far_below_is_by_what_the_best_has_and_by_what_rounding_leaves() -> None:
    assert not np.any(far_below(np.array([-1e9, -2e9, -3e9, -5e10])))
    assert far_below(np.array([-1.0, -1e4, -1e6, -1e12])).tolist() == [False, False, True, True]
    assert far_below(np.array([-1e50, -1e60])).tolist() == [True, True]
    assert far_below(np.array([-1e7, -2e7], np.float32)).tolist() == [True, True]
    assert not np.any(far_below(np.array([0.0, np.nan, -1e9, 1.0])))
