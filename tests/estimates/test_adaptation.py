"""Adaptation that ends where it no longer pays: by the paper's criterion, and the runs that are left are unbiased."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from scipy import stats

import variate as vt
from variate.estimates import AdaptiveMultiple, CrossEntropy, adapt
from variate.estimates.weights import adaptive
from variate.estimates.weights.fitted import Fit

BUDGET, ROUND = 8_000, 400


def tails(key: Array) -> dict[str, Array]:
    """Two expectations that plain runs know badly."""
    x = vt.draw(key, dist.Normal(0.0, 1.0), name="x")
    return {"above": x > 3, "square": jnp.where(x > 2, x**2, 0)}


TRUTH = {"above": stats.norm.sf(3), "square": stats.norm.sf(2) + 2 * stats.norm.pdf(2)}


def spent(key: Array, spread: float = 8.0) -> Any:
    """After a start that is far too wide; of a function that nothing was compiled for."""
    scheme = AdaptiveMultiple(rounds=100, num_samples=ROUND, spread=spread, degrees=None)
    return adapt(lambda key: tails(key), "x", scheme=scheme, budget=BUDGET)(key)


def test_the_runs_that_are_left_are_unbiased(key: Array) -> None:
    """A z-test of both at 1e-6, and a hundredth of the variance of as many plain runs in the rarer."""
    first, second = jax.random.split(key)
    learnt = spent(first)
    assert 4 * ROUND <= learnt.runs < BUDGET // 2
    found = vt.expect(tails, method=learnt, num_samples=BUDGET - learnt.runs)(second)
    for name, truth in TRUTH.items():
        assert abs(found.value[name] - truth) < stats.norm.isf(2.5e-7) * found.stderr[name]
    assert found.stderr["above"] ** 2 < 0.01 * TRUTH["above"] / BUDGET


def test_it_ends_by_what_the_runs_say(key: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a fall of the variance at once, and at half of the budget where that falls on."""
    monkeypatch.setattr(adaptive, "_relative_variance", lambda fits, made: jnp.ones(()))
    assert spent(jax.random.clone(key)).runs == 3 * ROUND
    monkeypatch.setattr(adaptive, "_relative_variance", lambda fits, made: jnp.nan * jnp.ones(()))
    assert spent(key).runs == BUDGET // 2


def test_the_criterion_is_the_variance_of_weighted_runs(key: Array) -> None:
    """Of x² under N(0, 1.5²), whose relative variance is known, in single rounds of 2,000: a z-test at 1e-6."""
    s = 1.5
    fits = {"x": Fit(jnp.ones(1), jnp.zeros((1, 1)), s * jnp.ones((1, 1, 1)), None)}
    y = s * jax.random.normal(key, (200, 2_000, 1))
    runs = adaptive._Runs({"x": y}, jax.scipy.stats.norm.logpdf(y[..., 0]), y**2)
    found = np.asarray(jax.vmap(lambda made: adaptive._relative_variance(fits, made))(runs))
    a = 1 - 1 / (2 * s**2)
    truth = s / np.sqrt(2 * a) * 3 / (4 * a**2) - 1
    assert abs(found.mean() - truth) < stats.norm.isf(5e-7) * found.std() / np.sqrt(200) + 10 * truth / 2_000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"budget": 0}, "budget must be a positive integer"),
        ({"budget": 3_999}, "budget must be at least 4 rounds of 1000 runs, got 3999"),
        ({"budget": 10_000, "scheme": CrossEntropy(above=2)}, "budget: CrossEntropy learns from a score"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        adapt(tails, "x", **options)
