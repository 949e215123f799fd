"""Flips of binary vectors leave an enumerated law as it is and are reversible; chi-square tests at 1e-6 each."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import variate as vt
from variate.mcmc import GibbsWithGradients, LocallyBalanced, locally_balanced
from variate.mcmc import base as rules

CHAINS, SPINS = 40_000, 6
STATES = jnp.asarray([[float(n >> i & 1) for i in range(SPINS)] for n in range(2**SPINS)])
FIELD = jnp.asarray([0.8, -0.5, 0.3, 0.0, -0.9, 0.4])


def log_density(x: jax.Array) -> jax.Array:
    """Spins on a ring, each in a field of its own; no Taylor series of first order is exact."""
    spins = 2 * x - 1
    return 0.5 * spins @ jnp.roll(spins, 1) + FIELD @ spins


KERNELS = {
    "root": LocallyBalanced(log_density=log_density),
    "sigmoid": LocallyBalanced(jax.nn.log_sigmoid, log_density=log_density),
    "gradients": GibbsWithGradients(log_density=log_density),
}


def least(kernel: Any, key: jax.Array) -> float:
    """The smaller p-value: of the law after three steps from exact starts, and of as many steps there as back."""
    logits = jax.vmap(log_density)(STATES)

    def chain(key: jax.Array) -> jax.Array:
        first, start, rest = jax.random.split(key, 3)
        x = STATES[jax.random.categorical(first, logits)]

        def step(state: Any, key: jax.Array) -> tuple:
            state, _ = kernel.step(key, state)
            return state, state.position

        _, (y, _, z) = jax.lax.scan(step, kernel.init(start, x), jax.random.split(rest, 3))
        return jnp.stack([x, y, z]) @ jnp.asarray([2.0**i for i in range(SPINS)])

    x, y, z = np.asarray(jax.jit(jax.vmap(chain))(jax.random.split(key, CHAINS)), int).T
    expected = CHAINS * np.asarray(jax.nn.softmax(logits))
    law = stats.chisquare(np.bincount(z, minlength=2**SPINS), expected).pvalue
    flows = np.zeros((2**SPINS, 2**SPINS))
    np.add.at(flows, (x, y), 1)
    both = np.triu(flows + flows.T, 1)
    seen = both >= 10
    balance = np.sum((flows - flows.T)[seen] ** 2 / both[seen])
    return float(min(law, stats.chi2.sf(balance, np.sum(seen))))


@pytest.mark.wide
@pytest.mark.parametrize("name", KERNELS)
def test_the_law_is_left_as_it_is_and_steps_are_reversible(name: str, key: jax.Array) -> None:
    assert least(KERNELS[name], key) > 1e-6


@pytest.mark.parametrize("name", KERNELS)
def test_a_forgotten_proposal_is_seen(name: str, key: jax.Array, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(key: jax.Array, log_ratio: jax.Array, proposal: Any, state: Any) -> tuple:
        return rules.metropolis(key, proposal.log_density - state.log_density, proposal, state)

    monkeypatch.setattr(locally_balanced, "metropolis", forgetful)
    assert least(KERNELS[name], key) < 1e-6


def test_a_log_density_of_flips_is_sampled(key: jax.Array) -> None:
    draws = vt.sample(key, log_density, jnp.zeros(SPINS), kernel=GibbsWithGradients(), num_samples=50, num_warmup=25)
    assert jnp.all((draws.values == 0) | (draws.values == 1))
    assert not jnp.any(draws.divergent)


def test_what_is_not_binary_or_no_number_is_told(key: jax.Array) -> None:
    with pytest.raises(ValueError, match="position must hold nothing but 0 and 1"):
        KERNELS["root"].init(key, jnp.array([0.0, 0.5]))
    with pytest.raises(TypeError, match="balance must be a function"):
        LocallyBalanced(0.5)
    k1, k2 = jax.random.split(jax.random.clone(key))
    kernel = LocallyBalanced(log_density=lambda x: jnp.where(jnp.sum(x) == 0, 0.0, jnp.nan))
    state, info = kernel.step(k2, kernel.init(k1, jnp.zeros(3)))
    assert info.divergent
    assert not info.accepted
    assert jnp.array_equal(state.position, jnp.zeros(3))


def test_a_start_that_is_not_binary_is_never_left_under_jit(key: jax.Array) -> None:
    kernel, half = KERNELS["root"], jnp.full(SPINS, 0.5)
    k1, k2 = jax.random.split(key)
    state, info = jax.jit(lambda k1, k2, x: kernel.step(k2, kernel.init(k1, x)))(k1, k2, half)
    assert info.divergent
    assert jnp.array_equal(state.position, half)
