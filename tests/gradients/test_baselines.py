"""Baselines bring no bias, state the variance that they leave, and are refused where they know the draw."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from gradients.coins import Finite, chance, flip, mean_over_flips
from gradients.exactness import SEED, arrays_of, exact, fresh, largest
from gradients.outcomes import Noise, noise, over_all
from gradients.test_gradient_coverage import Case, bars, honest
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name
from jax.random import split

import variate as vt
from variate.gradients import LeaveOneOut, NoBaseline, Score
from variate.gradients.rules.baseline import Given, Learned, Linear, MovingAverage, Optimal

EXACT, SAMPLES, PAIR = 1e-10, 3, jnp.array([0.4, -0.7])


def pair(key: Array, t: Array, mean: Array) -> Array:
    """The second coin is tossed by what the first one showed, and the named value tells that."""
    k1, k2 = split(key)
    a = flip(k1, t[0], "a")
    x = checkpoint_name(jnp.stack([jnp.sin(a), 3 * a - 1]), "x")
    y = checkpoint_name(4 * x[1], "y")
    return flip(k2, t[1] + 2 * a, "b") * y + (a - 0.3) ** 2 + 0 * mean


def pair_mean(t: Array, mean: Array) -> Array:
    def weighted(a: Array, b: Array) -> Array:
        return chance(a, t[0]) * chance(b, t[1] + 2 * a) * (b * 4 * (3 * a - 1) + (a - 0.3) ** 2)

    return mean_over_flips(2, weighted)


def walk(key: Array, t: Array) -> Array:
    """A reward a step, so that each step has a charge and a baseline of its own."""

    def step(carry: tuple, key: Array) -> tuple:
        s, total = carry
        s = checkpoint_name(s, "x")
        b = flip(key, t[0] + t[1] * s, "b")
        s = 0.5 * s + 2 * b - 1
        return (s, total + b * s), None

    return lax.scan(step, (jnp.zeros(()), jnp.zeros(())), split(key))[0][1]


def walk_mean(t: Array) -> Array:
    def weighted(*coins: Array) -> Array:
        p, s, total = 1.0, 0.0, 0.0
        for b in coins:
            p, s = p * chance(b, t[0] + t[1] * s), 0.5 * s + 2 * b - 1
            total = total + b * s
        return p * total

    return mean_over_flips(2, weighted)


PROGRAMS = {
    "pair": Finite(pair, (PAIR, jnp.array(0.9)), pair_mean, "ab"),
    "walk": Finite(walk, (PAIR,), walk_mean, "b"),
}
# The baseline of the second coin; the first one, which sees nothing, has leave-one-out.
OF_PAIR = {
    "none": NoBaseline(),
    "leave one out": LeaveOneOut(),
    "moving average": MovingAverage(2),
    "given": Given("y"),
    "linear": Linear(("x", "y"), 0.1),
    "learned": Learned(lambda x, t, mean: jnp.sum(jnp.exp(x)) * t[0] + mean, "x"),
    "optimal": Optimal(),
    "a function": lambda t, mean: t[0] + 3 * mean,
}
OF_WALK = {"linear": Linear("x"), "learned": Learned(lambda x, t: 2 * x[0] + t[1], "x"), "optimal": Optimal()}
EXACTLY = [("pair", name, b) for name, b in OF_PAIR.items()] + [("walk", name, b) for name, b in OF_WALK.items()]


@functools.cache
def noise_of(program: str) -> Noise:
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(SEED), jnp.arange(SAMPLES))
    return noise(PROGRAMS[program].program, PROGRAMS[program].args, keys)


def rules(program: str, b: Any) -> dict[str, Score]:
    first = b if isinstance(b, Optimal) else LeaveOneOut()
    return {"a": Score(first), "b": Score(b)} if program == "pair" else {"b": Score(b)}


def error(program: str, b: Any) -> float:
    """Of value and gradient, summed over all outcomes of the samples."""
    case = PROGRAMS[program]
    estimate = vt.value_and_grad(fresh(case), num_samples=SAMPLES, rules=rules(program, b), stderr=False)

    def estimator() -> Any:
        value, gradient = estimate(jax.random.key(SEED), *case.args)
        return arrays_of(value.value, gradient.value)

    return largest(over_all(estimator, noise_of(program)).mean, exact(case))


@pytest.mark.wide
@pytest.mark.parametrize(("program", "name", "b"), EXACTLY, ids=[f"{p}-{n}" for p, n, _ in EXACTLY])
def test_it_is_unbiased(program: str, name: str, b: Any) -> None:
    assert error(program, b) < EXACT


def own_sample(self: Linear, cost: Array, features: Array) -> Array:
    """The cost that the regression gives for the sample, which it has seen."""
    x = features - jnp.mean(features, axis=0, keepdims=True)
    return jnp.mean(cost) + x @ jnp.linalg.solve(x.T @ x + jnp.eye(x.shape[1]), x.T @ cost)


def test_a_regression_that_has_seen_the_sample_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Linear, "regressed", own_sample)
    assert error("pair", Linear("x")) > 1e-3


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("samples", [3, 10])
def test_a_regression_without_one_sample_is_one_that_was_refitted(samples: int, constant: bool, key: Array) -> None:
    cost, x = (jax.random.normal(k, (samples, 4)) for k in split(key))
    x = x.at[:, 0].set(0.1) if constant else x  # whose mean, rounded, need not be 0.1
    found = Linear("x", 0.7).regressed(cost[:, 0], x)
    cost, x = np.asarray(cost), np.asarray(x)
    spread = np.where(np.std(x, axis=0) > 1e-12, np.std(x, axis=0), 1)
    wanted = []
    for s in range(samples):
        features, costs = np.delete(x / spread, s, 0), np.delete(cost[:, 0], s)
        design = np.concatenate([np.ones((samples - 1, 1)), features], axis=1)
        penalty = np.diag([0.0, *[0.7] * 4])
        wanted.append(np.r_[1, x[s] / spread] @ np.linalg.solve(design.T @ design + penalty, design.T @ costs))
    np.testing.assert_allclose(found, wanted, atol=EXACT)


def even(key: Array, t: Array) -> Array:
    """An even coin in normal noise, some of it known before; as a term of its own it would not be charged."""
    k1, k2, k3 = split(key, 3)
    x = checkpoint_name(vt.draw(k1, dist.Normal(0.0, 1.0)), "x")
    noise = x + 0.5 * vt.draw(k3, dist.Normal(0.0, 1.0))
    return jnp.where(flip(k2, t, "b") == 1, 1 + noise, noise)


OF_EVEN = [NoBaseline(), LeaveOneOut(), MovingAverage(1), Given("x"), Linear("x"), Optimal(), lambda t: t + 0.7,
           Learned(lambda x, t: x[0] + t + 0.5, "x")]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("b", OF_EVEN, ids=lambda b: type(b).__name__)
def test_error_bars_are_honest(b: Any, key: Array) -> None:
    found = bars(Case(even, jnp.zeros(()), jax.nn.sigmoid, 16, {"b": Score(b)}), key)
    assert honest(found), found


# What an optimal baseline saves, on three linked coins; times the samples.

RECORDED = {4: (3.63, 4.10, 5.19), 64: (2.13, 2.53, 5.09)}


def three(key: Array, t: Array) -> Array:
    k1, k2, k3 = split(key, 3)
    a = flip(k1, t[0], "a")
    b = flip(k2, t[1] + a, "b")
    return (a + 2 * b - flip(k3, t[2] + b - a, "c") - 0.45) ** 2


@pytest.mark.slow
@pytest.mark.parametrize("samples", RECORDED)
def test_the_best_number_for_each_coordinate_saves_variance(samples: int, key: Array) -> None:
    keys, t = split(key, 4_000), jnp.array([0.1, 0.2, -0.3])
    for b, recorded in zip((Optimal(), LeaveOneOut(), NoBaseline()), RECORDED[samples], strict=True):
        gradient = vt.grad(three, num_samples=samples, rules=dict.fromkeys("abc", Score(b)), stderr=False)
        rows = np.asarray(jax.jit(jax.vmap(lambda key, g=gradient: g(key, t).value))(jax.random.clone(keys)))
        squares = np.sum((rows - np.mean(rows, axis=0, keepdims=True)) ** 2, axis=1) * samples
        assert abs(np.mean(squares) - recorded) < 5.4 * np.std(squares) / np.sqrt(len(keys)) + 0.1, np.mean(squares)


def test_several_results_auxiliary_values_and_blocks(key: Array) -> None:
    """A Jacobian has the rows of the gradients of its results, whatever else is asked for."""

    def both(key: Array, t: Array) -> tuple:
        square = pair(key, t, t[0]) ** 2
        return {"a": square, "b": jnp.stack([-2 * square, jnp.sin(square)])}, square

    for b in (Linear("x"), Optimal()):
        gradient = vt.grad(both, has_aux=True, num_samples=12, block_size=4, rules=rules("pair", b))
        found, auxiliary = jax.jit(gradient)(key, PAIR)
        np.testing.assert_allclose(found.value["b"][0], -2 * found.value["a"], atol=EXACT)
        np.testing.assert_allclose(found.stderr["b"][0], 2 * found.stderr["a"], atol=EXACT)
        assert auxiliary.shape == (12,)
        assert found.value["b"].shape == (2, 2)


# What they refuse.


def steps(after: bool) -> Callable[[Array, Array], Array]:
    """The state is named after each draw; or before it, and all steps are charged with one number."""

    def program(key: Array, t: Array) -> Array:
        def step(s: Array, key: Array) -> tuple[Array, Array]:
            s = s if after else checkpoint_name(s, "x")
            s = s / 2 + flip(key, t, "b")
            s = checkpoint_name(s, "x") if after else s
            return s, s

        last, each = lax.scan(step, jnp.zeros(()), split(key))
        return jnp.sum(each) if after else last**2

    return program


def nested(inside: bool) -> Callable[[Array, Array], Array]:
    def program(key: Array, t: Array) -> Array:
        def outer(s: Array, key: Array) -> tuple[Array, Array]:
            def inner(s: Array, key: Array) -> tuple[Array, None]:
                s = checkpoint_name(s, "x") if inside else s
                return s + flip(key, t + s, "b"), None

            s = lax.scan(inner, s, split(key))[0]
            s = s if inside else checkpoint_name(s, "x")
            return s / 2, s

        return jnp.sum(lax.scan(outer, jnp.zeros(()), split(key))[1])

    return program


def in_a_branch(key: Array, t: Array) -> Array:
    k1, k2 = split(key)
    b = flip(k1, t, "b")
    return lax.cond(b == 1, lambda k: checkpoint_name(jnp.ones(()), "x") * flip(k, t, "c"), lambda k: 0.0, k2)


def until_heads(key: Array, t: Array) -> Array:
    def again(state: tuple) -> tuple:
        key, count, _ = state
        key, k = split(key)
        return key, checkpoint_name(count, "x") + 1, vt.draw(k, dist.Bernoulli(logits=t), name="b")

    return lax.while_loop(lambda state: state[2] == 0, again, (key, 0, 0))[1].astype(float)


def coins(key: Array, t: Array) -> Array:
    """Each has a cost of its own, and so a charge of its own."""
    return jnp.sum(flip(key, t + checkpoint_name(jnp.ones(2), "x")[0] * jnp.arange(3.0), "b") * jnp.arange(1.0, 4.0))


def branching(key: Array, t: Array) -> Array:
    return flip(key, t + jnp.sum(checkpoint_name(jnp.ones(2), "x")), "b")


ITSELF = "depends on the draw 'b' itself"
REFUSED: dict[str, tuple[Callable[..., Any], Any, str]] = {
    "a value that is made of it": (lambda *args: checkpoint_name(2 * coins(*args), "y"), Linear("y"), ITSELF),
    "one learned from the draw": (lambda *args: checkpoint_name(coins(*args), "y"), Learned(jnp.dot, "y"), ITSELF),
    "the state after it": (steps(True), Linear("x"), ITSELF),
    "the state after a loop around it": (nested(False), Linear("x"), ITSELF),
    "the state of a loop as a whole": (steps(False), Linear("x"), "'x' depends on the draw 'b' of an earlier step"),
    "the state of a loop in a loop": (nested(True), Learned(lambda x, t: 0.0, "x"), "'b' of an earlier step"),
    "a branch that it chose": (in_a_branch, Linear("x"), ITSELF),
    "two values": (lambda *args: checkpoint_name(branching(*args), "x"), Linear("x"), "two values are called 'x'"),
    "no value": (coins, Linear("y"), "no value is called 'y' where the draw 'b' could see it"),
    "one sample": (branching, Linear("x"), "Linear needs 3 samples or more in a block, got 1"),
    "a while_loop": (until_heads, Linear("x"), "looks at values inside a while_loop"),
    "a vector": (branching, Learned(lambda x, t: x, "x"), r"should return one number, got shape \(2,\)"),
    "two numbers": (branching, Given("x"), "'x' should be one number for each charge, got 2"),
    "other elements": (coins, Given("x"), r"'x' has shape \(2,\), loops first, and does not fit .* \(3,\)"),
    "numbers of a function": (branching, lambda t: jnp.ones(3), r"expected one number, got shape \(3,\)"),
    "an argument that is not there": (branching, MovingAverage(2), "the program has 1 arguments beside the key, got 2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_baseline_that_would_bias_or_does_not_fit_is_refused(name: str, key: Array) -> None:
    program, b, match = REFUSED[name]
    with pytest.raises(ValueError, match=match):
        vt.grad(program, num_samples=1 if name == "one sample" else 3, rules={"b": Score(b)})(key, 0.3)


def test_what_is_no_baseline(key: Array) -> None:
    for value in (3, LeaveOneOut, "mean"):
        with pytest.raises(TypeError, match="baseline"):
            inspect.unwrap(Score.__init__)(object.__new__(Score), value)
    with pytest.raises(ValueError, match="only its first derivative is available"):
        vt.grad(vt.grad(branching, rules={"b": Score(Optimal())}))(key, 0.3)
    with pytest.raises(TypeError, match="names must be names"):
        Linear(())
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="ridge must be a positive number"):
            Linear("x", wrong)
    assert MovingAverage(1, 0.5).update(jnp.array(2.0), jnp.array(4.0)) == 3
