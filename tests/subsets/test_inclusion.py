"""Inclusion probabilities are exact, and so are the probabilities of sets too many to go through."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from scipy import integrate
from subsets.small_laws import LAWS, MASKS, jit, sets

from variate.subsets import ConditionalPoisson, TopK

EXACT = 1e-10


@pytest.mark.parametrize("name", MASKS)
def test_they_are_the_mean_of_all_masks(name: str) -> None:
    law, outcomes = LAWS[name], jnp.asarray(LAWS[name].outcomes)

    def mean(logits: Array) -> Array:
        return jnp.exp(jax.vmap(lambda x: law.exact(logits, x))(outcomes)) @ outcomes

    def ours(logits: Array) -> Array:
        return law.make(logits).inclusion_probabilities()

    @jit
    def both(logits: Array) -> list[tuple[Array, Array]]:
        return [(f(logits), jax.jacrev(f)(logits)) for f in (ours, mean)]

    logits = jnp.asarray(law.logits)
    found, wanted = both(logits)
    for each, right in zip(found, wanted, strict=True):
        np.testing.assert_allclose(each, right, atol=EXACT)
    batch = jit(ours)(jnp.stack([logits, 2 * logits]))
    np.testing.assert_allclose(batch, jnp.stack([found[0], both(2 * logits)[0][0]]), atol=EXACT)
    single = jit(ours)(logits.astype(jnp.float32))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, wanted[0], atol=1e-5)


@pytest.mark.wide
@pytest.mark.parametrize("size", [1, 4, 8])
@pytest.mark.parametrize("make", [TopK, ConditionalPoisson])
def test_of_logits_far_apart(make: Any, size: int) -> None:
    every = jnp.asarray(sets(9, size))
    offsets = jnp.array([0.0, 0.31, -0.55, 0.83, 0.12, 1.0, -1.0, 0.8, 0.11])

    @jit
    def both(logits: Array) -> tuple[Array, Array]:
        law = make(logits, size)
        return law.inclusion_probabilities(), jnp.exp(law.log_prob(every)) @ every

    for spread in (0.0, 3.0, 60.0, 1000.0):
        found, exact = both(spread * offsets)
        np.testing.assert_allclose(found, exact, atol=EXACT)


@pytest.mark.parametrize(("items", "size"), [(60, 30), (300, 7)])
@pytest.mark.parametrize("make", [TopK, ConditionalPoisson])
def test_they_add_up_to_the_size(make: Any, items: int, size: int, key: Array) -> None:
    logits = 2 * jax.random.normal(key, (items,))
    found = jit(lambda logits: make(logits, size).inclusion_probabilities())(logits)
    assert abs(float(jnp.sum(found)) - size) < EXACT
    assert np.all(np.diff(found[jnp.argsort(logits)]) > 0)


def recursion(logits: np.ndarray, size: int) -> float:
    """The log probability that the first `size` items are drawn before the others, over their 2^size subsets."""
    weights = np.exp(logits)
    chance = {0: 1.0}
    for subset in range(1, 2**size):
        chance[subset] = 0.0
        for i in (i for i in range(size) if subset >> i & 1):
            before = subset & ~(1 << i)
            drawn = sum(weights[j] for j in range(size) if before >> j & 1)
            chance[subset] += chance[before] * weights[i] / (np.sum(weights) - drawn)
    return math.log(chance[2**size - 1])


@functools.partial(jit, static_argnums=1)
def log_prob_of_first(logits: Array, size: int) -> Array:
    return TopK(logits, size).log_prob(jnp.arange(logits.shape[0]) < size)


@pytest.mark.parametrize(("items", "size"), [(13, 12), (30, 9)])
@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_sets_by_recursion(items: int, size: int, spread: float) -> None:
    logits = spread * np.sin(7.0 * np.arange(items))
    exact = recursion(logits, size)
    assert abs(float(log_prob_of_first(jnp.asarray(logits), size)) - exact) < 1e-12 * (1 + abs(exact))
    single = log_prob_of_first(jnp.asarray(logits, jnp.float32), size)
    assert abs(float(single) - exact) < 2e-6 * (1 + abs(exact))


@pytest.mark.parametrize(("items", "size"), [(700, 512), (520, 60)])
def test_large_sets_by_another_quadrature(items: int, size: int) -> None:
    logits = np.sin(7.0 * np.arange(items))
    ratios = np.exp(logits[:size]) / np.sum(np.exp(logits[size:]))

    def log_integrand(t: Any) -> Any:
        return -t + np.sum(np.log(-np.expm1(-np.multiply.outer(t, ratios))), axis=-1)

    grid = np.linspace(1e-3, 3000, 20_001)
    logs = np.concatenate([log_integrand(part) for part in np.array_split(grid, 100)])
    most, peak = np.max(logs), grid[np.argmax(logs)]
    integral = integrate.quad(
        lambda t: np.exp(log_integrand(t) - most), 0, 3000, points=[peak, 2 * peak], limit=500, epsabs=0
    )
    exact = most + math.log(integral[0])
    assert abs(float(log_prob_of_first(jnp.asarray(logits), size)) - exact) < 1e-9


def test_a_large_normalizer_by_its_polynomial() -> None:
    """The sum over sets of equal weights is a binomial coefficient; that of two classes is Vandermonde's."""
    law = ConditionalPoisson(jnp.full(400, 300.0), 150)
    exact = math.lgamma(401) - math.lgamma(151) - math.lgamma(251) + 150 * 300.0
    assert abs(float(law.log_normalizer()) / exact - 1) < 1e-13
    weights = np.array([0.5] * 20 + [2.0] * 30)
    sums = math.fsum(math.comb(20, i) * math.comb(30, 15 - i) * 0.5**i * 2.0 ** (15 - i) for i in range(16))
    found = ConditionalPoisson(jnp.log(jnp.asarray(weights)), 15).log_normalizer()
    assert abs(float(found) - math.log(sums)) < 1e-12
    draw = jit(lambda key: law.sample(key))(jax.random.key(1))
    assert float(jnp.sum(draw)) == 150


@pytest.mark.parametrize("make", [TopK, ConditionalPoisson])
def test_equal_weights_are_a_simple_random_sample(make: Any) -> None:
    @jit
    def found(logits: Array) -> tuple[Array, Array]:
        law = make(logits, 7)
        return law.log_prob(jnp.arange(40) < 7), law.inclusion_probabilities()

    log_prob, inclusion = found(jnp.zeros(40))
    assert abs(float(log_prob) + math.log(math.comb(40, 7))) < EXACT
    np.testing.assert_allclose(inclusion, 7 / 40, atol=EXACT)
