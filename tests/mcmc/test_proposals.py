"""What kernels make of edges, of densities that are no number in places, and of distributions that do not fit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest

from variate.mcmc import EllipticalSlice, HitAndRun, Independence, Slice


@pytest.mark.parametrize("kernel", [Slice(1.0), HitAndRun(1.0), EllipticalSlice(1.0)])
def test_a_slice_ends_where_the_density_is_no_number_and_says_so(kernel: Any, key: jax.Array) -> None:
    def half(x: jax.Array) -> jax.Array:
        return jnp.where(x[0] > 0, jnp.nan, -0.5 * x @ x)

    kernel = type(kernel)(1.0, log_density=half)
    k1, k2 = jax.random.split(key)
    start = kernel.init(k1, -jnp.ones(2))

    def step(state: Any, key: jax.Array) -> tuple:
        state, info = kernel.step(key, state)
        return state, (state.position, info)

    _, (positions, info) = jax.lax.scan(step, start, jax.random.split(k2, 200))
    assert jnp.all(positions[:, 0] <= 0)
    assert jnp.all(info.acceptance == 1)
    assert 0 < jnp.sum(info.divergent) < 200


def test_a_body_with_edges_is_filled_evenly(key: jax.Array) -> None:
    """The mean of |x| in the unit disc is 2/3: a z-test at 1e-6 of chains that begin anywhere in it."""

    def disc(x: jax.Array) -> jax.Array:
        return jnp.where(x @ x < 1, 0.0, -jnp.inf)

    kernel = HitAndRun(0.7, log_density=disc)

    def chain(key: jax.Array) -> jax.Array:
        ends, start, rest = jax.random.split(key, 3)
        angle, radius = jax.random.uniform(ends, (2,))
        x = jnp.sqrt(radius) * jnp.stack([jnp.cos(2 * jnp.pi * angle), jnp.sin(2 * jnp.pi * angle)])
        state, _ = jax.lax.scan(
            lambda state, key: (kernel.step(key, state)[0], None), kernel.init(start, x), jax.random.split(rest, 3)
        )
        return jnp.linalg.norm(state.position)

    found = jax.jit(jax.vmap(chain))(jax.random.split(key, 20_000))
    assert abs(jnp.mean(found) - 2 / 3) < 4.89 * jnp.std(found) / 20_000**0.5


def test_a_proposal_must_be_a_distribution_of_vectors_like_the_position(key: jax.Array) -> None:
    with pytest.raises(TypeError, match=r"distribution must have sample\(key\)"):
        Independence(3.0)
    kernel = Independence(dist.Normal(0.0, 1.0).expand([3]), log_density=lambda x: -0.5 * x @ x)
    k1, k2 = jax.random.split(key)
    start = kernel.init(k1, jnp.zeros(3))._replace(position=jnp.zeros(2))
    with pytest.raises(ValueError, match=r"vectors like the position, of shape \(2,\), got \(3,\)"):
        kernel.step(k2, start)


def test_where_the_proposal_never_goes_is_told_as_divergent(key: jax.Array) -> None:
    kernel = Independence(dist.Uniform(0.0, 1.0).expand([2]), log_density=lambda x: -0.5 * x @ x)
    k1, k2 = jax.random.split(key)
    state, info = kernel.step(k2, jax.jit(kernel.init)(k1, jnp.array([0.5, 2.0])))
    assert jnp.array_equal(state.position, jnp.array([0.5, 2.0]))
    assert info.divergent
    assert not info.accepted
