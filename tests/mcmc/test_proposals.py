"""What kernels make of edges, of densities that are no number in places, and of distributions that do not fit."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest

from variate.mcmc import EllipticalSlice, Gibbs, GibbsianPolarSlice, HitAndRun, Independence, RandomWalk, Slice
from variate.mcmc import delayed_rejection as delayed


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
    step = eqx.filter_jit(lambda kernel, k1, k2, x: kernel.step(k2, kernel.init(k1, x)))
    state, info = step(kernel, k1, k2, jnp.array([0.5, 2.0]))
    assert jnp.array_equal(state.position, jnp.array([0.5, 2.0]))
    assert info.divergent
    assert not info.accepted


def test_blocks_that_do_not_fit_are_refused(key: jax.Array) -> None:
    with pytest.raises(TypeError, match="kernels must be kernels"):
        Gibbs((3.0,), ((0,),))
    with pytest.raises(TypeError, match="blocks must be sequences of indices"):
        Gibbs((RandomWalk(1.0),), ((0.5,),))
    for blocks in (((0,), (1,)), ((0, 1), (2, 3))):
        kernel = Gibbs((RandomWalk(1.0), RandomWalk(1.0)), blocks, log_density=lambda x: -0.5 * x @ x)
        with pytest.raises(ValueError, match="blocks must hold each of 3 coordinates and no others"):
            kernel.init(jax.random.clone(key), jnp.zeros(3))


def test_a_polar_slice_has_a_direction_to_turn_and_leaves_its_center(key: jax.Array) -> None:
    kernel = GibbsianPolarSlice(1.0, log_density=lambda x: -0.5 * x @ x)
    k1, k2, k3 = jax.random.split(key, 3)
    with pytest.raises(ValueError, match="two coordinates or more, for a direction to turn, got 1"):
        kernel.init(k1, jnp.zeros(1))
    state, info = kernel.step(k2, kernel.init(k3, jnp.zeros(2)))
    assert jnp.all(state.position != 0)
    assert info.accepted
    assert not info.divergent


def unbalanced(key: jax.Array) -> float:
    """How far the flows x, y1, y2 and y2, y1, x of a delayed rejection are from the same, of 1,000 triples."""

    def one(key: jax.Array) -> jax.Array:
        x, first, second = jax.random.normal(key, (3, 2))
        log_density = lambda x: -jnp.sum(jnp.abs(x) ** 3)  # noqa: E731

        def log_flow(x: jax.Array, y: jax.Array) -> jax.Array:
            now, between, then = log_density(x), log_density(first), log_density(y)
            there, back = jnp.sum((first - x) ** 2), jnp.sum((first - y) ** 2)
            stay = jnp.log(1 - jnp.exp(jnp.minimum(between - now, 0)))
            return now - 0.5 * there + stay + jnp.minimum(delayed.second_ratio(now, between, then, there, back), 0)

        # A first proposal that is not refused leads nowhere else.
        refused = log_density(first) < jnp.minimum(log_density(x), log_density(second))
        return jnp.where(refused, log_flow(x, second) - log_flow(second, x), 0)

    found = jax.vmap(one)(jax.random.split(key, 1_000))
    assert jnp.sum(found != 0) > 100
    return float(jnp.max(jnp.abs(found)))


def test_a_second_try_is_as_likely_backwards(key: jax.Array) -> None:
    assert unbalanced(key) < 1e-10


FORGETFUL = {
    "that the first was refused": ("_rejected", jnp.zeros_like),
    "where the first was": ("second_ratio", lambda now, first, second, there, back: second - now),
}


@pytest.mark.parametrize("mutant", FORGETFUL)
def test_a_second_try_that_forgets_is_seen(mutant: str, key: jax.Array, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moments and flows of 40,000 chains see neither: what is forgotten is of second order in them."""
    monkeypatch.setattr(delayed, *FORGETFUL[mutant])
    assert unbalanced(key) > 0.1
