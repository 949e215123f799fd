"""A solution inside a program: `vt.grad` has its derivative, and sees what is discontinuous behind it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from gradients.solvers import gap, iterate
from jax import Array, lax

import variate as vt
from variate.gradients import fixed_point


def tanh_solver(unique: bool, steps: int | None = None) -> Callable[[Array], Array]:
    def solver(theta: Array) -> Array:
        return iterate(lambda x: jnp.tanh(x / 2 + theta), jnp.zeros(jnp.shape(theta)), steps)

    return vt.implicit(fixed_point(lambda x, theta: jnp.tanh(x / 2 + theta)), unique=unique)(solver)


@pytest.mark.parametrize("unique", [False, True])
def test_in_a_program_a_solution_at_a_fixed_argument_has_its_derivative(unique: bool, key: Array) -> None:
    solver = tanh_solver(unique)

    def program(key: Array, theta: Array) -> Array:
        x = solver(theta)
        return x + vt.draw(key, dist.Bernoulli(probs=jax.nn.sigmoid(x))).astype(float)

    exact = jax.grad(lambda theta: solver(theta) + jax.nn.sigmoid(solver(theta)))(0.3)
    assert gap(vt.grad(program, num_samples=4)(key, 0.3).value, exact) < 1e-10


def test_in_a_program_the_second_derivative(key: Array) -> None:
    solver = tanh_solver(False, steps=80)

    def program(key: Array, theta: Array) -> Array:
        x = solver(theta)
        return x + vt.draw(key, dist.Bernoulli(probs=jax.nn.sigmoid(x))).astype(float)

    exact = jax.grad(jax.grad(lambda theta: solver(theta) + jax.nn.sigmoid(solver(theta))))(0.3)
    assert gap(vt.grad(vt.grad(program), num_samples=4)(key, 0.3).value, exact) < 1e-10


@pytest.mark.parametrize("unique", [False, True])
def test_in_a_program_a_threshold_behind_a_solution_is_seen(unique: bool, key: Array) -> None:
    solver = tanh_solver(unique)

    def program(key: Array, theta: Array) -> Array:
        z = vt.draw(key, dist.Normal(0.0, 1.0), name="z")
        return jnp.where(z < solver(theta), 1.0, 0.0)

    with pytest.raises(vt.BiasedGradientError, match="`lt`"):
        vt.grad(program)(key, 0.3)


def test_in_a_program_random_arguments_pass_where_the_solution_is_said_to_be_unique(key: Array) -> None:
    def program(solver: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
        return lambda key, theta: solver(theta + vt.draw(key, dist.Normal(0.0, 1.0), name="z"))

    with pytest.raises(vt.BiasedGradientError, match="solvers"):
        vt.grad(program(tanh_solver(False)))(jax.random.clone(key), 0.3)
    trusted, unrolled = tanh_solver(True), tanh_solver(False, steps=80)
    found = [vt.grad(program(s), num_samples=64)(jax.random.clone(key), 0.3).value for s in (trusted, unrolled)]
    assert gap(*found) < 1e-12
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    slopes = jax.vmap(jax.grad(trusted))(0.3 + jnp.asarray(nodes))
    mean, spread = weights @ slopes / weights.sum(), np.sqrt(weights @ slopes**2 / weights.sum())
    # A z-test that right code fails at one key in a million; without its derivative the mean would be 0.
    large = vt.grad(program(trusted), num_samples=4096, block_size=4096)(key, 0.3)
    assert abs(large.value - mean) < 4.9 * spread / 64


def test_the_root_of_jax_is_right_or_refused(key: Array) -> None:
    """From 0.12 on it is an operation that cannot be looked into."""

    def program(key: Array, t: Array) -> Array:
        def solve(f: Callable, _: Array) -> Array:
            return lax.fori_loop(0, 40, lambda _, x: x - f(x) / (3 * x**2 + 1), jnp.ones_like(t))

        root = lax.custom_root(lambda x: x**3 + x - t, jnp.zeros_like(t), solve, lambda g, y: y / g(jnp.ones_like(y)))
        return root + 0 * vt.draw(key, dist.Normal(0.0, 1.0))

    def found() -> Array:
        return vt.grad(program, num_samples=2)(jax.random.clone(key), jnp.array(2.0)).value

    equations = jax.make_jaxpr(program)(jax.random.clone(key), jnp.array(2.0)).eqns
    if any(equation.primitive.name == "call_hi_primitive" for equation in equations):
        with pytest.raises(TypeError, match=r"custom_root .*use vt\.implicit"):
            found()
    else:
        assert abs(found() - 0.25) < 1e-10
