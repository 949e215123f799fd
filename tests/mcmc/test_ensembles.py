"""Ensembles leave the density of all their walkers invariant, and error bars know that walkers depend on each other.

From exact ensembles, forty steps must leave ten moments, of walkers and between halves: z-tests of 8,000 ensembles at
1e-6 each, so right kernels fail less than once in 100,000 runs.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernels import ensembles
from kernels.ensembles import LAWS, worst
from kernels.law import LIMIT

import variate as vt
from variate.mcmc import DifferentialEvolution, Gibbs, Stretch
from variate.mcmc.ensembles import base
from variate.protocols import Kernel


@pytest.mark.parametrize("name", LAWS)
def test_the_density_of_all_walkers_is_left_as_it_is(name: str, key: jax.Array) -> None:
    assert isinstance(LAWS[name].kernel, Kernel)
    assert worst(LAWS[name].kernel, key) < LIMIT


@pytest.mark.wide
@pytest.mark.parametrize(("name", "mutant"), [(name, mutant) for name in LAWS for mutant in LAWS[name].mutants])
def test_a_wrong_rule_is_seen(name: str, mutant: str, key: jax.Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*LAWS[name].mutants[mutant])
    assert worst(LAWS[name].kernel, key) > LIMIT


def test_stretches_are_the_same_on_every_affine_image(key: jax.Array) -> None:
    root, shift = jnp.array([[3.0, 0.0], [2.0, 0.1]]), jnp.array([5.0, -7.0])

    def plain(x: jax.Array) -> jax.Array:
        return -jnp.sum(jnp.cosh(x))

    k1, k2 = jax.random.split(key)
    x = jax.random.normal(k1, (8, 2))
    image = Stretch(walkers=8, log_density=lambda y: plain(jnp.linalg.solve(root, y - shift)))
    state, _ = Stretch(walkers=8, log_density=plain).step(k2, base.State(x, jax.vmap(plain)(x)))
    y = x @ root.T + shift[None]
    other, _ = image.step(jax.random.clone(k2), base.State(y, jax.vmap(plain)(x)))
    np.testing.assert_allclose(other.position, state.position @ root.T + shift[None], rtol=1e-10)


@pytest.mark.parametrize("kernel", [ensembles.STRETCH, ensembles.EVOLUTION])
def test_numbers_that_are_none_are_never_moved_to_and_single_precision_is_kept(kernel: Any, key: jax.Array) -> None:
    k1, k2 = jax.random.split(key)
    x = jax.random.normal(k1, (6, 3), jnp.float32)
    begun = base.State(x, jnp.zeros(6, jnp.float32))
    object.__setattr__(kernel := type(kernel)(walkers=6), "log_density", lambda x: jnp.nan * x[0])
    state, info = kernel.step(k2, begun)
    assert jnp.array_equal(state.position, x)
    assert state.position.dtype == state.log_density.dtype == info.acceptance.dtype == jnp.float32
    assert jnp.all(info.divergent)
    assert not jnp.any(info.accepted)


def normal(x: jax.Array) -> jax.Array:
    return -0.5 * x @ x


class Trapped(DifferentialEvolution):
    """One walker of the first ensemble begins in a deep hole far away, from which it hardly ever comes."""

    def init(self, key: jax.Array, position: jax.Array) -> Any:
        state = DifferentialEvolution.init(self, key, position)
        hole = jnp.where(position[0] > 0, 30.0, state.position[5])
        positions = state.position.at[5].set(hole)
        return base.State(positions, jax.vmap(self.log_density)(positions))


def holed(x: jax.Array) -> jax.Array:
    """A normal law, and beside it one that is so narrow that nothing is in it."""
    return jnp.logaddexp(normal(x), 10 - 0.5 * jnp.sum((x - 30.0) ** 2) / 0.01)


def test_draws_of_all_walkers_are_kept_and_a_walker_that_is_stuck_is_in_the_verdict(key: jax.Array) -> None:
    """Means of two numbers by 4 ensembles of 8 walkers: z-tests at 1e-6 each."""
    k1, k2 = jax.random.split(key)
    kernel = DifferentialEvolution(walkers=8)
    draws = vt.sample(k1, normal, jnp.full(2, -0.5), kernel=kernel, num_samples=1_500, num_warmup=100)
    assert draws.values.shape == (32, 1_500, 2)
    assert draws.walkers == 8
    assert draws.evaluations.sum() == draws.acceptance.size == 48_000
    found = draws.expect()
    assert draws.doubts() == []
    assert found.converged
    assert found.method == "4 ensembles of 8 walkers"
    assert np.all(np.abs(found.value) < 4.89 * found.stderr)
    stuck = vt.sample(k2, holed, jnp.full(2, 0.5), kernel=Trapped(walkers=8), num_samples=1_500, num_warmup=100)
    assert any("walker" in doubt for doubt in stuck.doubts())
    assert not stuck.expect().converged
    assert "Try:" in str(stuck.summary())


def test_what_cannot_be_an_ensemble_is_refused(key: jax.Array) -> None:
    for make, words in [
        (lambda: Stretch(a=1.0), "a - 1 must be positive"),
        (lambda: Stretch(walkers=7), "walkers must be even"),
        (lambda: DifferentialEvolution(walkers=2), "walkers must be at least 4, got 2"),
        (lambda: DifferentialEvolution(noise=0.0), "noise must be positive"),
        (lambda: DifferentialEvolution(jumps=1.0), "jumps must be between 0 and 1"),
        (lambda: Stretch(walkers=4, log_density=normal).init(key, jnp.zeros(3)), "at least twice the 3 coordinates"),
    ]:
        with pytest.raises(ValueError, match=words):
            make()
    with pytest.raises(TypeError, match="kernel must be no ensemble"):
        vt.mcmc.fold(jax.random.clone(key), normal, start=jnp.zeros(2), kernel=Stretch())
    with pytest.raises(TypeError, match="kernels must be kernels"):
        Gibbs((Stretch(),), ((0, 1),))
