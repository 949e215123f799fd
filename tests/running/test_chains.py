"""`sample`: draws of the target with error bars that cover, no stuck chain believed, bad input named."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import variate as vt
from variate.mcmc import HMC, NUTS, RandomWalk
from variate.programs import distribution_target
from variate.running import Draws

REPLICATES, LEAST = 400, stats.binom.ppf(1e-6, 400, 0.95)


def covered(errors: list[Callable[[Draws], tuple[float, float]]], key: jax.Array) -> list[int]:
    """How many of the replicates, of four chains each, have the mean 1 in their 95% interval, by each kind of error."""
    target, kernel = distribution_target(dist.Normal(1.0, 2.0)), RandomWalk(4.0)
    every = vt.sample(key, target, kernel=kernel, num_samples=500, num_warmup=100, num_chains=4 * REPLICATES)
    replicates = [jax.tree.map(lambda x, i=i: x[4 * i : 4 * i + 4], every) for i in range(REPLICATES)]
    return [sum(abs(value - 1) < 1.96 * stderr for value, stderr in map(error, replicates)) for error in errors]


@pytest.mark.slow
@pytest.mark.table
def test_intervals_cover_and_those_for_independent_draws_do_not(key: jax.Array) -> None:
    # At a coverage of 95%, fewer are seen once in a million runs; errors for independent draws are 2.3 times too small.
    def own(draws: Draws) -> tuple[float, float]:
        found = draws.expect()
        return float(found.value["x"]), float(found.stderr["x"])

    def independent(draws: Draws) -> tuple[float, float]:
        x = draws.values["x"]
        return float(x.mean()), float(x.std() / x.size**0.5)

    right, short = covered([own, independent], key)
    assert right >= LEAST
    assert short < LEAST


def conjugate(key: jax.Array, y: jax.Array) -> None:
    vt.observe(dist.Normal(vt.draw(key, dist.Normal(0.0, 2.0), name="mu"), 1.0), y)


def test_draws_are_those_of_the_posterior(key: jax.Array) -> None:
    y = jnp.array([1.0, 2.5, 0.5, 3.0])
    variance = 1 / (1 / 4 + 4)
    mean = variance * float(y.sum())
    draws = vt.sample(key, vt.condition(conjugate, y), kernel=HMC(0.6, 4), num_samples=2_000, num_warmup=200)
    found = draws.expect(lambda x: {"first": x["mu"], "second": (x["mu"] - mean) ** 2})
    assert found.converged
    assert abs(found.value["first"] - mean) < 5 * found.stderr["first"]
    assert abs(found.value["second"] - variance) < 5 * found.stderr["second"]
    assert draws.values["mu"].shape == (4, 2_000)
    assert float(draws.rhat()["mu"]) < 1.01
    assert 100 < float(draws.ess()["mu"]) <= 8_000 * np.log10(8_000)


def test_values_keep_their_supports_and_a_bare_density_its_tree(key: jax.Array) -> None:
    k1, k2 = jax.random.split(key)
    beta = vt.sample(k1, distribution_target(dist.Beta(2.0, 3.0)), {"x": 0.4}, kernel=RandomWalk(1.0), num_samples=50)
    assert np.all((beta.values["x"] > 0) & (beta.values["x"] < 1))
    start = (jnp.asarray(0.0), jnp.ones(2))
    bare = vt.sample(k2, lambda x: -0.5 * (x[0] ** 2 + x[1] @ x[1]), start, kernel=HMC(0.5, 3), num_samples=5)
    assert [leaf.shape for leaf in bare.values] == [(4, 5), (4, 5, 2)]


def test_a_stuck_chain_is_not_believed(key: jax.Array) -> None:
    target = distribution_target(dist.Normal(0.0, 1.0))
    found = vt.sample(key, target, kernel=RandomWalk(1e9), num_samples=500, num_warmup=1).expect()
    assert not found.converged
    assert jnp.isnan(found.stderr["x"])


def test_chains_on_modes_of_their_own_are_not_believed(key: jax.Array) -> None:
    def apart(key: jax.Array) -> None:
        x = vt.draw(key, dist.Normal(0.0, 3.0), name="x")
        vt.factor(-50.0 * (jnp.abs(x) - 2) ** 2)

    draws = vt.sample(key, vt.condition(apart), kernel=RandomWalk(0.2), num_samples=500, num_chains=8)
    assert len(set(np.sign(draws.values["x"][:, -1]).tolist())) == 2
    assert float(draws.rhat()["x"]) > 1.25  # by ranks it is 1.66 for halves, and 1.27 for one chain of the eight
    assert not draws.expect().converged


def test_one_key_is_one_answer_and_other_data_compile_nothing(key: jax.Array) -> None:
    traced = []

    def model(key: jax.Array, y: jax.Array) -> None:
        traced.append(y)
        conjugate(key, y)

    def run(y: jax.Array) -> Draws:
        return vt.sample(jax.random.clone(key), vt.condition(model, y), kernel=RandomWalk(1.0), num_samples=20)

    first, again = run(jnp.zeros(3)), run(jnp.zeros(3))
    before = len(traced)
    other = run(jnp.ones(3))
    assert np.array_equal(first.values["mu"], again.values["mu"])
    assert not np.array_equal(first.values["mu"], other.values["mu"])
    assert len(traced) == before + 1  # staged by `condition`, whose draws it names


@pytest.mark.parametrize(
    ("target", "options", "error", "words"),
    [
        (3.0, {}, TypeError, "target must be a target or a log density, got 3.0"),
        (jnp.sum, {}, TypeError, "start must be given with a bare log density"),
        (lambda x: 0.0, {"start": {}}, ValueError, "target must have numbers to draw"),
        (lambda x: jnp.sum(x), {"start": jnp.zeros(0)}, ValueError, "target must have numbers to draw"),
        (
            lambda x: -jnp.sqrt(x),
            {"start": jnp.asarray(0.0), "kernel": NUTS()},
            ValueError,
            "finite gradient in every chain for NUTS",
        ),
        (distribution_target(dist.Normal(0.0, 1.0)), {"kernel": RandomWalk}, TypeError, "kernel must be a kernel"),
        (distribution_target(dist.Normal(0.0, 1.0)), {"num_chains": 1}, ValueError, "num_chains must be at least 2"),
        (distribution_target(dist.Normal(0.0, 1.0)), {"num_samples": 0}, ValueError, "num_samples must be a positive"),
        (distribution_target(dist.Normal(0.0, 1.0)), {"until": vt.ESS}, TypeError, "until must be a rule, vt.ESS"),
        (distribution_target(dist.Normal(0.0, 1.0)), {"until": 400}, TypeError, "until must be a rule, vt.ESS"),
        (lambda x: jnp.log(x), {"start": jnp.asarray(-1.0)}, ValueError, "finite log density, got nan"),
    ],
)
def test_wrong_calls_are_named(target: Any, options: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        vt.sample(jax.random.key(0), target, **{"kernel": RandomWalk(1.0), **options})


class Held(NamedTuple):
    mean: float

    def log_prob(self, x: jax.Array) -> jax.Array:
        return -0.5 * (x - self.mean) ** 2


@pytest.mark.parametrize(
    ("target", "start"), [(dist.Normal(3.0, 1.0), None), (Held(3.0), 0.0)], ids=["numpyro", "whatever"]
)
def test_whatever_has_a_log_prob_is_a_target(target: Any, start: Any, key: jax.Array) -> None:
    draws = vt.sample(key, target, start, kernel=RandomWalk(2.5), num_samples=500)
    estimate = draws.expect(lambda x: jax.tree.leaves(x)[0])
    assert abs(estimate.value - 3.0) < 5 * estimate.stderr  # false alarms: 1e-6


def test_chains_of_no_law_end_in_doubt_and_not_in_an_error(key: jax.Array) -> None:
    for own, improper in zip(jax.random.split(key, 2), (jnp.sum, lambda x: 0.0 * jnp.sum(x)), strict=True):
        draws = vt.sample(own, improper, jnp.ones(2), kernel=NUTS(max_doublings=5), num_samples=100)
        assert draws.values.shape == (4, 100, 2)
        assert draws.doubts()
        assert not draws.expect().converged


def test_where_the_density_is_infinite_no_chain_stays(key: jax.Array) -> None:
    def pole(x: jax.Array) -> jax.Array:  # a step from anywhere may end in its middle
        return jnp.where(jnp.abs(x) < 0.2, jnp.inf, -jnp.abs(x))

    draws = vt.sample(key, pole, 1.0, kernel=RandomWalk(1.0), num_samples=200)
    assert np.min(np.abs(draws.values)) >= 0.2
    assert draws.divergent.sum() > 0


@pytest.mark.parametrize("kernel", [NUTS(), RandomWalk(2.5)])
def test_positions_keep_their_type_whatever_that_of_the_density(kernel: Any, key: jax.Array) -> None:
    data = jnp.arange(3.0)
    draws = vt.sample(
        key, lambda x: -0.5 * jnp.sum((x.astype(float) - data) ** 2), jnp.float32(0), kernel=kernel, num_samples=50
    )
    assert draws.values.dtype == jnp.float32


def test_a_leaf_without_numbers_is_kept(key: jax.Array) -> None:
    draws = vt.sample(key, lambda x: -0.5 * x["a"] ** 2, {"a": 0.0, "empty": jnp.zeros((0, 3))}, kernel=RandomWalk(2.0))
    assert draws.expect().value["empty"].shape == (0, 3)
    assert "empty" not in str(draws.summary())


def test_a_start_without_density_is_named(key: jax.Array) -> None:
    def walled(key: jax.Array) -> None:
        x = vt.draw(key, dist.Normal(0.0, 1.0), name="x")
        vt.factor(jnp.where(x > 9, 0.0, -jnp.inf), name="wall")

    k1, k2 = jax.random.split(key)
    with pytest.raises(ValueError, match="'wall' has -inf"):
        vt.sample(k1, vt.condition(walled), kernel=RandomWalk(1.0))
    half = vt.condition(lambda key: vt.factor(jnp.log(vt.draw(key, dist.Normal(0.0, 1.0), name="x"))))
    with pytest.raises(ValueError, match="start must have a finite log density in every chain"):
        vt.sample(k2, half, {"x": jnp.asarray(-1.0)}, kernel=RandomWalk(1.0))
