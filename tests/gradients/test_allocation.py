"""`allocate` finds the split of Neyman, spends the budget, and says truly what variance it leaves."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from jax.random import split

import variate as vt
from variate.gradients import allocation
from variate.gradients.allocation import Allocation, allocate

SPREAD = jnp.array([1.0, 3.0, 0.5, 2.0])


def noisy(key: Array, spread: Array, t: Array) -> Array:
    """Its derivative has the spread that the item says, and the item for its mean."""
    return t * spread * (1 + vt.draw(key, dist.Normal(0.0, 1.0)))


def neyman(budget: float, weights: np.ndarray, costs: np.ndarray) -> np.ndarray:
    share = weights * np.asarray(SPREAD) / np.sqrt(costs)
    return budget * share / np.sum(share * costs)


PRICED = {
    "as they are": (None, None),
    "weights": (np.array([1.0, 0.2, 4.0, 1.0]), None),
    "costs": (None, np.array([1.0, 9.0, 0.3, 2.5])),
    "both": (np.array([1, 2, 3, 4]), np.array([4, 3, 2, 1])),
}


@pytest.mark.wide
@pytest.mark.parametrize("name", PRICED)
def test_a_large_pilot_finds_the_split_in_closed_form(name: str, key: Array) -> None:
    weights, costs = PRICED[name]
    found = allocate(noisy, budget=10_000.0, pilot=4_000, weights=weights, costs=costs)(key, SPREAD, 0.7)
    each = [np.ones(4) if x is None else x for x in (weights, costs)]
    np.testing.assert_allclose(found.num_samples, neyman(10_000, *each), rtol=0.06)
    np.testing.assert_allclose(found.spread, SPREAD, rtol=0.06)
    variance = np.sum(each[0] ** 2 * np.asarray(SPREAD) ** 2 / found.num_samples)
    np.testing.assert_allclose(found.variance, variance, rtol=0.1)
    assert found.variance <= found.equal
    assert np.sum(found.num_samples * each[1]) <= 10_000
    assert np.sum(found.num_samples * each[1]) > 10_000 - np.max(each[1])


def test_a_vector_of_parameters_and_a_tree_of_items(key: Array) -> None:
    """The spread is that of all coordinates."""

    def program(key: Array, item: dict, t: Array) -> Array:
        return jnp.sum(item["scale"] * t * vt.draw(key, dist.Normal(jnp.zeros(2), 1.0))) + item["shift"]

    items = {"scale": jnp.array([[3.0, 4.0], [0.6, 0.8], [5.0, 12.0]]), "shift": jnp.arange(3.0)}
    found = allocate(program, budget=190.0, pilot=2_000)(key, items, jnp.ones(2))
    np.testing.assert_allclose(found.spread, [5, 1, 13], rtol=0.1)
    np.testing.assert_allclose(found.num_samples, [50, 10, 130], rtol=0.1)


@pytest.mark.parametrize("share", [np.ones(7), np.arange(7.0), np.array([0, 0, 0, 0, 0, 1e-9, 1e9]), np.zeros(7)])
def test_whole_numbers_add_up_to_the_budget(share: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    for budget in (7, 8, 23, 1_000, 10_007):
        for least in (1, 2):
            if budget >= 7 * least:
                n = allocation._split(share * rng.uniform(0.5, 2, 7), np.ones(7), float(budget), least)
                assert n.sum() == budget
                assert n.min() >= least


def test_costs_are_never_overspent() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        cost, share, least = rng.uniform(0.1, 5, 6), rng.exponential(size=6) ** 3, int(rng.integers(1, 4))
        budget = least * cost.sum() * rng.uniform(1, 20)
        n = allocation._split(share, cost, budget, least)
        assert n.min() >= least
        assert budget - 2 * cost.max() < np.sum(n * cost) <= budget * (1 + 1e-12)


def test_an_item_whose_pilot_did_not_vary_gets_what_the_prior_gives_it(key: Array) -> None:
    spread = SPREAD.at[1].set(0.0)
    for prior in (0.0, 80.0):
        found = allocate(noisy, budget=100.0, least=3, pilot=400, prior=prior)(key, spread, 0.7)
        assert found.spread[1] == 0
        assert found.num_samples.sum() == 100
        mixed = 400 * found.spread**2 + prior * np.mean(found.spread**2)
        wanted = 100 * np.sqrt(mixed) / np.sum(np.sqrt(mixed))
        assert found.num_samples[1] == 3 if prior == 0 else np.all(np.abs(found.num_samples - wanted) < 1)


def test_where_nothing_varies_all_get_the_same(key: Array) -> None:
    """The default rule of a coin is exact, and what is left is rounding, which says nothing."""

    def coin(key: Array, x: Array, t: Array) -> Array:
        return x * vt.draw(key, dist.Bernoulli(logits=t + x)).astype(float)

    found = allocate(coin, budget=100.0)(key, jnp.linspace(-3.0, 6.0, 10), 0.3)
    np.testing.assert_array_equal(found.num_samples, 10)
    assert found.variance == found.equal == 0
    assert "1.00 of that of equal shares" in str(found)


def test_what_it_prints() -> None:
    found = Allocation(np.array([1, 9]), np.ones(2), np.array([1.0, 3.0]), 2.0, 4.0)
    assert str(found) == "10 runs over 2 items, 1 to 9 each: variance 2, 0.50 of that of equal shares"
    np.testing.assert_array_equal(found.index, [0, *[1] * 9])
    np.testing.assert_allclose(found.weights, [1, *[1 / 9] * 9])


# Over keys: the gradient is unbiased and its variance is what was said.

ITEMS, WEIGHT, BUDGET = jnp.array([0.3, 2.0, -1.0]), np.array([1.0, 0.5, 2.0]), 30
RULES = {"b": vt.gradients.Score(vt.gradients.NoBaseline())}


def tossed(key: Array, item: Array, t: Array) -> Array:
    return (item + vt.draw(key, dist.Bernoulli(logits=t * item), name="b").astype(float)) ** 2


def tossed_mean(t: Array) -> Array:
    p = jax.nn.sigmoid(t * ITEMS)
    return jnp.sum(WEIGHT * (p * (ITEMS + 1) ** 2 + (1 - p) * ITEMS**2))


def summed(key: Array, index: Array, weights: Array, t: Array) -> Array:
    costs = jax.vmap(tossed, (0, 0, None))(split(key, BUDGET), ITEMS[index], t)
    return jnp.sum(weights * costs)


@pytest.mark.slow
def test_the_weighted_gradient_is_unbiased_and_as_variable_as_was_said(key: Array) -> None:
    k1, k2, k3, k4 = split(key, 4)
    t = jnp.array(0.4)
    find = allocate(tossed, budget=float(BUDGET), pilot=8, weights=WEIGHT, rules=RULES)
    splits = [find(k, ITEMS, t) for k in split(k1, 50)]
    gradient = vt.grad(summed, 3, num_samples=1, rules=RULES)
    one = jax.jit(lambda key, index, weights: gradient(key, index, weights, t).value)
    index, weights = (jnp.asarray(np.stack([getattr(s, x) for s in splits])) for x in ("index", "weights"))
    found = np.asarray(jax.jit(jax.vmap(jax.vmap(one, (0, None, None))))(split(k2, (50, 300)), index, weights))
    wanted = jax.grad(tossed_mean)(t)
    each = found.mean(axis=1)  # pilots are independent of each other
    assert abs(each.mean() - wanted) < 5 * each.std() / np.sqrt(len(each))
    assert abs(wanted) / 2 > 10 * each.std() / np.sqrt(len(each))

    single = vt.grad(tossed, 2, num_samples=313 * 64, rules=RULES)
    spread = np.array([single(k, item, t).stderr ** 2 * 20_032 for k, item in zip(split(k3, 3), ITEMS, strict=True)])

    def variance(n: np.ndarray) -> float:
        return float(np.sum(WEIGHT**2 * spread / n))

    def excess(of: Callable[[Allocation], float], splits: list[Allocation], less: float = 1.0) -> tuple[float, float]:
        """Over the true variance, with five standard errors."""
        each = np.array([of(s) - less * variance(s.num_samples) for s in splits])
        return float(np.mean(each)), 5 * float(np.std(each)) / math.sqrt(len(splits))

    # Half of a pilot splits a little worse than all of it: what is said is too much by that, and never too little.
    mean, error = excess(lambda s: s.variance, splits)
    assert mean > -error
    mean, error = excess(lambda s: s.equal - variance(np.full(3, 10)) + variance(s.num_samples), splits)
    assert abs(mean) < error
    find = allocate(tossed, budget=float(BUDGET), pilot=32, weights=WEIGHT, rules=RULES)
    fine = [find(k, ITEMS, t) for k in split(k4, 40)]
    mean, error = excess(lambda s: s.variance, fine)
    assert mean > -error
    mean, error = excess(lambda s: s.variance, fine, 1.1)
    assert mean < error


def test_a_pilot_does_not_flatter_the_split_that_it_made(key: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve items that vary alike, of which a small pilot believes that they do not, if it is trusted."""
    monkeypatch.setattr(allocation, "_reliability", lambda first, second: 1.0)
    find = allocate(noisy, budget=120.0, pilot=4, prior=0.5)
    splits = [find(k, jnp.ones(12), 0.7) for k in split(key, 50)]

    def z_score(of: Callable[[Allocation], float]) -> float:
        each = np.array([of(s) - np.sum(1 / s.num_samples) for s in splits])
        return float(np.mean(each) / np.std(each)) * math.sqrt(len(splits))

    assert z_score(lambda s: s.variance) > -5
    assert z_score(lambda s: np.sum(s.spread**2 / s.num_samples)) < -5  # as it would be if it judged that itself


def seldom(key: Array, spread: Array, t: Array) -> Array:
    """Its derivative is zero in 49 of 50 runs."""
    return t * spread * vt.draw(key, dist.Bernoulli(probs=0.02)).astype(float)


@pytest.mark.parametrize("trusting", [False, True])
def test_a_pilot_whose_halves_disagree_is_not_believed(trusting: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where most items have not varied yet, those that have are no others."""
    if trusting:  # as if the halves always agreed
        monkeypatch.setattr(allocation, "_reliability", lambda first, second: 1.0)
    find = allocate(seldom, budget=400.0, pilot=16)
    splits = [find(jax.random.key(n), jnp.ones(20), 0.7).num_samples for n in range(30)]
    worse = np.mean([np.mean(20 / n) for n in splits])  # the variance, by that of equal shares
    assert worse > 1.5 if trusting else worse < 1.1


def test_what_is_refused(key: Array) -> None:
    def refused(match: str, items: Any = SPREAD, kind: type[Exception] = ValueError, **options: Any) -> None:
        with pytest.raises(kind, match=match):
            allocate(noisy, **{"budget": 100.0, **options})(key, items, 0.7)

    refused("budget: 2 runs of each of the items cost 8, got 5", budget=5.0, least=2)
    refused("budget: 1 runs of each of the items cost 200, got 100", costs=np.full(4, 50.0))
    refused("budget must be a positive number", budget=0.0)
    refused("pilot: expected 4 runs or more", pilot=3)
    refused("least must be a positive integer", least=0)
    refused("prior must be a number of runs, 0 or more", prior=-1.0)
    refused("stderr: expected True", stderr=False)
    refused("has_aux: not an option here", has_aux=True)
    refused("num_samples: not an option here", num_samples=8)
    refused(r"weights must have one number for each of 4 items, got shape \(3,\)", weights=np.ones(3))
    refused("costs must be positive and finite", costs=np.array([1.0, 0.0, 1.0, 1.0]))
    refused("items must be arrays that share a first axis", items=jnp.array(3.0))
    refused("items must be arrays that share a first axis", items=(jnp.ones(3), jnp.ones(2)))
    refused("no draw is called 'q'", rules={"q": vt.gradients.Score()})
