"""Noise that is added and taken away: what a proposal weighs, and what a chain of measurements falls short of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernels.denoising import Careless
from kernels.law import LIMIT

from variate.mcmc import LogConcaveChain, ReverseDiffusion
from variate.mcmc.random_walk import State

MEANS = jnp.array([[-3.0, -3.0], [3.0, 3.0], [3.0, -3.0]])
WEIGHTS = jnp.array([0.5, 0.3, 0.2])
NUMBER = 4_000


def log_density(x: jax.Array) -> jax.Array:
    """Of mass 2 pi."""
    return jax.nn.logsumexp(jnp.log(WEIGHTS) - 0.5 * jnp.sum((x[None] - MEANS) ** 2, -1))


def worst(kernel: ReverseDiffusion, key: jax.Array) -> float:
    """The largest z among the means of w, w x and w x x', where w are the weights of proposals."""

    @jax.jit
    @jax.vmap
    def moments(key: jax.Array) -> jax.Array:
        x, _, log_weight = kernel.proposal(key, jnp.zeros(2))
        return jnp.exp(log_weight) * jnp.stack([jnp.ones(()), *x, x[0] ** 2, x[0] * x[1]])

    found = moments(jax.random.split(key, NUMBER)) / (2 * jnp.pi)
    truth = jnp.stack([jnp.ones(()), *(WEIGHTS @ MEANS), jnp.asarray(10.0), WEIGHTS @ (MEANS[:, 0] * MEANS[:, 1])])
    return float(jnp.max(jnp.abs(jnp.mean(found, 0) - truth) / (jnp.std(found, 0) / NUMBER**0.5)))


def test_a_proposal_weighs_what_the_target_has_of_it(key: jax.Array) -> None:
    """Of five z-tests at 1e-6 each."""
    settings = jnp.geomspace(0.1, 2.0, 6), 100
    assert worst(ReverseDiffusion(*settings, log_density=log_density), key) < LIMIT
    assert worst(Careless(*settings, log_density=log_density), jax.random.clone(key)) > LIMIT


def normal_smoothed(y: jax.Array, sigma: jax.Array) -> jax.Array:
    """Of a normal target of variance 4."""
    return -0.5 * y @ y / (4 + sigma**2)


CHAIN = LogConcaveChain(3.0, 4, 3, 0.7, smoothed=normal_smoothed, allow_bias=True, log_density=lambda x: -x @ x / 8)


class Undivided(LogConcaveChain):
    """The mean of measurements is as noisy as each."""

    def expected(self, key: jax.Array, mean: jax.Array, count: jax.Array) -> jax.Array:
        return LogConcaveChain.expected(self, key, mean, jnp.ones_like(count))


def variance(sigma: float, measurements: int, steps: int, epsilon: float) -> float:
    """Of a coordinate of a draw, where the target is normal of variance 4: all steps are linear."""
    shrink = [4 / (4 + sigma**2 / k) for k in range(1, measurements + 1)]
    # Of the mean of measurements before, and of the one that moves.
    covariance = np.zeros((2, 2))
    for k, share in enumerate(shrink, 1):
        begin = np.array([[1.0, 0.0], [shrink[k - 2] if k > 1 else 0.0, 0.0]])
        covariance = begin @ covariance @ begin.T + np.diag([0.0, sigma**2])
        join = np.array([1 - 1 / k, 1 / k])
        move = np.array([[1.0, 0.0], [0.0, 1 - epsilon**2 / 2]])
        move[1] += epsilon**2 / 2 * share * join
        for _ in range(steps):
            covariance = move @ covariance @ move.T + np.diag([0.0, (epsilon * sigma) ** 2])
        joined = np.array([join, [0.0, 0.0]])
        covariance = joined @ covariance @ joined.T
    return float(shrink[-1] ** 2 * covariance[0, 0])


def test_the_bias_of_a_chain_of_measurements_is_the_one_that_it_has(key: jax.Array) -> None:
    """The variance of draws of a normal target, against that of the linear recursion: a z-test at 1e-6."""

    def z(chain: LogConcaveChain) -> float:
        start = chain.init(jax.random.clone(key), jnp.zeros(2))
        keys = jax.random.split(jax.random.clone(key), 20_000)
        squares = jax.jit(jax.vmap(lambda key: chain.step(key, start)[0].position[0] ** 2))(keys)
        return float(abs(jnp.mean(squares) - variance(3.0, 4, 3, 0.7)) / (jnp.std(squares) / 20_000**0.5))

    assert z(CHAIN) < LIMIT
    assert z(Undivided(3.0, 4, 3, 0.7, smoothed=normal_smoothed, allow_bias=True, log_density=sum)) > LIMIT


def test_points_say_what_the_smoothed_density_says(key: jax.Array) -> None:
    """Of x given a measurement, by points: z-tests at 1e-6; their bias is a fifth of the error of the mean of 100."""
    chain = LogConcaveChain(3.0, 4, num_samples=4_000, allow_bias=True, log_density=CHAIN.log_density)
    y, four = jnp.array([1.0, -2.0]), jnp.asarray(4)
    found = jax.jit(jax.vmap(lambda key: chain.expected(key, y, four)))(jax.random.split(key, 100))
    error = jnp.std(found, 0) / 10
    assert jnp.all(jnp.abs(jnp.mean(found, 0) - CHAIN.expected(jax.random.clone(key), y, four)) < LIMIT * error)
    assert jnp.all(jnp.abs(jnp.mean(found, 0) - y) > LIMIT * error)


def test_a_biased_chain_is_refused() -> None:
    with pytest.raises(TypeError, match="biased by an amount that no error bar tells; allow_bias=True"):
        LogConcaveChain(3.0, 4)


def test_a_chain_that_is_lost_stays_and_says_so(key: jax.Array) -> None:
    broken = LogConcaveChain(3.0, 4, 3, smoothed=lambda y, s: jnp.nan * y[0], allow_bias=True, log_density=jnp.sum)
    start = State(jnp.ones(2), jnp.asarray(2.0))
    state, info = broken.step(key, start)
    assert jnp.array_equal(state.position, jnp.ones(2))
    assert info.divergent
    assert info.acceptance == 0
