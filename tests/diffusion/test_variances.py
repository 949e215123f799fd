"""Learned variances: on normal data the right share is known, its draws are exact, and the loss is least there."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.problems import PROCESSES

from variate.diffusion import (
    DDIM,
    Ancestral,
    AncestralLearned,
    GaussianMixture,
    NoiseAndShare,
    sample,
    uniform_log_snr,
    variance_loss,
)

PROCESS = PROCESSES["variance preserving"]
MEAN, VARIANCE, ROWS = 0.7, 0.3, 20_000
EXACT = GaussianMixture(PROCESS, [1.0], [[MEAN, MEAN]], [VARIANCE])
TIMES = uniform_log_snr(PROCESS, 4)


def right_shares() -> np.ndarray:
    """At which the variance of each step is that of the exact conditional law."""
    alpha, sigma = (np.asarray(column) for column in PROCESS.level(jnp.asarray(TIMES))[1:])
    whole = alpha**2 * VARIANCE + sigma**2
    ratio = (sigma[1:] / sigma[:-1]) ** 2
    return 1 - np.log(whole[1:] / whole[:-1]) / np.log(ratio)


RIGHT = right_shares()


class Network(eqx.Module):
    """The exact noise times `scale`, and the shares of the steps."""

    shares: Any
    scale: Any = 1.0

    def __call__(self, x: Any, t: Any) -> Any:
        step = jnp.minimum(jnp.argmin(jnp.abs(jnp.asarray(TIMES) - t)), len(TIMES) - 2)
        return self.scale * EXACT.noise(x, t), jnp.full_like(x, jnp.asarray(self.shares)[step])


def shared(shares: Any, scale: Any = 1.0) -> NoiseAndShare:
    return NoiseAndShare(PROCESS, Network(shares, scale))


def off(shares: Any) -> float:
    """In standard errors, the variance of draws from that of the law there is at the end."""
    run = sample(jax.random.key(0), shared(shares), AncestralLearned(), TIMES, (ROWS, 2))
    level = PROCESS.level(TIMES[-1])
    expected = float(level.alpha**2 * VARIANCE + level.sigma**2)
    found = float(jnp.mean((run.values - level.alpha * MEAN) ** 2))
    return abs(found / expected - 1) * np.sqrt(ROWS)


def test_the_right_share_draws_the_law_in_four_steps() -> None:
    # By five standard errors, once in two million; the start is off by a millionth of that.
    assert off(RIGHT) < 5
    for mutant in (0 * RIGHT, 1 + 0 * RIGHT, 1 - RIGHT):
        assert off(mutant) > 5


@pytest.mark.parametrize(("share", "solver"), [(0.0, DDIM(1.0)), (1.0, Ancestral(1.0))])
def test_at_both_ends_it_is_a_chain_of_fixed_variances(share: float, solver: Any) -> None:
    times = np.append(TIMES, 0.0)
    found = sample(jax.random.key(1), shared(np.full(4, share)), AncestralLearned(), times[:-1], (5, 2)).values
    np.testing.assert_allclose(found, sample(jax.random.key(1), EXACT, solver, times[:-1], (5, 2)).values, rtol=1e-9)
    to_data = sample(jax.random.key(1), shared(np.full(4, share)), AncestralLearned(), times, (5, 2))
    np.testing.assert_allclose(to_data.values, jax.vmap(lambda x: EXACT.data(x, TIMES[-1]))(found), rtol=1e-9)


@pytest.fixture(scope="module")
def rows() -> jax.Array:
    return MEAN + jnp.sqrt(VARIANCE) * jax.random.normal(jax.random.key(2), (ROWS, 2))


def test_the_loss_is_least_at_the_right_share(rows: jax.Array) -> None:
    s, t = TIMES[1], TIMES[2]

    @jax.jit
    @partial(jax.value_and_grad, argnums=(0, 1))
    def loss(more: Any, scale: Any) -> Any:
        model = shared(RIGHT + more, scale)
        return variance_loss(jax.random.key(3), model, rows, jnp.full(ROWS, s), jnp.full(ROWS, t))

    value, (slope, of_noise) = loss(0.0, 1.0)
    before, after = PROCESS.level(s), PROCESS.level(t)
    whole, less = (float(at.alpha**2 * VARIANCE + at.sigma**2) for at in (before, after))
    log_ratio = float(2 * jnp.log(before.sigma / after.sigma))
    # What is left is half the log of the two variances. It is a constant and half the mean of 2 ROWS squares with mean
    # 1 - q, of which the slope has the same, times the derivative of the log.
    right = np.log(less / whole) + log_ratio
    spread = (1 - np.exp(-right)) / np.sqrt(ROWS)
    assert abs(float(value) - 0.5 * right) < 5 * 0.5 * spread
    assert abs(float(slope)) < 5 * 0.5 * log_ratio * spread
    assert of_noise == 0  # the mean learns nothing from it
    for mutant in (-0.2, 0.2):
        assert abs(float(loss(mutant, 1.0)[1][0])) > 5 * 0.5 * log_ratio * spread


def test_what_knows_no_variances_is_refused() -> None:
    with pytest.raises(TypeError, match="model must be a NoiseAndShare"):
        sample(jax.random.key(0), EXACT, AncestralLearned(), TIMES, (2, 2))
    for network in (lambda x, t: x, lambda x, t: (x, x[:1])):
        with pytest.raises(ValueError, match="must return a pair"):
            sample(jax.random.key(0), NoiseAndShare(PROCESS, network), AncestralLearned(), TIMES, (2, 2))
