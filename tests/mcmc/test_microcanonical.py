"""Microcanonical Langevin steps are exact once they are weighed, and biased as they are: they are refused unless asked.

From exact draws, the mean of f times the ratios of all steps is E[f] for every step size: z-tests at 1e-6.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernels.law import CHAINS, LIMIT, TRIANGLE, exact, log_density
from scipy import special

import variate as vt
from variate.mcmc import MCLMC
from variate.mcmc.hamiltonian import isokinetic

KERNEL = MCLMC(0.9, 2.0, TRIANGLE, allow_bias=True, log_density=log_density)
right = isokinetic.turned


class Leaning(MCLMC):
    """Its new directions lean to one side."""

    def refreshed(self, key: jax.Array, u: jax.Array) -> jax.Array:
        u = MCLMC.refreshed(self, key, u) + jnp.array([0.3, 0.0, 0.0])
        return u / jnp.linalg.norm(u)


def worst(kernel: MCLMC, key: jax.Array, *, weighed: bool = True) -> float:
    def chain(key: jax.Array) -> jax.Array:
        first, start, rest = jax.random.split(key, 3)

        def step(state: Any, key: jax.Array) -> tuple:
            state, info = kernel.step(key, state)
            return state, info.log_ratio

        state, ratios = jax.lax.scan(step, kernel.init(start, exact(first)), jax.random.split(rest, 3))
        x, u = state.position, state.direction
        moments = [x[0], x[1], x[2] - special.digamma(2.0), jnp.exp(x[2]) - 2.0, u[0], u[2], u[0] ** 2 - 1 / 3]
        moments += [x[0] ** 2 - 1.0, x[0] * x[1] - 1.2, x[1] ** 2 - 1.69, u[0] * x[0]]
        return jnp.stack(moments) * (jnp.exp(jnp.sum(ratios)) if weighed else 1.0)

    found = jax.jit(jax.vmap(chain))(jax.random.split(key, CHAINS))
    return float(jnp.max(jnp.abs(jnp.mean(found, 0) / (jnp.std(found, 0) / CHAINS**0.5))))


def test_weighed_by_their_ratios_steps_are_exact_and_without_they_are_not(key: jax.Array) -> None:
    k1, k2 = jax.random.split(key)
    assert worst(KERNEL, k1) < LIMIT
    assert worst(KERNEL, k2, weighed=False) > LIMIT


def of_all_dimensions(u: jax.Array, gradient: jax.Array, time: Any) -> tuple:
    u, log_volume = right(u, gradient, time)
    return u, log_volume * len(u) / (len(u) - 1)


@pytest.mark.parametrize("mutant", ["volumes of d dimensions", "directions that lean"])
def test_what_is_not_exact_is_seen(mutant: str, key: jax.Array, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = KERNEL
    if mutant == "directions that lean":
        kernel = Leaning(0.9, 2.0, TRIANGLE, allow_bias=True, log_density=log_density)
    else:
        monkeypatch.setattr(isokinetic, "turned", of_all_dimensions)
    assert worst(kernel, key) > LIMIT


def test_it_is_refused_unless_its_bias_is_allowed(key: jax.Array) -> None:
    with pytest.raises(TypeError, match="biased by an amount that no error bar tells; MAMS is the same without"):
        MCLMC()
    draws = vt.sample(key, lambda x: -0.5 * x @ x, jnp.ones(8), kernel=MCLMC(allow_bias=True), num_samples=500)
    assert abs(np.mean(draws.acceptance) - 0.95) < 0.03
    assert draws.told["log_ratio"].shape == (4, 500)


def test_a_path_that_is_lost_is_not_followed(key: jax.Array) -> None:
    def broken(x: jax.Array) -> jax.Array:
        return jnp.where(jnp.sum(x) == 0, 0.0, jnp.nan) + 0 * x[0]

    k1, k2 = jax.random.split(key)
    kernel = MCLMC(0.5, 1.0, 1.0, allow_bias=True, log_density=broken)
    start = kernel.init(k1, jnp.zeros(3, jnp.float32))
    state, info = kernel.step(k2, start)
    assert jnp.array_equal(state.position, start.position)
    assert not jnp.allclose(state.direction, start.direction)
    assert info.divergent
    assert info.acceptance == 0
    assert {x.dtype for x in state} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MCLMC(0.0, allow_bias=True), "step_size must be positive and finite, got 0.0"),
        (lambda: MCLMC(0.1, -1.0, allow_bias=True), "length must be positive"),
        (lambda: MCLMC(acceptance=1.0, allow_bias=True), "acceptance must be between 0 and 1"),
        (lambda: KERNEL.init(jax.random.key(0), jnp.zeros(1)), "two coordinates or more, got 1"),
    ],
)
def test_settings_that_move_nowhere_are_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("time", [0.3, 40.0])
def test_a_turn_solves_its_equation(time: float) -> None:
    """Compared with a Runge-Kutta solution, and far on with where it ends: in the direction of the gradient."""
    u, g = jnp.array([0.6, -0.8, 0.0]), jnp.array([-1.0, 2.0, 0.5])

    def slope(u: jax.Array) -> jax.Array:
        return (g - u * (u @ g)) / 2

    def once(_: Any, at: tuple) -> tuple:
        u, h = at[0], time / 4_000
        a = slope(u)
        b = slope(u + 0.5 * h * a)
        c = slope(u + 0.5 * h * b)
        d = slope(u + h * c)
        return u + h / 6 * (a + 2 * b + 2 * c + d), at[1] - h * (u @ g)

    solved, _ = jax.lax.fori_loop(0, 4_000, once, (u, 0.0))
    after, log_volume = isokinetic.turned(u, g, time)
    assert jnp.allclose(after, solved, atol=1e-10)
    assert jnp.isfinite(log_volume)
