"""Parallel tempering goes where no other kernel does, by levels that it finds, and says what it cannot use."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from kernels import tempering

import variate as vt
from variate.mcmc import NUTS, ParallelTempering, RandomWalk, parallel_tempering

MEANS = jnp.array([[-10.0, -10.0], [10.0, 10.0], [10.0, -10.0]])
WEIGHTS = jnp.array([0.5, 0.3, 0.2])
WIDE = dist.Normal(0.0, 10.0).expand([2])


def log_density(x: jax.Array) -> jax.Array:
    return jax.nn.logsumexp(jnp.log(WEIGHTS) - 0.5 * jnp.sum((x[None] - MEANS) ** 2, -1))


def mode(x: jax.Array) -> jax.Array:
    return jnp.argmin(jnp.sum((x[None] - MEANS) ** 2, -1)) == jnp.arange(3)


@pytest.mark.slow
@pytest.mark.parametrize("walk", [RandomWalk(1.5), lambda beta: RandomWalk(1.5 / jnp.sqrt(beta + 0.01))])
def test_the_weights_of_modes_are_found_from_one_of_them(walk: Any, key: jax.Array) -> None:
    """All chains begin in one mode, 20 standard deviations from the others: z-tests of three weights at 1e-6 each."""
    draws = vt.sample(key, log_density, MEANS[2], kernel=ParallelTempering(walk, WIDE), num_samples=4_000)
    found = draws.expect(mode)
    assert draws.doubts(mode) == []
    assert np.all(np.abs(found.value - WEIGHTS) < 4.89 * found.stderr)
    assert np.all(found.stderr < 0.02)
    assert draws.told["refused"].shape == (4, 4_000, 9)
    refused = draws.told["refused"].mean((0, 1))
    # 2,000 steps of a warm-up tell each to some hundredths; spaced evenly they are from 0.0 to 0.8.
    assert np.ptp(refused) < 0.25
    assert "refused" in draws.to_arviz()["sample_stats"]


def test_one_kernel_alone_stays_where_it_began(key: jax.Array) -> None:
    draws = vt.sample(key, log_density, MEANS[2], kernel=NUTS(), num_samples=200)
    assert np.all(np.asarray(jax.vmap(jax.vmap(mode))(draws.values))[..., 2])


def test_levels_are_spaced_so_that_all_pairs_refuse_alike() -> None:
    """Of a barrier that rises as the cube root of beta, exactly: where it is curved, so in a few rounds."""
    betas = parallel_tempering.evenly(9)
    for _ in range(5):
        betas = parallel_tempering.respaced(betas, np.diff(np.cbrt(betas)))
    np.testing.assert_allclose(np.diff(np.cbrt(betas)), 1 / 8, rtol=0.02)
    assert betas[0] == 0
    assert betas[-1] == 1


@pytest.mark.parametrize("refused", [np.zeros(4), np.array([0.0, 1.0, 0.0, 0.0])])
def test_levels_never_fall_together(refused: np.ndarray) -> None:
    betas = parallel_tempering.respaced(parallel_tempering.evenly(5), refused)
    assert np.all(np.diff(betas) > 0)


@pytest.mark.parametrize(("make", "words"), tempering.WITHOUT)
def test_what_is_no_kernel_or_not_a_whole_one_is_refused(make: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        make()


def test_alone_it_has_to_be_given_its_levels(key: jax.Array) -> None:
    kernel = ParallelTempering(RandomWalk(1.0), WIDE, log_density=log_density)
    with pytest.raises(TypeError, match="betas: the kernel has none"):
        kernel.init(key, jnp.zeros(2))


def test_a_reference_of_other_vectors_or_without_mass_there_is_told(key: jax.Array) -> None:
    k1, k2, k3, k4 = jax.random.split(key, 4)
    betas = jnp.array([0.0, 0.5, 1.0])
    kernel = ParallelTempering(RandomWalk(1.0), dist.Normal(0.0, 1.0).expand([3]), betas, log_density=jnp.sum)
    with pytest.raises(ValueError, match=r"reference must draw vectors like the position, of shape \(2,\), got \(3,\)"):
        kernel.step(k1, kernel.init(k2, jnp.zeros(2)))
    kernel = ParallelTempering(RandomWalk(1.0), dist.Uniform(-1.0, 1.0).expand([2]), betas, log_density=log_density)
    _, info = kernel.step(k3, kernel.init(k4, jnp.full(2, 2.0)))
    assert info.divergent
