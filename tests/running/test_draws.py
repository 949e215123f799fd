"""What draws say of themselves: doubts in words, and trees for ArviZ."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import variate as vt
from variate.running import Draws

RANDOM = np.random.default_rng(0)


def draws_of(values: np.ndarray, divergent: int = 0) -> Draws:
    lost = np.zeros(values.shape[:2], bool)
    lost.ravel()[:divergent] = True
    return Draws({"x": values}, np.ones(values.shape[:2]), lost, np.ones(values.shape[:2], int))


def test_each_doubt_has_its_words_and_independent_draws_have_none() -> None:
    independent = RANDOM.normal(size=(4, 1000))
    assert draws_of(independent).doubts() == []
    assert draws_of(independent, divergent=4).doubts() == []
    assert "5 of 4000 steps diverged" in draws_of(independent, divergent=5).doubts()[0]
    apart = independent + np.arange(4)[:, None]
    assert draws_of(apart).doubts()[0].startswith("chains disagree on x: R-hat is")
    stuck = np.where(np.arange(4)[:, None] == 2, 0.0, independent)
    assert draws_of(stuck).doubts() == ["a chain stands still in x"]
    assert draws_of(independent[:, :60]).doubts()[0].startswith("only ")
    assert not draws_of(apart).expect().converged


def test_a_spread_that_differs_is_seen_although_means_agree() -> None:
    """By the folded ranks; split R-hat of the draws themselves does not see it."""
    wide = RANDOM.normal(size=(4, 1000)) * np.array([[1.0], [1.0], [1.0], [3.0]])
    assert draws_of(wide).rhat()["x"] > 1.05


def test_numbers_without_a_mean_have_ranks() -> None:
    cauchy = RANDOM.standard_cauchy(size=(4, 1000))
    assert 3_000 < draws_of(cauchy).ess()["x"] < 5_000


def model(key: jax.Array, y: jax.Array) -> None:
    k1, k2 = jax.random.split(key)
    mu = vt.draw(k1, dist.Normal(0.0, 5.0), name="mu")
    weights = vt.draw(k2, dist.Dirichlet(jnp.ones(3)), name="weights")
    vt.observe(dist.Normal(mu + weights[0], 1.0), y)


def test_arviz_gets_names_warm_up_and_statistics(key: jax.Array) -> None:
    draws = vt.sample(key, vt.condition(model, jnp.ones(3)), num_samples=80, num_warmup=100)
    tree = draws.to_arviz()
    assert set(tree.children) == {"posterior", "sample_stats", "warmup_posterior", "warmup_sample_stats"}
    assert dict(tree["posterior"].sizes) == {"chain": 4, "draw": 80, "weights_dim_0": 3}
    assert np.array_equal(tree["posterior"]["mu"], draws.values["mu"])
    assert np.allclose(tree["posterior"]["weights"].sum("weights_dim_0"), 1)
    assert tree["warmup_posterior"].sizes["draw"] == 100
    assert int(tree["sample_stats"]["diverging"].sum()) == int(draws.divergent.sum())
    assert tree["posterior"].attrs["kernel"] == "NUTS"
    assert tree["posterior"].attrs["seconds_all"] > 0
