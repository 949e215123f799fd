"""Noise that is added and taken away: what a proposal weighs."""

import jax
import jax.numpy as jnp
from kernels.denoising import Careless
from kernels.law import LIMIT

from variate.mcmc import ReverseDiffusion

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
