"""Bad input to `grad` gets an error at once, in the user's words."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest
from jax import Array
from jax.ad_checkpoint import checkpoint_name
from jax.random import split
from programs.laws import loosely

import variate as vt
from variate.gradients import Coupled, Enumerate, Learned, LeaveOneOut, MeasureValued, Pathwise, Relax, Score

# As it is called where no type checker speaks first.
unchecked = inspect.unwrap(vt.value_and_grad)


def coin(key: Array, t: Array) -> Array:
    return vt.draw(key, dist.Bernoulli(logits=t), name="b").astype(float)


def two_coins(key: Array, t: Array) -> Array:
    k1, k2 = split(key)
    a, b = vt.draw(k1, dist.Bernoulli(logits=t), name="b"), vt.draw(k2, dist.Bernoulli(logits=t), name="b")
    return (a * b).astype(float)


def many_coins(key: Array, t: Array) -> Array:
    return jnp.sum(vt.draw(key, dist.Bernoulli(logits=t * jnp.ones(600)), name="bits").astype(float)) ** 2


def normal(key: Array, t: Array) -> Array:
    return vt.draw(key, dist.Normal(0.0, t), name="z")


def two(key: Array, t: Array, n: Array) -> Array:
    return coin(key, t) * n.astype(float)


def test_the_key(key: Array) -> None:
    gradient = vt.grad(coin)
    with pytest.raises(TypeError, match=r"the first argument must be the key, got 0\.3"):
        gradient(0.3)
    with pytest.raises(TypeError, match="the first argument must be the key, got float64"):
        gradient(jnp.array(0.3), key)
    with pytest.raises(TypeError, match=r"raw uint32.*jax\.random\.key\(seed\) makes one"):
        gradient(jax.random.PRNGKey(0), 0.3)
    with pytest.raises(ValueError, match=r"key must be one key, got a batch of shape \(3,\).*jax\.vmap"):
        gradient(split(key, 3), 0.3)


def test_the_arguments(key: Array) -> None:
    with pytest.raises(TypeError, match="cannot be called with"):
        vt.grad(coin)(key)
    with pytest.raises(TypeError, match="cannot be called with"):
        vt.grad(coin)(key, 0.3, 0.4)
    with pytest.raises(TypeError, match="f must be a function"):
        unchecked(3)


RESULTS: dict[str, tuple[Callable[..., Any], str]] = {
    "an integer": (lambda key, t: vt.draw(key, dist.Bernoulli(logits=t)), r"int.*\.astype\(float\)"),
    "a boolean": (lambda key, t: vt.draw(key, dist.Bernoulli(logits=t)) == 1, r"bool.*\.astype\(float\)"),
    "a complex number": (lambda key, t: coin(key, t).astype(complex), "complex"),
    "nothing": (lambda key, t: None, "must return a real number to differentiate, got None"),
    "a string": (lambda key, t: "gain", "gain|str"),
    "a tree with an integer": (lambda key, t: {"a": coin(key, t), "n": jnp.array(3)}, r"result\['n'\]"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_the_result(name: str, key: Array) -> None:
    program, match = RESULTS[name]
    with pytest.raises(TypeError, match=match):
        vt.grad(program)(key, 0.3)


def test_an_auxiliary_that_is_missing(key: Array) -> None:
    with pytest.raises(TypeError, match=r"must return \(result, auxiliary\) with has_aux=True"):
        vt.grad(coin, has_aux=True)(key, 0.3)


@pytest.mark.parametrize("argnums", [0, -1, (1, 0), True, 1.0, "t"])
def test_argnums_that_are_no_positions(argnums: Any) -> None:
    with pytest.raises(ValueError, match="argnums must be positions from 1 on"):
        unchecked(coin, argnums)


def test_argnums_that_name_nothing_to_differentiate(key: Array) -> None:
    with pytest.raises(ValueError, match="argnums must name an argument"):
        vt.grad(coin, ())
    with pytest.raises(ValueError, match="there is no argument 2"):
        vt.grad(coin, 2)(key, 0.3)
    with pytest.raises(TypeError, match=r"argument 2 must be real to be differentiated, got int"):
        vt.grad(two, 2)(key, 0.3, jnp.array(3))
    with pytest.raises(TypeError, match="must be real"):
        vt.grad(coin)(key, 3)
    with pytest.raises(TypeError, match="holds no array to differentiate"):
        vt.grad(lambda key, t, flag: coin(key, t), 2)(key, 0.3, True)


def test_rules_for_draws_that_are_not_there(key: Array) -> None:
    with pytest.raises(ValueError, match=r"no draw is called 'c'; the named draws are \['b'\]"):
        vt.grad(coin, rules={"c": Score()})(key, 0.3)
    with pytest.raises(ValueError, match=r"two draws are called 'b'.*test_gradient_input"):
        vt.grad(two_coins)(key, 0.3)


@pytest.mark.parametrize("rule", ["score", Score, 3, None])
def test_rules_that_are_none(rule: Any) -> None:
    with pytest.raises(TypeError, match=r"rules\['b'\] must be a rule, vt\.gradients\.Score\(\) say"):
        unchecked(coin, rules={"b": rule})
    with pytest.raises(TypeError, match=r"rules must be (a dictionary|keyed)"):
        unchecked(coin, rules=[rule])


def test_rules_that_the_distribution_cannot_serve(key: Array) -> None:
    with pytest.raises(
        ValueError, match=r"Pathwise cannot serve the draw 'b'.*discrete.*Those that can: Enumerate, Co"
    ):
        vt.grad(coin, rules={"b": Pathwise()})(key, 0.3)
    with pytest.raises(ValueError, match=r"Enumerate cannot serve the draw 'z'.*Those that can: Pathwise, Mea"):
        vt.grad(normal, rules={"z": Enumerate()})(key, 0.3)
    with pytest.raises(ValueError, match=r"'bits'.*1200 values \(600 elements with 2 each\).*limit=1024"):
        vt.grad(many_coins, rules={"bits": Enumerate()})(key, 0.3)


ONE_DRAW = {
    "a count that is none": (dist.Normal, Coupled(), "the finite perturbation of Normal is not known"),
    "a support that is not finite": (lambda t: dist.ZeroInflatedPoisson(0.5, t), Coupled(), "nor is a finite support"),
    "two replays each": (lambda t: dist.GammaPoisson(t * jnp.ones(5)), Coupled(limit=9), r"10 replays, more than .*9"),
    "too many counts": (lambda t: dist.Poisson(t * jnp.ones(9)), Coupled(limit=8), r"9 replays, more than .*limit=8"),
    "a law without steps": (lambda t: dist.Gumbel(t, 1.0), MeasureValued(), "no decomposition of Gumbel; .*HalfNormal"),
    "a shape": (lambda t: dist.Gamma(t, 1.0), MeasureValued(), "decomposition of Gamma in its concentration"),
    "a law that was transformed": (
        lambda t: dist.TransformedDistribution(dist.Normal(t, 1.0), dist.transforms.ExpTransform()),
        MeasureValued(),
        "no decomposition of TransformedDistribution",
    ),
    "too many numbers": (
        lambda t: dist.Normal(t * jnp.ones(3), 1.0), MeasureValued(limit=8), r"9 replays, more than .*limit=8"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE_DRAW)
def test_rules_whose_replays_are_not_known_or_too_many(name: str, key: Array) -> None:
    make, rule, match = ONE_DRAW[name]

    def program(key: Array, t: Array) -> Array:
        return jnp.sum(vt.draw(key, loosely(make)(t), name="x").astype(float))

    with pytest.raises(ValueError, match=rf"{type(rule).__name__} cannot serve the draw 'x'.*{match}"):
        vt.grad(program, rules={"x": rule})(key, 0.7)


@pytest.mark.parametrize(("make", "rule"), [(dist.Poisson, Coupled()), (dist.Exponential, MeasureValued())])
def test_replays_have_no_second_derivative(make: Any, rule: Any, key: Array) -> None:
    def program(key: Array, t: Array) -> Array:
        return vt.draw(key, make(t), name="x").astype(float) ** 2

    with pytest.raises(ValueError, match="only its first derivative is available"):
        vt.grad(vt.grad(program, rules={"x": rule}))(key, 0.7)


@pytest.mark.parametrize("number", [0, -3, 1.5, "ten", True])
@pytest.mark.parametrize("option", ["num_samples", "block_size", "order"])
def test_counts(option: str, number: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=f"{option} must be a positive integer"):
        unchecked(coin, **{option: number})


def test_leave_one_out_with_one_sample(key: Array) -> None:
    with pytest.raises(ValueError, match="num_samples: the baseline LeaveOneOut needs 2 samples"):
        vt.grad(coin, num_samples=1, rules={"b": Score(LeaveOneOut())})(key, 0.3)


def test_parameters_out_of_range(key: Array) -> None:
    for at in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"'z'.*scale"):
            vt.grad(normal)(key, at)


def broken_logarithm(key: Array, t: Array) -> Array:
    return jnp.log(vt.draw(key, dist.Normal(t, 1.0), name="z"))


def test_draws_that_are_not_finite_are_counted_and_said(key: Array) -> None:
    value, gradient = vt.value_and_grad(broken_logarithm, num_samples=64)(key, 0.0)
    assert 0 < int(value.nonfinite) < 64
    for estimate in (value, gradient):
        assert not bool(estimate.converged)
        assert "not converged" in str(estimate)
    assert "draws not finite" in str(value)


FUNCTIONS: dict[str, tuple[Any, str]] = {
    "a control of z alone": (Relax(lambda z: 0.0), r"control must be a function of z and .*2 in all, got.*\(z\):"),
    "a control that wants more": (Relax(lambda z, t, u: t), "control must be.*missing a required argument: 'u'"),
    "a baseline of nothing": (Score(lambda: 0.0), r"baseline must be a function of the arguments.*1 in all.*\(\):"),
    "a learned one without features": (
        Score(Learned(lambda t: t, "p")), r"function must be a function of the named values and .*2 in all.*\(t\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_rules_that_take_something_else(name: str, key: Array) -> None:
    def named(key: Array, t: Array) -> Array:
        return coin(key, checkpoint_name(t * 1.0, "p"))

    rule, match = FUNCTIONS[name]
    for run in (vt.grad, vt.explain):
        with pytest.raises(TypeError, match=match):
            run(named, rules={"b": rule})(jax.random.clone(key), 0.3)
