"""The same programs and the same estimators, written by hand in JAX.

A program here returns its cost and the log probability of its draws, by element with what each is charged with or in
all, or the cost alone where it is differentiated along its path.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.nn import sigmoid, softplus
from programs import STEPS, apply, bernoulli, descend, normal_divergence


def autoencoder(key, params, x):
    """Each latent is charged with its own terms, of the likelihood as far as that is linear, and with its picture's.

    What does not depend on the draws is left out of the charges, since the baseline would take it off again.
    """
    logits = apply(params["encoder"], x)
    b = jax.random.bernoulli(key, sigmoid(logits)).astype(x.dtype)
    log_q = b * logits - softplus(logits)
    outputs = apply(params["decoder"], b)
    misfit = softplus(outputs)
    own = b * (logits - params["prior"] - x @ params["decoder"]["w"].T)
    charges = (own + jnp.sum(misfit, axis=1, keepdims=True)) / x.shape[0]
    cost = jnp.sum(log_q) - bernoulli(params["prior"], b) - jnp.sum(outputs * x - misfit)
    return cost / x.shape[0], log_q, charges


def gaussian(key, params, x):
    hidden = jnp.tanh(apply(params["encoder"], x))
    mean, log_scale = apply(params["mean"], hidden), apply(params["log_scale"], hidden)
    z = mean + jnp.exp(log_scale) * jax.random.normal(key, mean.shape)
    logits = apply(params["output"], jnp.tanh(apply(params["decoder"], z)))
    return (normal_divergence(mean, log_scale) - bernoulli(logits, x)) / x.shape[0]


def walk(key, params):
    def step(carry, inputs):
        state, log_prob = carry
        key, logit = inputs
        logit = logit - params["pull"] * state
        b = jax.random.bernoulli(key, sigmoid(logit)).astype(state.dtype)
        return (0.9 * state + b, log_prob + bernoulli(logit, b)), None

    start = jnp.zeros(()), jnp.zeros(())
    (state, log_prob), _ = jax.lax.scan(step, start, (jax.random.split(key, STEPS), params["logits"]))
    return (state - 3.0) ** 2, log_prob


def toy(key, params):
    k1, k2, k3 = jax.random.split(key, 3)
    a, p = flip(k1, params[0])
    b, q = flip(k2, params[1] + a)
    c, r = flip(k3, params[2] - b)
    return (a + b + c - 1.5) ** 2, p + q + r


def flip(key, logit):
    b = jax.random.bernoulli(key, sigmoid(logit)).astype(logit.dtype)
    return b, bernoulli(logit, b)


def equations(count: int) -> Callable:
    def program(key, params):
        x = params + jax.random.normal(key)
        for _ in range(count // 2):
            x = jnp.sin(x) * params
        return x

    return program


def draws(count: int) -> Callable:
    def program(key, params):
        state, log_prob = jnp.zeros(()), jnp.zeros(())
        for i in range(count):
            b, own = flip(jax.random.fold_in(key, i), params - state)
            state, log_prob = 0.9 * state + b, log_prob + own
        return (state - 3.0) ** 2, log_prob

    return program


def step(program: Callable, samples: int) -> Callable:
    """A step of stochastic gradient descent: the score function with leave-one-out, or pathwise."""

    def surrogate(params, keys, *data):
        found = jax.vmap(lambda key: program(key, params, *data))(keys)
        if not isinstance(found, tuple):
            return jnp.mean(found), jnp.mean(found)
        costs, log_probs, *elements = found
        charges = elements[0] if elements else costs
        baselines = (jnp.sum(charges, axis=0) - charges) / (samples - 1)
        weighted = jnp.sum(jax.lax.stop_gradient(charges - baselines) * log_probs) / samples
        return jnp.mean(costs) + weighted, jnp.mean(costs)

    def update(params, key, *data):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(samples))
        (_, value), gradient = jax.value_and_grad(surrogate, has_aux=True)(params, keys, *data)
        return descend(params, gradient), value, None

    return update
