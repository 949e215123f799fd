"""Quantiles: those of the draws, with intervals that hold for few draws and for distributions with atoms."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from scipy import stats

import variate as vt
from variate.estimates import quantile
from variate.estimates.order_statistics import OrderStatistics


def one(key: Array) -> Array:
    return vt.draw(key, dist.Exponential(1.0))


def test_ends_are_those_of_scipy(key: Array) -> None:
    """The draws are those of `expect`, so they can be made by hand."""
    n = 73
    draws = np.array([float(one(jax.random.fold_in(key, i))) for i in range(n)])
    for q in (0.03, 0.5, 0.98):
        found = quantile(one, q, num_samples=n)(key)
        assert float(found.value) == np.quantile(draws, q, method="inverted_cdf")
        for level in (0.5, 0.95, 0.999):
            expected = stats.quantile_test(draws, q=1.0, p=q).confidence_interval(level)
            expected = [np.nan_to_num(end, nan=side) for end, side in zip(expected, (-np.inf, np.inf), strict=True)]
            np.testing.assert_array_equal(found.interval(level), expected)


LAWS: dict[str, tuple[Callable, Callable]] = {
    "exponential": (one, stats.expon.ppf),
    "counts": (lambda key: vt.draw(key, dist.Poisson(1.5)), lambda q: stats.poisson.ppf(q, 1.5)),
    "Cauchy": (lambda key: vt.draw(key, dist.Cauchy()), stats.cauchy.ppf),
}


@pytest.mark.parametrize(("program", "ppf"), LAWS.values(), ids=LAWS)
def test_they_cover(program: Callable, ppf: Callable, key: Array) -> None:
    """At least 95% of 4,000 keys (z-test, α = 1e-6), and no more than ranks that are integers bring."""
    q = [0.1, 0.5, 0.9]
    found = jax.jit(jax.vmap(quantile(program, q, num_samples=60)))(jax.random.split(key, 4_000))
    low, high = (np.asarray(end) for end in jax.vmap(lambda each: each.interval())(found))
    truth = np.asarray(ppf(np.array(q)))
    covered = np.mean((low <= truth) & (truth <= high), axis=0)
    assert np.all(covered > 0.95 - 4.75 * np.sqrt(0.05 * 0.95 / 4_000))
    if program is one:
        ranks = [stats.binom.ppf([0.025, 0.975], 60, each) for each in q]
        exact = [stats.binom.cdf(b, 60, p) - stats.binom.cdf(a - 1, 60, p) for (a, b), p in zip(ranks, q, strict=True)]
        np.testing.assert_allclose(covered, exact, atol=4.9 * np.sqrt(0.05 * 0.95 / 4_000))


def test_the_error_is_that_of_the_normal_limit(key: Array) -> None:
    """√(q (1 - q) / n) over the density there."""
    found = quantile(one, 0.9, num_samples=40_000)(key)
    assert float(found.stderr) == pytest.approx(np.sqrt(0.09 / 40_000) / 0.1, rel=0.2)
    assert abs(float(found.value) - np.log(10)) < 5 * float(found.stderr)
    assert "95% interval" in repr(found)


def one_further(right: Callable) -> Callable:
    """Ranks from 0 taken for ranks from 1."""
    return lambda self, places: right(self, [place + 1 for place in places])


def one_sided(right: Callable) -> Callable:
    """All that is not in the interval at each end."""
    return lambda self, value, level: right(self, value, 2 * level - 1)


def narrow(right: Callable) -> Callable:
    """The upper rank without its one."""

    def ends(self: OrderStatistics, value: Any, level: float) -> tuple[Any, Any]:
        return right(self, value, level)[0], self.at(
            [int(stats.binom.ppf((1 + level) / 2, self.size, q)) for q in self.probabilities]
        )

    return ends


MUTANTS: dict[str, tuple[str, Callable]] = {
    "ranks": ("at", one_further),
    "levels": ("of", one_sided),
    "+1": ("of", narrow),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str, key: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    method, mutant = MUTANTS[name]
    monkeypatch.setattr(OrderStatistics, method, mutant(getattr(OrderStatistics, method)))
    with pytest.raises(AssertionError):
        test_ends_are_those_of_scipy(key)


@pytest.mark.parametrize("name", ["levels", "+1"])
def test_a_mutant_does_not_cover(name: str, key: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    method, mutant = MUTANTS[name]
    monkeypatch.setattr(OrderStatistics, method, mutant(getattr(OrderStatistics, method)))
    with pytest.raises(AssertionError):
        test_they_cover(*LAWS["exponential"], key)


def test_trees_with_an_axis_of_probabilities(key: Array) -> None:
    def both(key: Array) -> dict[str, Array]:
        z = vt.draw(key, dist.Normal(jnp.zeros(3), 1.0))
        return {"z": z, "positive": z.sum() > 0}

    found = quantile(both, [0.25, 0.75], num_samples=500, block_size=128)(key)
    assert found.value["z"].shape == (2, 3)
    assert np.all(found.value["z"][0] < found.value["z"][1])
    np.testing.assert_array_equal(found.value["positive"], [0, 1])
    other = quantile(both, 0.25, num_samples=500, block_size=500)(jax.random.clone(key))
    np.testing.assert_array_equal(other.value["z"], found.value["z"][0])


def test_estimates_of_several_keys_have_their_intervals_and_merge(key: Array) -> None:
    run = quantile(lambda key: jax.random.normal(key, (2,)), [0.5, 0.9], num_samples=60)
    keys = jax.random.split(key, 4)
    each, found = [run(one) for one in keys], jax.vmap(run)(jax.random.clone(keys))
    ends = [one.interval(0.9) for one in each]
    np.testing.assert_array_equal(found.interval(0.9), np.swapaxes(ends, 0, 1))

    rows = [np.sort(np.concatenate([each[i].ends.rows, each[i + 2].ends.rows]), axis=0) for i in range(2)]
    first, second = jax.tree.map(lambda leaf: leaf[:2], found), jax.tree.map(lambda leaf: leaf[2:], found)
    for i, merged in enumerate((each[0].merge(each[2]), each[1].merge(each[3]))):
        np.testing.assert_array_equal(merged.value, rows[i][[59, 107]])
        np.testing.assert_array_equal(merged.value, first.merge(second).value[i])
        np.testing.assert_array_equal(merged.interval()[1], first.merge(second).interval()[1][i])
        assert merged.num_samples == 120


def test_what_few_draws_cannot_tell_is_infinite(key: Array) -> None:
    low, high = quantile(one, 0.999, num_samples=100)(key).interval()
    assert np.isfinite(low)
    assert np.isposinf(high)


def test_no_number_is_told_and_an_infinity_is_one(key: Array) -> None:
    found = quantile(lambda key: jnp.log(jax.random.normal(key)), 0.5)(key)
    assert np.isnan(found.value)
    assert int(found.nonfinite) > 4_000
    assert not found.converged
    found = quantile(lambda key: -jnp.log(jnp.maximum(jax.random.normal(key), 0)), 0.2)(jax.random.clone(key))
    assert found.converged
    assert float(found.value) == pytest.approx(-np.log(stats.norm.ppf(0.8)), abs=5 * float(found.stderr))


BAD: dict[str, tuple[Callable[[], Any], type, str]] = {
    "a probability of 1": (lambda: quantile(one, 1.0), ValueError, "q must be between 0 and 1"),
    "one of several": (lambda: quantile(one, [0.5, 2]), ValueError, "q must be between 0 and 1"),
    "none": (lambda: quantile(one, []), ValueError, "q must be a probability"),
    "no draws": (lambda: quantile(one, 0.5, num_samples=0), ValueError, "num_samples"),
    "parameters": (
        lambda: quantile(lambda key: vt.draw(key, dist.Exponential(-1.0)), 0.5)(jax.random.key(0)),
        ValueError,
        "rate",
    ),
    "no number": (lambda: quantile(lambda key: key, 0.5)(jax.random.key(0)), TypeError, "real"),
}


@pytest.mark.parametrize(("call", "error", "text"), BAD.values(), ids=BAD)
def test_bad_input(call: Callable, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        call()
