"""The reusable holdout keeps its promise to an adversary that reads every answer, which the plain one does not."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from scipy import stats

from variate.estimates import ReusableHoldout
from variate.estimates.holdout import Answer, HoldoutState

ROWS, FEATURES, KEYS = 400, 1_200, 1_000
LEVEL = 0.95


def signs(key: Array) -> dict[str, Array]:
    """Features and labels that have nothing to do with each other."""
    bits = jax.random.bits(key, (ROWS, FEATURES // 32 + 1), "uint32")
    spread = (bits[..., None] >> jnp.arange(32, dtype="uint32")[None, None]) & jnp.uint32(1)
    return {"x": 2 * spread.reshape(ROWS, -1)[:, :FEATURES].astype("float32") - 1}


def agreement(weights: Array) -> Any:
    """How often a vote agrees with the label, which is a sign flip away from all of them being 1."""
    return lambda row: jnp.sum(row["x"] * weights) > 0


def attack(kind: Any, key: Array) -> tuple[Array, Array, Array]:
    """Asks for every feature, and then for the vote of all, each with the sign that its answer suggests.

    What is asked has the mean 1/2 for each of them. Returns the worst error of an answer, whether the last was given,
    and the tolerance.
    """
    key_train, key_holdout, key_start, key_ask = jax.random.split(key, 4)
    options = {"threshold": 0.15, "noise": 0.0005, "queries": FEATURES + 1, "budget": 2, "level": LEVEL}
    own = kind(signs(key_train), signs(key_holdout), **options)

    def ask(state: HoldoutState, of: tuple[Array, Array]) -> tuple[HoldoutState, Answer]:
        key, feature = of
        return own.ask(key, state, lambda row: row["x"][feature] > 0)

    keys = jax.random.split(key_ask, FEATURES + 1)
    state, answers = jax.lax.scan(ask, own.start(key_start), (keys[1:], jnp.arange(FEATURES)))
    weights = jnp.where(jnp.nan_to_num(answers.value, nan=0.5) >= 0.5, 1, -1).astype("float32")
    _, last = own.ask(keys[0], state, agreement(weights))
    answered = jnp.append(~answers.spent, ~last.spent)
    # The vote has the mean 1/2 but for ties, which no chance of 1,200 signs makes as much as 3% of.
    error = jnp.where(answered, jnp.abs(jnp.append(answers.value, last.value) - 0.5), 0)
    return jnp.max(error), ~last.spent, jnp.asarray(own.tolerance)


class Naive(ReusableHoldout):
    """Answers by the holdout: no threshold, no noise."""

    def ask(self, key: Array, state: HoldoutState, query: Any) -> tuple[HoldoutState, Answer]:
        value = jnp.mean(jax.vmap(query)(self.holdout).astype(float))
        no = jnp.zeros((), bool)
        return state, Answer(value, jnp.asarray(self.tolerance), no, no, jnp.zeros((), int))


class Trusting(ReusableHoldout):
    """Never looks at the holdout: the threshold is out of reach."""

    def ask(self, key: Array, state: HoldoutState, query: Any) -> tuple[HoldoutState, Answer]:
        return super().ask(key, state._replace(excess=jnp.asarray(10.0)), query)


class Turned(ReusableHoldout):
    """The wrong sign: training means are corrected away from the holdout's."""

    def ask(self, key: Array, state: HoldoutState, query: Any) -> tuple[HoldoutState, Answer]:
        after, answer = super().ask(key, state, query)
        training = jnp.mean(jax.vmap(query)(self.train).astype(float))
        turned = jnp.where(answer.overfitted, 2 * training - answer.value, answer.value)
        return after, answer._replace(value=turned)


def broken(kind: Any, key: Array, count: int = KEYS) -> tuple[float, float]:
    """How often the promise was, and how often the last query got an answer."""
    keys = jax.random.split(key, count)
    error, given, tolerance = jax.jit(lambda keys: jax.lax.map(lambda key: attack(kind, key), keys, batch_size=10))(
        keys
    )
    return float(np.mean(error > tolerance)), float(np.mean(given))


@pytest.mark.slow
def test_the_guarantee_holds_against_an_adversary(key: Array) -> None:
    """1,000 keys, by a binomial test at 1e-6; and the vote is answered nearly always, so that there is something."""
    missed, given = broken(ReusableHoldout, key)
    assert missed * KEYS <= stats.binom.isf(1e-6, KEYS, 1 - LEVEL)
    assert given > 0.9


@pytest.mark.slow
@pytest.mark.table
@pytest.mark.parametrize("kind", [Naive, Trusting, Turned])
def test_what_is_none_breaks_it(kind: Any, key: Array) -> None:
    """At 100 keys: what breaks it at half of them is not seen with probability 3e-11; these do at nearly all."""
    assert broken(kind, key, 100)[0] * 100 > stats.binom.isf(1e-6, 100, 1 - LEVEL)


def small(**options: Any) -> ReusableHoldout:
    """Training rows of the mean 0.2 and holdout rows of the mean 0.5."""
    chosen: dict[str, Any] = {"threshold": 0.25, "noise": 0.01, "queries": 50, "budget": 3} | options
    return ReusableHoldout(jnp.full(10, 0.2), jnp.full(40, 0.5), **chosen)


def exceeding(excess: float, noise: float) -> float:
    """P(excess > γ + η), γ and η Laplace of 2 and 4 times the noise, whose sum has the density of this distribution.

    Of a difference or sum of such variables with the scales a < b, beyond z > 0:
    (b² exp(-z/b) - a² exp(-z/a)) / (2 (b² - a²)).
    """
    a, b = 2 * noise, 4 * noise
    return 1 - (b**2 * math.exp(-excess / b) - a**2 * math.exp(-excess / a)) / (2 * (b**2 - a**2))


def first_answers(own: ReusableHoldout, keys: Array) -> Answer:
    def first(key: Array) -> Answer:
        start, ask = jax.random.split(key)
        return own.ask(ask, own.start(start), lambda x: x)[1]

    return jax.jit(jax.vmap(first))(keys)


def noise_is_right(own: ReusableHoldout, key: Array) -> bool:
    """At 1e-6: how often the threshold is met by 0.05 (binomial), and the noise's mean size and sign (z-tests)."""
    found = first_answers(own, jax.random.split(key, 20_000))
    told = np.asarray(found.overfitted)
    share = exceeding(0.05, 0.01)
    ps = [stats.binomtest(int(told.sum()), told.size, share).pvalue]
    if not 0 < told.sum() < told.size:
        return bool(ps[0] >= 1e-6)
    noise = np.asarray(found.value)[told] - 0.5
    # The mean size of a Laplace variable of the scale 1, rounded: the sum of P(|x| > i + 1/2) over i from 0.
    size = 0.01 * math.exp(-0.5) / (1 - math.exp(-1))
    ps += [
        2 * stats.norm.sf(abs(noise.mean()) / (noise.std() / math.sqrt(noise.size))),
        2 * stats.norm.sf(abs(np.abs(noise).mean() - size) / (np.abs(noise).std() / math.sqrt(noise.size))),
    ]
    return bool(min(ps) * len(ps) >= 1e-6)


def test_the_noise_is_what_it_says(key: Array) -> None:
    assert noise_is_right(small(), key)


@pytest.mark.parametrize("scale", [0.0, 0.5, -2.0])
def test_other_noise_is_caught(scale: float, key: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    laplace = jax.random.laplace
    monkeypatch.setattr(jax.random, "laplace", lambda *args, **options: scale * laplace(*args, **options))
    assert not noise_is_right(small(noise=0.01), key)


def test_what_agrees_is_free_and_what_does_not_costs(key: Array) -> None:
    own, keys = small(noise=1e-4, queries=6), jax.random.split(key, 9)
    state = own.start(keys[0])
    for i in range(2):
        state, answer = own.ask(keys[1 + i], state, lambda x: 0 * x + 0.3)
        assert not answer.overfitted
        assert abs(float(answer.value) - 0.3) < 1e-6
        assert int(state.budget) == 3
    for left in (2, 1, 0):
        state, answer = own.ask(keys[3 + left], state, lambda x: x)
        assert answer.overfitted
        assert not answer.spent
        assert float(answer.tolerance) == own.tolerance
        assert int(state.budget) == left
    state, answer = own.ask(keys[6], state, lambda x: 0 * x)
    assert answer.spent
    assert np.isnan(answer.value)
    assert np.isinf(answer.tolerance)
    assert int(state.asked) == 5


def test_there_is_no_answer_to_more_queries_than_were_planned(key: Array) -> None:
    own, keys = small(queries=3), jax.random.split(key, 5)
    state, spent = own.start(keys[0]), []
    for each in keys[1:]:
        state, answer = own.ask(each, state, lambda x: 0 * x)
        spent.append(bool(answer.spent))
    assert spent == [False, False, False, True]


def test_values_out_of_the_unit_interval_are_moved_there_and_counted(key: Array) -> None:
    own = small(threshold=2.0, noise=1e-4)
    one, two, three = jax.random.split(key, 3)
    state = own.start(one)
    _, above = own.ask(two, state, lambda x: x + 5)
    assert (float(above.value), int(above.outside)) == (1.0, 10)
    _, nan = own.ask(three, state, lambda x: x * jnp.nan)
    assert (float(nan.value), int(nan.outside)) == (0.0, 10)


def test_the_tolerance_is_that_of_every_query_that_may_be_asked() -> None:
    """Counted one by one: a query follows each sequence of answers, of which fewer than the budget cost."""
    own = small(queries=4, budget=3, noise=0.3)
    kinds = 1 + math.floor(1 / 0.3 + 0.5) + 1  # the training mean, and the rounded ones

    def after(left: int, budget: int) -> int:
        if left == 0 or budget == 0:
            return 0
        return 1 + after(left - 1, budget) + (kinds - 1) * after(left - 1, budget - 1)

    t = math.log((4 + 9) / 0.05)
    expected = 0.25 + 6 * 0.3 * t + math.sqrt(math.log(4 * after(4, 3) / 0.05) / 80)
    assert own.tolerance == pytest.approx(expected, rel=1e-12)
    assert own.vacuous


def test_more_rows_make_it_smaller_and_too_few_promise_nothing() -> None:
    def tolerance(n: int, noise: float) -> float:
        own = ReusableHoldout(
            jnp.zeros(n), jnp.zeros(n), threshold=4 / math.sqrt(n), noise=noise, queries=10_000, budget=10
        )
        assert own.vacuous == (own.tolerance >= 1)
        return own.tolerance

    assert tolerance(1_000, 1_000**-0.5) > 1  # the noise of the paper's experiment, which had ten times the rows
    assert tolerance(10_000, 5e-4) < 0.2
    assert tolerance(40_000, 5e-4) < tolerance(10_000, 5e-4)


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "other rows": (lambda: ReusableHoldout(jnp.ones((3, 2)), jnp.ones((3, 4)), **OPTIONS), ValueError, "rows of shape"),
    "another structure": (lambda: ReusableHoldout({"x": jnp.ones(3)}, jnp.ones(3), **OPTIONS), ValueError, "structure"),
    "no rows": (lambda: ReusableHoldout(jnp.ones(0), jnp.ones(3), **OPTIONS), ValueError, "train: expected arrays"),
    "lengths": (lambda: ReusableHoldout([jnp.ones(2), jnp.ones(3)], [jnp.ones(3)] * 2, **OPTIONS), ValueError, "train"),
    "no noise": (lambda: small(noise=0.0), ValueError, "noise must be a positive number, got 0.0"),
    "no threshold": (lambda: small(threshold=-1.0), ValueError, "threshold must be"),
    "too much budget": (lambda: small(budget=51), ValueError, "budget must be a positive integer up to 50"),
    "a level": (lambda: small(level=1.0), ValueError, "level must be between 0 and 1"),
    "words": (lambda: ReusableHoldout(["a"], ["b"], **OPTIONS), TypeError, "train"),
    "no query": (lambda: asked(3), TypeError, "query"),
    "another query": (lambda: asked(lambda x, y: x), TypeError, "query must be a function of a row"),
    "no state": (lambda: small().ask(jax.random.key(0), None, lambda x: x), TypeError, "state"),  # pyright: ignore[reportArgumentType]
    "a query of nothing": (lambda: asked(lambda x: "a"), TypeError, "real numbers"),
    "a query of arrays": (lambda: asked(lambda x: jnp.stack([x, x])), TypeError, "one number for a row"),
    "a query of words": (lambda: asked(lambda x: x + 1j), TypeError, "real numbers"),
}
OPTIONS: dict[str, Any] = {"threshold": 0.1, "noise": 0.01, "queries": 10, "budget": 2}


def asked(query: Any) -> None:
    own = small()
    start, ask = jax.random.split(jax.random.key(0))
    own.ask(ask, own.start(start), query)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_an_error_that_names_it(name: str) -> None:
    make, error, match = BAD[name]
    with pytest.raises(error, match=match):
        make()
