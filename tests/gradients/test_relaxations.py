"""Relaxations: what their gradients are in expectation, exactly or by the temperature, and what they refuse."""

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from gradients.sampled_checks import compiled_once
from jax import Array, lax
from jax.nn import sigmoid, softmax
from jax.random import split
from programs.test_relaxation import TABLE, THETA, mean, real, staged, values
from scipy import stats

import variate as vt
from variate.gradients import GumbelRao, GumbelSoftmax, GumbelStraightThrough, ReinMax, StraightThrough
from variate.gradients.rules import gumbel_rao, gumbel_softmax, relaxation, straight_through
from variate.gradients.rules.relaxation import held_at, probabilities
from variate.programs import distributions

EXACT, ALARM = 1e-10, 1e-6  # error of sums, and how often one statistical assertion fails without a fault
SIGMAS = float(stats.norm.isf(ALARM / 2))
RULES = (StraightThrough(), GumbelSoftmax(0.5), GumbelStraightThrough(0.5), GumbelRao(0.5, 4), ReinMax())
LAWS: dict[str, Callable[[Array], Any]] = {
    "Bernoulli of probabilities": lambda t: dist.Bernoulli(probs=sigmoid(t[0])),
    "Bernoulli of logits": lambda t: dist.Bernoulli(logits=t),
    "Categorical of probabilities": lambda t: dist.Categorical(probs=softmax(t)),
    "Categorical of logits": lambda t: dist.Categorical(logits=t),
    "expanded": lambda t: dist.Categorical(logits=t).expand((2,)),
    "an event": lambda t: dist.Categorical(logits=jnp.stack([t, -t])).to_event(1),
    "Binomial": lambda t: dist.Binomial(3, logits=t[:2]),
}
SOME = ("Bernoulli of logits", "Categorical of probabilities", "an event", "Binomial")
LINEAR, QUADRATIC, CUBIC, LOOKUP = range(4)


def draw(law: str, key: Array, t: Array) -> Array:
    return vt.draw(key, LAWS[law](t), name="x").reshape(-1)


@functools.cache
def program(law: str) -> Callable[[Array, Array], Array]:
    """Linear in the weights of each element, quadratic and cubic in them, and a lookup, of the same draw."""

    def f(key: Array, t: Array) -> Array:
        x = draw(law, key, t)
        cast = real(x) @ jnp.cos(jnp.arange(1.0, 1.0 + x.size))
        looked_up = jnp.sum(TABLE[0][x] * t[0]) + jnp.sum(jax.nn.one_hot(x, 4) @ TABLE[1])
        linear = cast + t[0] * jnp.sum(jnp.where(x == 1, t[1], 0.0))
        return jnp.stack([linear, (cast - 0.4) ** 2 + cast, cast**3 / (1 + x.size), looked_up])

    return f


@functools.cache
def linked(law: str) -> Callable[[Array, Array], Array]:
    """Draws in a scan, each of which moves the parameters of the next."""

    def f(key: Array, t: Array) -> Array:
        def step(c: Array, key: Array) -> tuple[Array, None]:
            x = draw(law, key, t * (1 + c))
            return 0.5 * c + jnp.where(x[0] == 1, t[1], TABLE[0][x[-1]]), None

        return lax.scan(step, jnp.asarray(0.2), split(key, 2))[0]

    return f


@functools.cache
def exact(f: Callable) -> np.ndarray:
    return np.asarray(jax.jit(jax.jacobian(functools.partial(mean, f)))(THETA))


def expected(f: Callable, weights: Callable, key: Any = None) -> Array:
    """The gradient of a rule with these weights, summed over the outcomes of the draw with the noise of one key."""

    def total(theta: Array) -> Array:
        found, log_probs = values(f, staged(f).soft, weights, theta, key)
        return jnp.tensordot(lax.stop_gradient(jnp.exp(log_probs)), found, 1)

    return jax.jacobian(total)(THETA)


def error(f: Callable, weights: Callable) -> np.ndarray:
    """The largest error of each result's gradient."""
    return np.max(np.abs(np.asarray(jax.jit(lambda: expected(f, weights))()) - exact(f)), axis=-1)


@pytest.fixture(autouse=True)
def one_key_for_all_outcomes() -> Any:
    with jax.debug_key_reuse(False):
        yield


@pytest.mark.wide
@pytest.mark.parametrize("law", LAWS)
def test_straight_through_is_exact_to_the_first_order_and_reinmax_to_the_second(law: str) -> None:
    first, second = error(program(law), StraightThrough().weights), error(program(law), ReinMax().weights)
    assert max(first[LINEAR], first[LOOKUP], second[LINEAR], second[LOOKUP], second[QUADRATIC]) <= EXACT
    assert min(first[QUADRATIC], first[CUBIC], second[CUBIC]) > 1e-3


@pytest.mark.parametrize("law", ["Categorical of logits", "Binomial"])
def test_linked_draws_bend_the_path_a_little(law: str) -> None:
    first, second = error(linked(law), StraightThrough().weights), error(linked(law), ReinMax().weights)
    assert second < first < 0.1


def sampled(f: Callable, weights: Callable[..., Any], *arguments: Any, samples: int = 2000) -> tuple[Any, Any]:
    """Means over the noise of gradients summed over outcomes, and their standard errors."""

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    def one(key: Array, arguments: Any) -> Array:
        return expected(f, functools.partial(weights, *arguments), key)

    found = np.asarray(one(split(jax.random.key(1), samples), arguments))
    return found.mean(0), found.std(0) / np.sqrt(samples)


def at(kind: Any, temperature: Array, *rest: Any) -> Array:
    """The weights at a traced temperature, so that one compilation serves all."""
    rule = kind(1.0)
    object.__setattr__(rule, "temperature", temperature)
    return rule.weights(*rest)


def biases(f: Callable, weights: Callable, temperatures: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Of each temperature and result, the largest bias and how far that may be off."""
    found = [sampled(f, weights, jnp.asarray(temperature)) for temperature in temperatures]
    bias = np.stack([np.max(np.abs(got - exact(f)), axis=-1) for got, _ in found])
    return bias, SIGMAS * np.stack([np.max(stderr, axis=-1) for _, stderr in found])


# Without a fault each comparison is wrong in fewer than one of a million runs, as is each below.
@pytest.mark.wide
@compiled_once
@pytest.mark.parametrize("law", LAWS)
def test_the_bias_of_gumbel_softmax_vanishes_with_the_temperature(law: str) -> None:
    bias, ranges = biases(program(law), functools.partial(at, GumbelSoftmax), (1.0, 0.25, 0.0625))
    assert np.all(bias[0] > ranges[0])
    assert np.all(bias[1:] <= 0.5 * bias[:-1] + ranges[1:] + 0.5 * ranges[:-1])
    assert np.all(bias[2] <= 0.02 + ranges[2])


@compiled_once
@pytest.mark.parametrize("law", SOME)
def test_that_of_gumbel_straight_through_does_up_to_the_second_order(law: str) -> None:
    """At a low temperature only near ties have derivatives, and Heun's rule is what is left of them."""
    bias, ranges = biases(program(law), functools.partial(at, GumbelStraightThrough), (1.0, 0.125))
    smooth = [LINEAR, QUADRATIC, LOOKUP]
    assert np.all(bias[1, smooth] <= 0.02 + ranges[1, smooth])
    assert np.any(bias[0, smooth] > 0.02 + ranges[0, smooth])


@compiled_once
def test_and_no_further() -> None:
    f = program("Bernoulli of logits")
    (bias,), (ranges,) = biases(f, lambda _, *rest: GumbelRao(0.125, 64).weights(*rest), (0.125,))
    first, second = error(f, StraightThrough().weights), error(f, ReinMax().weights)
    assert ranges[CUBIC] < bias[CUBIC] < (first[CUBIC] + second[CUBIC]) / 2


@compiled_once
@pytest.mark.parametrize("kind", [GumbelSoftmax, GumbelStraightThrough])
def test_in_linked_draws_it_falls_too(kind: Any) -> None:
    bias, ranges = biases(linked("Categorical of logits"), functools.partial(at, kind), (1.0, 0.0625))
    assert bias[1] <= 0.5 * bias[0] + ranges[1]


@compiled_once
@pytest.mark.parametrize("law", SOME)
def test_gumbel_rao_has_the_mean_of_gumbel_straight_through_and_less_variance(law: str) -> None:
    one, its_error = sampled(program(law), GumbelStraightThrough(0.25).weights)
    many, error = sampled(program(law), GumbelRao(0.25, 8).weights)
    assert np.all(np.abs(one - many) <= SIGMAS * np.hypot(error, its_error) + EXACT)
    assert np.all(error <= 0.5 * its_error + EXACT)  # a standard error over the root of 8


def noise(perturbed: Callable, key: Array, samples: int = 20_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gumbel noise of draws from their law, the places of its maxima, and what was drawn."""
    log_probs = jnp.log(jnp.array([0.5, 0.3, 0.15, 0.05]))
    drawn = jax.random.categorical(split(key)[0], log_probs, shape=(samples,))
    found = perturbed(jnp.broadcast_to(log_probs, (samples, 4)), jax.nn.one_hot(drawn, 4), split(key)[1])
    return np.asarray(found - log_probs[None]), np.asarray(jnp.argmax(found, axis=-1)), np.asarray(drawn)


def test_noise_given_what_was_drawn_is_gumbel_noise_and_draws_it(key: Array) -> None:
    found, places, drawn = noise(relaxation.perturbed, key)
    assert np.array_equal(places, drawn)
    for column in found.T:
        assert stats.kstest(column, stats.gumbel_r.cdf).pvalue > ALARM
    assert np.all(stats.spearmanr(found).pvalue[np.triu_indices(4, 1)] > ALARM)


def unconditioned(log_probs: Array, drawn: Array, key: Array) -> Array:
    return log_probs + jax.random.gumbel(key, log_probs.shape, log_probs.dtype)


def test_a_mutant_that_forgets_what_was_drawn_is_caught(key: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    _, places, drawn = noise(unconditioned, key)
    assert not np.array_equal(places, drawn)
    f = program("Categorical of logits")
    one, its_error = sampled(f, GumbelStraightThrough(0.25).weights)
    monkeypatch.setattr(gumbel_rao, "perturbed", unconditioned)
    many, error = sampled(f, GumbelRao(0.25, 8).weights)
    assert np.any(np.abs(one - many) > SIGMAS * np.hypot(error, its_error) + EXACT)


def test_other_mutants_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_the_middle(distribution: Any, drawn: Array, key: Array) -> Array:
        return held_at(drawn, (ReinMax().weights(distribution, drawn, key) + probabilities(distribution) / 2) / 2)

    assert error(program("Categorical of logits"), only_the_middle)[QUADRATIC] > 1e-2
    monkeypatch.setattr(straight_through, "held_at", lambda drawn, p: 2 * drawn - held_at(drawn, p))  # the wrong sign
    assert error(program("Binomial"), StraightThrough().weights)[LINEAR] > 1e-2
    monkeypatch.setattr(gumbel_softmax, "softmax", lambda x: softmax(x * 0.0625))  # the temperature forgotten
    bias, ranges = biases(program("Bernoulli of logits"), functools.partial(at, GumbelSoftmax), (0.0625,))
    assert np.any(bias[0] > 0.02 + ranges[0])


@pytest.mark.wide
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_estimates_say_what_is_biased(rule: Any, key: Array) -> None:
    def f(key: Array, t: Array) -> Array:
        return program("Categorical of logits")(key, t)[QUADRATIC]

    value, gradient = vt.value_and_grad(f, num_samples=63 * 64, rules={"x": rule})(key, THETA)
    assert gradient.biased
    assert value.biased == isinstance(rule, GumbelSoftmax)
    assert (abs(value.value - mean(f, THETA)) <= SIGMAS * value.stderr) != value.biased
    wanted, stderr = sampled(f, rule.weights)
    assert np.all(np.abs(gradient.value - wanted) <= SIGMAS * np.hypot(gradient.stderr, stderr) + EXACT)
    (row,) = vt.explain(f, num_samples=1, rules={"x": rule})(key, THETA).rows
    assert (row.rule.partition("(")[0], row.biased, row.why) == (type(rule).__name__, True, "a relaxation is biased")


@pytest.mark.parametrize("dtype", [jnp.float32, float])
def test_certain_draws_have_finite_gradients(dtype: Any) -> None:
    def weights(p: Array, weights_of: Callable) -> list[Array]:
        three = jnp.stack([p, 0 * p, 1 - p])
        laws = dist.Bernoulli(probs=p), dist.Binomial(2, probs=p), dist.Categorical(probs=three)
        return [weights_of(law, jnp.round(probabilities(law)), jax.random.key(0)) for law in laws]

    every = [lambda law, drawn, key: probabilities(law), *(rule.weights for rule in RULES)]
    for p in (0.0, 1.0):
        with distributions.numpyro_promotion():
            wanted, *found = jax.jit(jax.jacobian(lambda p: [weights(p, one) for one in every]))(jnp.asarray(p, dtype))
        for rule, got in zip(RULES, found, strict=True):
            assert all(np.all(np.isfinite(x)) and x.dtype == dtype for x in got)
            if isinstance(rule, StraightThrough | ReinMax) and dtype is float:  # what they say of linear results
                jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), got, wanted)


@pytest.mark.parametrize("kind", [GumbelSoftmax, GumbelStraightThrough, GumbelRao, ReinMax])
@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf"), "warm"])
def test_a_temperature_that_is_none(kind: Any, bad: Any) -> None:
    fields = SimpleNamespace(temperature=bad, replicates=1)  # as where no type checker speaks first
    with pytest.raises((TypeError, ValueError), match=rf"temperature must be a positive number, got '?{bad}"):
        kind.__post_init__(fields)
    with pytest.raises(ValueError, match=r"replicates must be a positive integer.*got 0"):
        GumbelRao(0.5, 0)


def coin(key: Array, t: Array) -> Array:
    return vt.draw(key, dist.Bernoulli(logits=t[0]), rule=StraightThrough())


def carried(key: Array, t: Array) -> Array:
    def step(c: tuple[Array, Array], key: Array) -> tuple[tuple[Array, Array], None]:
        return (coin(key, t + real(c[0])), c[1] + real(c[0])), None

    return lax.scan(step, (jnp.array(0), jnp.array(0.0)), split(key, 3))[0][1]


REFUSED: dict[str, tuple[Callable[[Array, Array], Any], str]] = {
    "a Normal": (lambda k, t: vt.draw(k, dist.Normal(t[0], 1.0), rule=ReinMax()), "ReinMax cannot serve .*integers of"),
    "a Poisson": (lambda k, t: real(vt.draw(k, dist.Poisson(t[2]), rule=ReinMax())), "integers of a finite support"),
    "cond": (lambda k, t: lax.cond(coin(k, t) == 1, lambda: t[0], lambda: 1.0), r"passes `eq` at .*test_relaxations"),
    "after a cast": (lambda k, t: jnp.where(real(coin(k, t)) > 0.5, t[0], 1.0), "no derivative passes `gt`"),
    "carried": (carried, "no derivative passes `copy`"),
    "collected": (lambda k, t: real(lax.map(lambda k: coin(k, t), split(k, 3))) @ t, "no derivative passes `copy`"),
    "written to": (lambda k, t: jnp.zeros(3).at[coin(k, t)].set(t[0]) @ t, "no derivative passes `lt`"),
    "checkpoint": (lambda k, t: jax.checkpoint(real)(coin(k, t)), "no derivative passes `copy`"),
    "enclosed": (lambda k, t: (lambda x: lax.map(lambda s: s * real(x), t) @ t)(coin(k, t)), "passes `copy`"),
    "a shared key": (lambda k, t: real(coin(k, t)) * jax.random.normal(k), "its key also serves"),
    "a second derivative": (vt.grad(lambda k, t: real(coin(k, t)), stderr=False), "only its first derivative"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_derivative_is_refused(name: str, key: Array) -> None:
    f, match = REFUSED[name]
    with pytest.raises(ValueError, match=match):
        vt.grad(f)(key, THETA)
