"""Implicit diffusion: its gradient on exact draws, its loop on densities whose optimum is known, its errors."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from jax import Array
from scipy import stats

from variate.gradients.implicit_diffusion import ImplicitDiffusion

ALPHA = 1e-6


def log_density(x: Array, params: dict) -> Array:
    return -0.5 * jnp.sum((x - params["mean"]) ** 2) * jnp.exp(-2 * params["scale"])


def cost(x: Array, params: dict) -> Array:
    return jnp.sum((x - 1.0) ** 2) + 2 * params["scale"] ** 2


PARAMS = {"mean": jnp.array([0.2, -0.5]), "scale": jnp.array(-0.3)}


def expected_cost(params: dict) -> Array:
    return jnp.sum((params["mean"] - 1) ** 2) + 2 * jnp.exp(2 * params["scale"]) + 2 * params["scale"] ** 2


def loop(**changes: Any) -> ImplicitDiffusion:
    given = {"log_density": log_density, "cost": cost, "optimizer": optax.sgd(0.02), "step_size": 0.02}
    return ImplicitDiffusion(**{**given, **changes})


def exact(key: Array, count: int, params: dict = PARAMS) -> Array:
    return params["mean"][None] + jnp.exp(params["scale"]) * jax.random.normal(key, (count, 2))


def far(estimate: Any, truth: Any) -> bool:
    bound = stats.norm.isf(ALPHA / 6)
    off = jax.tree.map(lambda x, e, t: jnp.any(jnp.abs(x - t) > bound * e), estimate.value, estimate.stderr, truth)
    return any(bool(x) for x in jax.tree.leaves(off))


def test_the_gradient_on_exact_draws_is_that_of_the_law(key: Array) -> None:
    value, gradient = loop().gradient(exact(key, 40_000), PARAMS)
    truth = jax.grad(expected_cost)(PARAMS)
    assert not far(value, expected_cost(PARAMS))
    assert not far(gradient, truth)
    # What each forgets would be seen: the covariance, the cost's own derivative, the sign.
    direct = jax.tree.map(jnp.zeros_like, truth) | {"scale": 4 * PARAMS["scale"]}
    assert far(gradient, direct)
    assert far(gradient, jax.tree.map(lambda t, d: t - d, truth, direct))
    assert far(gradient, jax.tree.map(jnp.negative, truth))


@pytest.mark.slow
@pytest.mark.table
def test_error_bars_of_the_gradient_cover(key: Array) -> None:
    truth = jax.grad(expected_cost)(PARAMS)

    @jax.jit
    def share(keys: Array) -> Any:
        def inside(key: Array) -> Any:
            low, high = loop().gradient(exact(key, 2_000), PARAMS)[1].interval(0.95)
            return jax.tree.map(lambda a, t, b: (a <= t) & (t <= b), low, truth, high)

        return jax.tree.map(lambda x: jnp.mean(x, axis=0), jax.lax.map(inside, keys, batch_size=100))

    for covered in jax.tree.leaves(share(jax.random.split(key, 4_000))):
        assert jnp.all((covered > 0.935) & (covered < 0.965)), covered


def test_one_loop_finds_the_optimum(key: Array) -> None:
    """Of a mean: E (x - 1)^2 is least where it is one, which the lag of the particles does not move."""
    start, run = jax.random.split(key)
    params = {"mean": PARAMS["mean"]}

    def narrow(x: Array, params: dict) -> Array:
        return log_density(x, params | {"scale": jnp.array(-1.0)})

    def distance(x: Array, params: dict) -> Array:
        return jnp.sum((x - 1.0) ** 2)

    one = loop(log_density=narrow, cost=distance)
    state = one.init(exact(start, 256), params)
    state, values = jax.jit(one.run, static_argnums=2)(run, state, 2_000)
    assert jnp.all(jnp.abs(state.params["mean"] - 1) < 0.1)
    assert int(state.steps) == 2_000
    assert jnp.mean(values[-100:]) < jnp.mean(values[:10]) / 2
    assert bool(one.gradient(state.particles, state.params)[1].biased)


def test_a_step_is_the_step_of_langevin(key: Array) -> None:
    """Without an optimizer that moves, the particles of a Gaussian keep the law of the discretized chain."""
    start, run = jax.random.split(key)
    still = loop(optimizer=optax.sgd(0.0), step_size=0.1)
    state, _ = jax.jit(still.run, static_argnums=2)(run, still.init(exact(start, 20_000), PARAMS), 200)
    variance = jnp.exp(2 * PARAMS["scale"])
    stationary = variance / (1 - 0.1 / (2 * variance))
    found = jnp.var(state.particles, axis=0)
    bound = stats.norm.isf(ALPHA / 4) * stationary * jnp.sqrt(2 / 20_000)
    assert jnp.all(jnp.abs(found - stationary) < bound)


def test_a_tree_of_particles(key: Array) -> None:
    def both(x: dict, params: Array) -> Array:
        return -0.5 * (x["a"] - params) ** 2 - 0.5 * jnp.sum(x["b"] ** 2)

    one = loop(log_density=both, cost=lambda x, params: x["a"] + jnp.sum(x["b"]))
    state = one.init({"a": jnp.zeros(8), "b": jnp.zeros((8, 3))}, jnp.array(0.5))
    state, (_, gradient) = one.step(key, state)
    assert state.particles["b"].shape == (8, 3)
    assert gradient.value.shape == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step_size": 0.0}, "step_size"),
        ({"cost": 3}, "cost"),
        ({"log_density": None}, "log_density"),
        ({"optimizer": 0.1}, "optimizer must be one of Optax"),
    ],
)
def test_bad_input(changes: dict, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        loop(**changes)


def test_bad_particles(key: Array) -> None:
    with pytest.raises(ValueError, match="two or more, got 1"):
        loop().init(jnp.zeros((1, 2)), PARAMS)
    with pytest.raises(ValueError, match="share a first axis"):
        loop().init({"a": jnp.zeros(3), "b": jnp.zeros(2)}, PARAMS)
    with pytest.raises(ValueError, match="steps"):
        loop().run(key, loop().init(jnp.zeros((4, 2)), PARAMS), 0)
