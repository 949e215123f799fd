"""`predict`: new observations of the right law, each with randomness of its own, wherever they stand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import variate as vt
from variate.programs import predict


def walk(key: jax.Array, y: jax.Array) -> jax.Array:
    """Observed in a scan, under a `vmap` inside of it, and with more axes in front."""
    k1, k2 = jax.random.split(key)
    mu = vt.draw(k1, dist.Normal(0.0, 2.0), name="mu")

    def step(at: jax.Array, x: tuple) -> tuple:
        own, seen = x
        z = vt.draw(own, dist.Normal(at, 1.0), name="z")
        vt.observe(dist.Normal(z, 0.1), seen, name="y")
        jax.vmap(lambda shift: vt.observe(dist.Normal(z + shift, 0.1), seen, name="lanes"))(jnp.arange(3.0))
        return z, z

    _, z = jax.lax.scan(step, mu, (jax.random.split(k2, len(y)), y))
    vt.observe(dist.Normal(mu, 0.1), jnp.zeros((2, 5)), name="more")
    return z


VALUES = {"mu": 3.0, "z": jnp.arange(4.0)}


def residuals(key: jax.Array) -> np.ndarray:
    """Of all 26 observations, given all draws: standard normal numbers."""
    seen = predict(walk, VALUES)(key, jnp.zeros(4)).observed
    lanes = seen["lanes"] - VALUES["z"][:, None] - jnp.arange(3.0)[None]
    return jnp.concatenate([x.ravel() / 0.1 for x in (seen["y"] - VALUES["z"], lanes, seen["more"] - 3.0)])


def test_observations_are_drawn_each_for_itself_given_the_draws(key: jax.Array) -> None:
    """A Kolmogorov-Smirnov test of all, and correlations of any two as those of 4,000 pairs, at 1e-6 together."""
    found = np.asarray(jax.jit(jax.vmap(residuals))(jax.random.split(key, 4_000)))
    assert found.shape == (4_000, 26)
    assert stats.kstest(found.ravel(), "norm").pvalue > 0.5e-6
    pairs = np.corrcoef(found.T)[np.triu_indices(26, 1)]
    assert np.abs(pairs).max() < stats.norm.isf(0.5e-6 / 2 / pairs.size) / 4_000**0.5


def test_draws_are_those_given_and_the_result_follows(key: jax.Array) -> None:
    found = predict(walk, VALUES)(key, jnp.zeros(4))
    assert jnp.array_equal(found.result, VALUES["z"])
    assert jnp.array_equal(found.draws["z"], VALUES["z"])
    assert found.draws["mu"] == 3.0


def test_without_values_it_is_the_prior_and_draws_follow_those_given(key: jax.Array) -> None:
    k1, k2 = jax.random.split(key)
    many = lambda one, key: np.asarray(jax.jit(jax.vmap(one))(jax.random.split(key, 4_000)))  # noqa: E731
    prior = many(lambda key: predict(walk)(key, jnp.zeros(4)).observed["y"], k1)
    for step in range(4):
        assert stats.kstest(prior[:, step] / (4 + step + 1 + 0.01) ** 0.5, "norm").pvalue > 1e-7
    given = many(lambda key: predict(walk, {"mu": 3.0})(key, jnp.zeros(4)).draws["z"], k2)
    assert stats.kstest((given[:, 3] - 3) / 2, "norm").pvalue > 1e-7


def conjugate(key: jax.Array, y: jax.Array) -> None:
    vt.observe(dist.Normal(vt.draw(key, dist.Normal(0.0, 2.0), name="mu"), 1.0), y, name="y")


@pytest.mark.slow
@pytest.mark.table
def test_draws_of_the_posterior_predict(key: jax.Array) -> None:
    """z-tests at 1e-6 of the mean and the variance of a new observation, known in closed form."""
    y = jnp.array([1.0, 2.5, 0.5, 3.0])
    variance = 1 / (1 / 4 + 4)
    mean = variance * float(y.sum())
    k1, k2, k3 = jax.random.split(key, 3)
    draws = vt.sample(k1, vt.condition(conjugate, y), num_samples=2_000)
    new = draws.predict(k2, lambda key, x: predict(conjugate, x)(key, y[:1]).observed["y"][0])
    assert new.values.shape == (4, 2_000)
    found = new.expect(lambda x: jnp.stack([x - mean, (x - mean) ** 2 - variance - 1]))
    assert found.converged
    assert np.all(np.abs(found.value) < 4.89 * found.stderr)
    assert "posterior" in new.to_arviz().children
    with pytest.raises(TypeError, match="key"):
        draws.predict(jax.random.key_data(k3), lambda key, x: x["mu"])


def counts(key: jax.Array, y: jax.Array) -> None:
    rate = vt.draw(key, dist.Gamma(2.0, 1.0), name="rate")
    vt.observe(dist.Poisson(rate), y, name="y")
    jax.lax.cond(rate > 0, lambda: None, lambda: vt.observe(dist.Normal(rate, 1.0), 1.0, name="never"))


def test_observations_keep_their_type_and_what_is_not_reached_is_zero(key: jax.Array) -> None:
    found = predict(counts)(key, jnp.zeros(3, jnp.int32)).observed
    assert found["y"].dtype == jnp.int32
    assert found["y"].shape == (3,)
    assert found["never"] == 0.0


def weighed(key: jax.Array) -> None:
    vt.factor(-(vt.draw(key, dist.Normal(0.0, 1.0), name="x") ** 2), name="penalty")


def looped(key: jax.Array) -> jax.Array:
    def step(state: tuple) -> tuple:
        own, rest = jax.random.split(state[0])
        return rest, vt.draw(own, dist.Normal(0.0, 1.0), name="x")

    return jax.lax.while_loop(lambda state: state[1] < 1, step, (key, jnp.asarray(0.0)))[1]


def test_a_draw_in_a_loop_of_unknown_length_is_made_and_not_kept(key: jax.Array) -> None:
    found = predict(looped)(key)
    assert found.result >= 1
    assert found.draws == {}


@pytest.mark.parametrize(
    ("model", "values", "args", "error", "words"),
    [
        (conjugate, {"nu": 0.0}, (jnp.zeros(2),), ValueError, "no draw is called 'nu'; the draws are"),
        (conjugate, {"mu": jnp.zeros(2)}, (jnp.zeros(2),), ValueError, r"'mu' has shape \(\), got \(2,\)"),
        (conjugate, [0.0], (jnp.zeros(2),), TypeError, "values must be a dictionary"),
        (weighed, {}, (), TypeError, "values must be given for all draws, since the factor 'penalty'"),
        (looped, {"x": 1.0}, (), TypeError, "'x' is inside a while_loop"),
    ],
)
def test_what_cannot_be_is_refused(
    model: Any, values: Any, args: tuple, error: type, words: str, key: jax.Array
) -> None:
    with pytest.raises(error, match=words):
        predict(model, values)(key, *args)


def test_a_factor_counts_where_all_draws_are_given(key: jax.Array) -> None:
    assert predict(weighed, {"x": 0.5})(key).draws["x"] == 0.5
