"""Draws whose joint outcomes are all gone through: no noise is left of them, and what does not go is refused."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from gradients.coins import flip
from gradients.exactness import fresh, largest
from gradients.finite_programs import PROGRAMS
from jax import Array, lax
from jax.nn import sigmoid
from jax.random import split

import variate as vt
from variate.gradients import Enumerate, Marginalize, Pathwise, Score, outcomes

EXACT = 1e-12


def noisy(key: Array, t: Array) -> Array:
    """A coin, noise around what it shows, and a second coin that nothing moves."""
    k1, k2, k3 = split(key, 3)
    a = flip(k1, t, "a")
    z = vt.draw(k2, dist.Normal(a * t, 1.0), name="z")
    return flip(k3, jnp.zeros(()), "b") * t * (1 + a) + z**2


def noisy_mean(t: Array) -> Array:
    return t * (1 + sigmoid(t)) / 2 + 1 + sigmoid(t) * t**2


def test_what_takes_its_path_may_follow(key: Array) -> None:
    """The value, held at what the normal numbers came to, is the only noise that is left."""
    names = {"a": Marginalize(), "b": Marginalize(), "z": Pathwise()}
    gradient = vt.grad(noisy, num_samples=4_000, rules=names)(key, jnp.array(0.4))
    truth = jax.grad(noisy_mean)(0.4)
    assert abs(gradient.value - truth) < 4.9 * gradient.stderr
    sampled = vt.grad(noisy, num_samples=4_000, rules={**names, "b": Score()})(key, jnp.array(0.4))
    assert gradient.stderr < sampled.stderr


def test_noise_that_nothing_moves_goes_too(key: Array) -> None:
    def program(key: Array, t: Array) -> Array:
        return flip(key, jnp.zeros(()), "b") * t**2

    value, found = vt.value_and_grad(program, num_samples=2, rules={"b": Marginalize()})(key, jnp.array(0.7))
    np.testing.assert_allclose(value.value, 0.7**2 / 2, rtol=EXACT)
    np.testing.assert_allclose(found.value, 0.7, rtol=EXACT)
    assert value.stderr < EXACT
    assert found.stderr < EXACT


def test_impossible_outcomes_have_their_derivative(key: Array) -> None:
    """Of a face of probability zero it is the cost that it would have."""

    def program(key: Array, p: Array) -> Array:
        return jnp.array([1.0, 5.0, 7.0])[vt.draw(key, dist.Categorical(probs=p), name="x")]

    found = vt.grad(program, num_samples=1, rules={"x": Marginalize()})(key, jnp.array([0.5, 0.5, 0.0]))
    wanted = vt.grad(program, num_samples=1, rules={"x": Enumerate()})(key, jnp.array([0.5, 0.5, 0.0]))
    assert jnp.all(jnp.isfinite(found.value))
    # The latter compares with what was drawn; both are derivatives along directions that keep the sum.
    np.testing.assert_allclose(found.value - found.value[0], wanted.value - wanted.value[0], rtol=EXACT)


def linked(key: Array, t: Array) -> Array:
    k1, k2 = split(key)
    return flip(k2, t * flip(k1, t, "a"), "b")


def branched(key: Array, t: Array) -> Array:
    k1, k2 = split(key)
    a = flip(k1, t, "a")
    return lax.cond(a > 0, lambda k: flip(k, t, "b"), lambda k: t, k2)


def wide(key: Array, t: Array) -> Array:
    k1, k2 = split(key)
    return jnp.sum(flip(k1, t * jnp.ones(6), "a")) * jnp.sum(flip(k2, t * jnp.ones(6), "b"))


def unbounded(key: Array, t: Array) -> Array:
    return vt.draw(key, dist.Poisson(jnp.exp(t)), name="a").astype(float)


BOTH = {"a": Marginalize(), "b": Marginalize()}


@pytest.mark.parametrize(
    ("program", "rules", "words"),
    [
        (linked, {"a": Marginalize(), "b": Score()}, "'b' depends on them and has the rule Score"),
        (linked, {"a": Marginalize(), "b": Enumerate()}, "'b' depends on them and has the rule Enumerate"),
        (branched, {"a": Marginalize(), "b": Score()}, "'b' is inside a branch"),
        (branched, BOTH, "'b' .*inside a branch, where it is not drawn in all outcomes"),
        (wide, BOTH, r"\['a', 'b'\] have 4096 outcomes together, more than Marginalize\(limit=1024\)"),
        (wide, {"a": Marginalize(32)}, r"it has 2\^6 outcomes .* more than Marginalize\(limit=32\)"),
        (unbounded, {"a": Marginalize()}, "its support is not finite"),
    ],
)
def test_what_does_not_go_is_refused(program: Callable, rules: dict, words: str, key: Array) -> None:
    with pytest.raises(ValueError, match=words):
        vt.grad(program, num_samples=2, rules=rules)(key, jnp.array(0.3))


def test_its_limit_is_a_number() -> None:
    with pytest.raises(ValueError, match="limit"):
        Marginalize(0)


@pytest.mark.slow
@pytest.mark.table
def test_tuning_finds_it_for_linked_draws(key: Array) -> None:
    """Of one draw alone it is refused, as the others depend on that."""
    case = PROGRAMS["linked coins"]
    candidates = [Score(), Marginalize()]
    found = vt.tune(case.program, candidates=candidates, budget=128, progress=False)(key, *case.args)
    assert found.rules == dict.fromkeys("abc", Marginalize())
    assert found.trials[0].measured is not None
    assert found.trials[0].measured.variance == 0


def test_explain_says_what_is_gone_through(key: Array) -> None:
    case = PROGRAMS["linked coins"]
    explained = vt.explain(case.program, rules=dict.fromkeys("abc", Marginalize()))(key, *case.args)
    assert [row.rule for row in explained.rows] == ["Marginalize"] * 3
    assert not explained.biased


def outcome_forgotten(right: Any) -> Any:
    """The last outcome is not gone through."""
    return lambda draws: {i: places[:-1] for i, places in right(draws).items()}


def probabilities_held_fixed(right: Any) -> Any:
    """What weighs the outcomes is not differentiated."""

    def chosen(*args: Any) -> Any:
        values, probability = right(*args)
        return values, lax.stop_gradient(probability)

    return chosen


@pytest.mark.parametrize(("attribute", "mutant"), [("places", outcome_forgotten), ("chosen", probabilities_held_fixed)])
def test_a_mutant_is_caught(attribute: str, mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    case = PROGRAMS["linked coins"]
    names = dict.fromkeys("abc", Marginalize())
    truth = [np.asarray(jax.grad(case.expectation)(*case.args))]

    def error() -> float:
        return largest([vt.grad(fresh(case), num_samples=1, rules=names)(jax.random.key(1), *case.args).value], truth)

    assert error() < EXACT
    monkeypatch.setattr(outcomes, attribute, mutant(getattr(outcomes, attribute)))
    assert error() > 1e-3
