"""Distributions whose inside a gradient has to know of, auxiliary results and results that are vectors."""

from typing import Any

import flowjax.distributions
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest
from jax import Array
from jax.scipy.special import polygamma

import variate as vt
from variate.gradients import Score

MOVING = {
    "a shift": lambda t: dist.TransformedDistribution(dist.Exponential(1.0), dist.transforms.AffineTransform(t, 1.0)),
    "a shifted box": lambda t: dist.TransformedDistribution(dist.Uniform(), dist.transforms.AffineTransform(t, 1.0)),
    "a power": lambda t: dist.TransformedDistribution(dist.Uniform(1.0, 2.0), dist.transforms.PowerTransform(t)),
}


@pytest.mark.parametrize("name", MOVING)
def test_a_transform_that_moves_the_support_has_no_score(name: str, key: Array) -> None:
    def program(key: Array, t: Array) -> Array:
        return (vt.draw(key, MOVING[name](t), name="x") < 1.2).astype(float)

    with pytest.raises(vt.BiasedGradientError, match="move its support"):
        vt.grad(program)(key, 0.9)


def test_a_distribution_that_stops_its_own_gradient_is_not_taken_at_its_word(key: Array) -> None:
    def program(key: Array, t: Array) -> Array:  # FlowJAX's Uniform holds its ends with stop_gradient
        return vt.draw(key, flowjax.distributions.Uniform(0.0, t), name="x") ** 2

    with pytest.raises(vt.BiasedGradientError, match="stop_gradient"):
        vt.grad(program)(key, 1.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("law", "f", "at", "truth"),
    [
        (lambda t: dist.Gamma(t, 2.0), jnp.log, 1.3, float(polygamma(2, 1.3))),
        (lambda t: dist.StudentT(t, 0.0, 2.0), jnp.square, 12.0, 16.0 / 1000),
    ],
)
def test_implicit_paths_have_second_derivatives_by_another_rule(
    law: Any, f: Any, at: float, truth: float, key: Array
) -> None:
    def program(key: Array, t: Array) -> Array:
        return f(vt.draw(key, law(t)))

    found = jax.jit(vt.grad(vt.grad(program, num_samples=4), num_samples=157 * 64))(key, at)
    assert abs(found.value - truth) < 4.9 * found.stderr


def test_what_is_auxiliary_breaks_no_path(key: Array) -> None:
    def program(key: Array, t: Array) -> tuple[Array, Array]:
        x = vt.draw(key, dist.Uniform(0.0, t), name="x")
        return x**2, x > 1

    gradient, flag = vt.grad(program, has_aux=True, num_samples=4)(key, 1.5)
    assert flag.dtype == bool
    assert not gradient.biased


def test_leave_one_out_of_a_vector(key: Array) -> None:
    def program(key: Array, t: Array) -> Array:
        n = vt.draw(key, dist.Poisson(t), name="n").astype(float)
        return jnp.stack([n, n**2])

    assert vt.grad(program, num_samples=4, rules={"n": Score()})(key, 1.5).value.shape == (2,)
