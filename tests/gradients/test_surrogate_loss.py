"""`surrogate_loss`: what JAX makes of it is what `grad` estimates, to the second order."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import variate as vt

SCORED = {"a": vt.gradients.Score(), "b": vt.gradients.Score()}


def linked(key: jax.Array, t: jax.Array) -> jax.Array:
    k1, k2 = jax.random.split(key)
    a = vt.draw(k1, dist.Bernoulli(logits=t**2), name="a").astype(float)
    b = vt.draw(k2, dist.Bernoulli(logits=t * a + 0.3), name="b").astype(float)
    return a * b * t


def expectation(t: jax.Array) -> jax.Array:
    return jax.nn.sigmoid(t**2) * jax.nn.sigmoid(t + 0.3) * t


def test_its_gradient_is_that_of_grad() -> None:
    key, t = jax.random.key(0), jnp.asarray(0.5)
    loss = vt.gradients.surrogate_loss(linked, num_samples=32, rules=SCORED)
    value, gradient = vt.value_and_grad(linked, num_samples=32, rules=SCORED)(jax.random.clone(key), t)
    assert np.allclose(jax.grad(loss, argnums=1)(key, t), gradient.value, rtol=1e-12)
    assert np.allclose(loss(jax.random.clone(key), t), value.value, rtol=1e-12)


@pytest.mark.slow
def test_its_hessian_is_unbiased(key: jax.Array) -> None:
    loss = vt.gradients.surrogate_loss(linked, num_samples=8, rules=SCORED)
    found = jax.jit(jax.vmap(jax.hessian(loss, argnums=1), in_axes=(0, None)))(jax.random.split(key, 40_000), 0.5)
    exact = jax.hessian(expectation)(0.5)
    # z-test at α = 1e-6; without the baseline's own sample left out the mean would be off by a multiple of the bound.
    assert abs(found.mean() - exact) < stats.norm.isf(5e-7) * found.std() / np.sqrt(len(found))


def test_a_gradient_is_not_differentiated_again_unasked() -> None:
    once = vt.grad(linked, num_samples=4)
    with pytest.raises(TypeError, match="order=2"):
        jax.grad(lambda t: once(jax.random.key(0), t).value)(0.5)
    twice = vt.grad(linked, num_samples=4, order=2)
    assert np.isfinite(jax.grad(lambda t: twice(jax.random.key(0), t).value)(0.5))
