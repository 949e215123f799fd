"""REBAR and RELAX are as near to the exact gradient as they say, whatever their control is."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from gradients import finite_programs
from gradients.coins import flip
from gradients.sampled import Sampled, over_normal
from gradients.sampled_checks import blind, compiled_once, estimated, exact_gradient, far
from gradients.test_baselines import until_heads
from gradients.test_gradient_coverage import Case, bars, honest
from jax import Array, lax
from jax.nn import log_softmax, sigmoid, softmax
from jax.random import split
from scipy import stats

import variate as vt
from variate.gradients import NoBaseline, Pathwise, Score
from variate.gradients.rules import rebar
from variate.gradients.rules.rebar import Rebar
from variate.gradients.rules.relax import Relax

TABLE, PAIR, TRIPLE = jnp.array([0.3, -1.0, 1.7]), jnp.array([0.4, -0.7]), jnp.array([0.3, -0.4, 0.8])


def spread_out(key: Array, t: Array) -> Array:
    k1, k2 = split(key)
    x = vt.draw(k1, dist.CategoricalProbs(softmax(t)).expand((2,)), name="x")
    b = vt.draw(k2, dist.Bernoulli(logits=t[:2]).to_event(1), name="b").astype(float)
    return TABLE[x[0]] * TABLE[x[1]] + jnp.sum(b) ** 2 * TABLE[x[0]] + b[0] * t[2]


def spread_out_mean(t: Array) -> Array:
    p, q = softmax(t), sigmoid(t[:2])
    square = jnp.sum(q) ** 2 + jnp.sum(q * (1 - q))
    return (p @ TABLE) ** 2 + square * (p @ TABLE) + q[0] * t[2]


def among_others(key: Array, t: Array) -> Array:
    """A normal and a count before a coin that depends on both, and a normal behind it."""
    k1, k2, k3, k4 = split(key, 4)
    z = vt.draw(k1, dist.Normal(t[0], 1.0), name="z")
    n = vt.draw(k2, dist.Categorical(logits=TABLE * t[1]), name="n")
    b = flip(k3, z + t[1] * TABLE[n], "b")
    return b * z**2 + b * TABLE[n] + jnp.sin(z + vt.draw(k4, dist.Normal(t[0] * 0.0, 0.3))) * b


def among_others_mean(t: Array) -> Array:
    def given(z: Array) -> Array:
        chances = sigmoid(jnp.expand_dims(z, 1) + t[1] * TABLE[None])
        costs = jnp.expand_dims(z**2 + jnp.sin(z) * jnp.exp(-(0.3**2) / 2), 1) + TABLE[None]
        return (chances * costs) @ softmax(TABLE * t[1])

    return over_normal(given, t[0], jnp.ones(()))


def behind_it(key: Array, t: Array) -> Array:
    k1, k2, k3 = split(key, 3)
    b = flip(k1, t, "b")
    z = vt.draw(k2, dist.Normal(2 * b, 1.0), name="z")
    return z**2 + b * z + 3 * b * flip(k3, 2 * b - 0.5, "c")


def behind_it_mean(t: Array) -> Array:
    return sigmoid(t) * (7 + 3 * sigmoid(1.5)) + sigmoid(-t)


WEIGHTS, AT = jnp.array([1.0, -0.5, 0.3]), jnp.array([[0.4, -0.7, 1.0], [-0.3, 0.2, 0.6]])


def product(key: Array, t: Array) -> Array:
    k1, k2 = split(key)
    return jnp.exp(flip(k1, t[0], "a") @ WEIGHTS) * jnp.exp(flip(k2, t[1], "b") @ WEIGHTS)


def product_mean(t: Array) -> Array:
    return jnp.prod(1 + sigmoid(t) * jnp.expm1(WEIGHTS)[None])


def good(z: Array, t: Array) -> Array:
    """The cost of coins that are nearly those of z, the others left at their mean."""
    return jnp.exp(softmax(2 * z, axis=-1)[:, 1] @ WEIGHTS) * jnp.prod(1 + sigmoid(t[0]) * jnp.expm1(WEIGHTS))


def total(z: Array, *args: Any) -> Array:
    return jnp.sum(jnp.sin(z)) + 2 * jnp.sum(softmax(z))


def from_finite(name: str, *assignments: dict[str, Any]) -> Sampled:
    return Sampled(*finite_programs.PROGRAMS[name][:3], assignments)


each = dict.fromkeys
GOOD = {"a": Rebar(), "b": Relax(good)}
PROGRAMS = {
    "linked coins": from_finite("linked coins", each("abc", Rebar())),
    "a vector of coins": from_finite(
        "a vector of coins", each("bc", Relax(lambda z, t: jnp.sum(t**2) * jnp.sum(sigmoid(z)) + jnp.sum(t)))
    ),
    "mixture by indexing": from_finite("mixture by indexing", {"z": Rebar(0.1, 0.5), "b": Rebar(3.0, -1.0)}),
    "coins linked in a scan": from_finite("scan", each("b", Rebar()), each("b", Relax(total))),
    "lanes": from_finite("vmap", each("b", Rebar(0.9))),
    "expanded and an event": Sampled(spread_out, (TRIPLE,), spread_out_mean, ({"x": Rebar(), "b": Relax(total)},)),
    "among others": Sampled(
        among_others, (PAIR,), among_others_mean, ({"z": Pathwise(), "n": Score(), "b": Rebar()},), 40_000
    ),
    "what only the draw moves": Sampled(behind_it, (jnp.array(0.4),), behind_it_mean, (each("bc", Rebar()),)),
    "a product": Sampled(product, (AT,), product_mean, (GOOD,)),
}
CASES = [(name, n) for name, case in PROGRAMS.items() for n in range(len(case.assignments))]


@pytest.mark.wide
@compiled_once
@pytest.mark.parametrize(("name", "n"), CASES)
def test_the_estimate_is_as_near_as_it_says(name: str, n: int, key: Array) -> None:
    gradient, truth = estimated(PROGRAMS[name], n, key)[1], exact_gradient(PROGRAMS[name])
    assert not far(gradient, truth), (gradient, truth)
    assert not blind(gradient, truth), (gradient, truth)
    assert not gradient.biased


def test_a_good_control_takes_variance_off_and_none_is_the_plain_score(key: Array) -> None:
    def found(rules: dict[str, Any]) -> vt.Estimate:
        return jax.jit(vt.grad(product, num_samples=4_000, block_size=4_000, rules=rules))(key, AT)

    plain, without = found(each("ab", Score(NoBaseline()))), found({"a": Rebar(scale=0.0), "b": Relax(lambda z, t: 0)})
    np.testing.assert_allclose(without.value, plain.value, rtol=1e-12)
    np.testing.assert_allclose(without.stderr, plain.stderr, rtol=1e-12)
    ratio = jnp.sum(found(GOOD).stderr ** 2, axis=1) / jnp.sum(plain.stderr**2, axis=1)
    assert np.all(ratio < 0.5), ratio


# The coupling: z and z given what was drawn are the same numbers, and differ in how they move.

LOGITS, COUNT = jnp.array([0.5, -1.0, 0.2, -3.0]), 20_000


def coupled(key: Array, logits: Array) -> tuple[Array, Array]:
    """Perturbed log probabilities of many draws, and the places that were drawn."""
    k1, k2 = split(key)
    x = jax.random.categorical(k1, lax.stop_gradient(logits), shape=(COUNT,))
    drawn = jax.nn.one_hot(x, 4, dtype=float)
    return rebar._perturbed(jnp.broadcast_to(log_softmax(logits), (COUNT, 4)), drawn, k2), x


def test_the_largest_is_at_what_was_drawn_and_the_noise_is_gumbel(key: Array) -> None:
    z, x = coupled(key, LOGITS)
    np.testing.assert_array_equal(jnp.argmax(z, axis=1), x)
    noise = np.asarray(z - log_softmax(LOGITS)[None])
    for column in noise.T:
        assert stats.kstest(column, "gumbel_r").pvalue > 1e-6 / 4
    bound = stats.norm.isf(1e-6 / 12) / np.sqrt(COUNT)
    uniform = np.exp(-np.exp(-noise))
    assert np.all(np.abs(np.corrcoef(uniform.T)[np.triu_indices(4, 1)]) < bound)


def test_its_derivative_is_the_difference_of_the_two(key: Array) -> None:
    """z given x is written as in the paper, of uniform numbers v that are read off its values."""
    moved = jnp.array([0.3, 1.0, -0.5, 2.0])
    (z, x), (slope, _) = jax.jvp(lambda logits: coupled(key, logits), (LOGITS,), (moved,))
    here = jax.nn.one_hot(x, 4, dtype=bool)
    first = jnp.exp(-jnp.take_along_axis(z, jnp.expand_dims(x, 1), axis=1))  # -log v at what was drawn
    others = softmax(LOGITS)[None] * (jnp.exp(-z) - first)  # -log v elsewhere

    def given(logits: Array) -> Array:
        return -jnp.log(jnp.where(here, first, others / softmax(logits)[None] + first))

    value, conditional = jax.jvp(given, (LOGITS,), (moved,))
    np.testing.assert_allclose(value, z, atol=1e-10)
    unconditional = jax.jvp(log_softmax, (LOGITS,), (moved,))[1]
    np.testing.assert_allclose(slope, unconditional[None] - conditional, atol=1e-10)


@pytest.mark.slow
def test_error_bars_are_honest(key: Array) -> None:
    found = bars(Case(product, AT, product_mean, 256, GOOD), key)
    assert honest(found), found


PERTURBED, AFRESH = rebar._perturbed, Rebar.afresh


def unconditional_alone(log_probs: Array, drawn: Array, key: Array) -> Array:
    return PERTURBED(lax.stop_gradient(log_probs), drawn, key) + log_probs - lax.stop_gradient(log_probs)


def uncoupled(log_probs: Array, drawn: Array, key: Array) -> Array:
    noise = jax.random.gumbel(key, log_probs.shape, log_probs.dtype)
    given = PERTURBED(log_probs, drawn, jax.random.clone(key))
    return lax.stop_gradient(log_probs + noise - given) + given


def wrong_way(log_probs: Array, drawn: Array, key: Array) -> Array:
    found = PERTURBED(log_probs, drawn, key)
    return 2 * lax.stop_gradient(found) - found


MUTANTS: dict[str, Any] = {"only z moves": unconditional_alone, "uncoupled": uncoupled, "wrong sign": wrong_way}


@compiled_once
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str, monkeypatch: pytest.MonkeyPatch, key: Array) -> None:
    monkeypatch.setattr(rebar, "_perturbed", MUTANTS[name])
    gradient, truth = estimated(PROGRAMS["a product"], 0, key)[1], exact_gradient(PROGRAMS["a product"])
    for rows, values in ((0, truth[:3]), (1, truth[3:])):  # those of Rebar, those of Relax
        own = dataclasses.replace(gradient, value=gradient.value[rows], stderr=gradient.stderr[rows])
        assert far(own, values), (own, values)


@compiled_once
def test_later_draws_that_are_held_are_caught(monkeypatch: pytest.MonkeyPatch, key: Array) -> None:
    monkeypatch.setattr(Rebar, "afresh", lambda *args: lax.stop_gradient(AFRESH(*args)))
    case = from_finite("mixture by indexing", each("zb", Rebar()))
    assert far(estimated(case, 0, key)[1], exact_gradient(case))


def tossed(use: Callable[[Array], Any], make: Callable[[Array], Any] = dist.Bernoulli) -> Callable:
    return lambda key, t: use(vt.draw(key, make(t), name="b"))


def and_another(use: Callable[[Array, Array, Array], Array], shared: bool) -> Callable:
    def program(key: Array, t: Array) -> Array:
        k1, k2 = (key, jax.random.clone(key)) if shared else split(key)
        return use(k2, t, flip(k1, t, "b"))

    return program


ONE, BOTH = (Rebar(),), (Rebar(), Relax(total))
REFUSED: dict[str, tuple[Callable, tuple, str]] = {
    "a branch": (tossed(lambda x: lax.cond(x == 1, lambda: 1.0, lambda: 2.0)), ONE, "no derivative passes"),
    "an index": (tossed(lambda x: jnp.zeros(2).at[x].set(1.0)[0]), ONE, "no derivative passes"),
    "a normal": (tossed(lambda x: x, lambda t: dist.Normal(t, 1.0)), BOTH, "its support is not finite"),
    "a shared key": (
        and_another(lambda key, t, x: x * jax.random.normal(key), shared=True),
        BOTH,
        "its key also serves",
    ),
    "a score behind it": (
        and_another(lambda key, t, x: flip(key, t * x, "y"), shared=False),
        ONE,
        "the draw 'y' depends on it",
    ),
    "a while_loop": (until_heads, BOTH, "inside a while_loop"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_draws_that_cannot_be_served(name: str, key: Array) -> None:
    program, rules, match = REFUSED[name]
    for rule in rules:
        with pytest.raises(ValueError, match=rf"{type(rule).__name__} cannot serve the draw 'b'.*{match}"):
            vt.grad(program, rules={"b": rule})(key, 0.3)


def test_a_draw_that_only_it_moves_is_refused_where_it_jumps(key: Array) -> None:
    with pytest.raises(ValueError, match=r"Rebar cannot serve the draw 'b'.*the draw 'c' depends on it"):
        vt.grad(behind_it, rules={"b": Rebar()})(key, 0.3)


def test_what_is_no_rule(key: Array) -> None:
    for rule in BOTH:
        with pytest.raises(ValueError, match="only its first derivative is available"):
            vt.grad(vt.grad(product, rules={"b": rule}))(key, AT)
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="temperature must be a positive number"):
            Rebar(temperature)
    with pytest.raises(ValueError, match="scale must be a finite number"):
        Rebar(scale=float("nan"))
    with pytest.raises(TypeError, match="control must be"):
        inspect.unwrap(Relax.__init__)(object.__new__(Relax), 3)
    with pytest.raises(ValueError, match=r"control: the function should return one number, got shape \(3, 2\)"):
        vt.grad(product, rules={"b": Relax(lambda z, t: z)})(key, AT)


def test_what_is_certain_or_has_no_chance_in_single_precision(key: Array) -> None:
    """It has no part in the gradient and leaves that of the others alone."""
    t = jnp.array([40, 0.5, -200, 0.2], jnp.float32)
    f = jnp.array([1, 2, -3, 5], jnp.float32)

    def program(key: Array, t: Array) -> Array:
        k1, k2 = split(key)
        b = vt.draw(k1, dist.Bernoulli(logits=t), name="b").astype(jnp.float32)
        return b @ f + f[vt.draw(k2, dist.Categorical(probs=softmax(t)), name="x")]

    rules = {"b": Relax(lambda z, t: jnp.sum(sigmoid(z))), "x": Rebar()}
    gradient = jax.jit(vt.grad(program, num_samples=2048, block_size=1024, rules=rules))(key, t)
    assert gradient.value.dtype == jnp.float32
    wanted = sigmoid(t) * sigmoid(-t) * f + softmax(t) * (f - jnp.sum(softmax(t) * f))
    assert np.all(np.abs(gradient.value - wanted) <= 5.4 * gradient.stderr + 1e-6)
    assert np.all(gradient.stderr < 0.5)
