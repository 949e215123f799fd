"""The problems in plain JAX, with the estimator that one writes at first: the whole cost, leave-one-out."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.nn import log_softmax, one_hot, softplus
from problems import (
    DECISIONS,
    DICE,
    FACES,
    PICKED,
    QUEUE,
    REPEATED,
    SERVED,
    WALK,
    Problem,
    flat,
    rates,
)


def flip(key, logits):
    """A coin and its log probability."""
    b = jax.random.bernoulli(key, jax.nn.sigmoid(logits)).astype(logits.dtype)
    return b, log_bernoulli(logits, b)


def log_bernoulli(logits, b):
    return b * logits - softplus(logits)


def linked(key, logits):
    k1, k2, k3 = jax.random.split(key, 3)
    a, p = flip(k1, logits[0])
    b, q = flip(k2, logits[1] + a)
    c, r = flip(k3, logits[2] - b)
    return (a + b + c - 1.5) ** 2, p + q + r


def apart(key, logits):
    b, log_probs = flip(key, logits)
    return jnp.sum((b - 0.45) ** 2), jnp.sum(log_probs)


def dice(key, params, x):
    """By picture."""
    logits = (x @ params["encoder"] + params["encoder bias"]).reshape(len(x), DICE, FACES)
    z = one_hot(jax.random.categorical(key, logits), FACES)
    log_probs = jnp.sum(z * log_softmax(logits), axis=(1, 2))
    outputs = z.reshape(len(x), -1) @ params["decoder"] + params["decoder bias"]
    misfits = -jnp.sum(log_bernoulli(outputs, x), axis=1)
    return (log_probs + DICE * jnp.log(FACES) + misfits) / len(x), log_probs


def coins(key, params, x):
    """By picture."""
    b, each = flip(key, x @ params["encoder"] + params["encoder bias"])
    log_probs = jnp.sum(each, axis=1)
    misfits = -jnp.sum(log_bernoulli(b @ params["decoder"] + params["decoder bias"], x), axis=1)
    return (log_probs + b.shape[1] * jnp.log(2) + misfits) / len(x), log_probs


def walk(key, t):
    def step(carry, k):
        s, total, log_prob = carry
        b, own = flip(k, t[0] + t[1] * jnp.tanh(s))
        s = 0.5 * s + 2 * b - 1
        return (s, total + b * s, log_prob + own), None

    start = (jnp.zeros(()),) * 3
    return lax.scan(step, start, jax.random.split(key, WALK))[0][1:]


def decisions(key, logits, moves, rewards):
    def step(carry, k):
        s, total, log_prob = carry
        choosing, moving = jax.random.split(k)
        a = jax.random.categorical(choosing, logits[s])
        following = jax.random.categorical(moving, jnp.log(moves[s, a]))
        return (following, total + rewards[s, a], log_prob + log_softmax(logits[s])[a]), None

    start = jnp.zeros((), int), jnp.zeros(()), jnp.zeros(())
    return lax.scan(step, start, jax.random.split(key, DECISIONS))[0][1:]


def queue(key, t):
    def step(carry, inputs):
        waiting, total, log_prob = carry
        k, rate = inputs
        arrived = lax.stop_gradient(jax.random.poisson(k, rate).astype(rate.dtype))
        waiting = jnp.maximum(waiting + arrived - SERVED, 0.0)
        return (waiting, total + waiting, log_prob + arrived * jnp.log(rate) - rate), None

    start = (jnp.zeros(()),) * 3
    return lax.scan(step, start, (jax.random.split(key, QUEUE), rates(t)))[0][1:]


def subset(key, logits, features, target):
    chosen, log_prob = jnp.zeros(len(logits)), 0.0
    for k in jax.random.split(key, PICKED):
        masked = logits - REPEATED * chosen
        pick = jax.random.categorical(k, masked)
        log_prob = log_prob + log_softmax(masked)[pick]
        chosen = chosen + one_hot(pick, len(logits))
    return jnp.sum((target - chosen @ features) ** 2), log_prob


PROGRAMS: dict[str, Callable] = {
    "3 linked coins": linked,
    "200 coins apart": apart,
    "autoencoder of dice": dice,
    "autoencoder of coins": coins,
    "walk of 100 coins": walk,
    "20 decisions": decisions,
    "Poisson queue": queue,
    "3 of 8 items": subset,
}


def by_hand(problem: Problem, samples: int, parts: bool = False) -> Callable[[jax.Array, Any], jax.Array]:
    """The gradient as one vector; with `parts` each picture is charged with its own cost alone."""
    program = PROGRAMS[problem.name]

    def several(params: Any, keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        data = [jnp.asarray(array) for array in problem.data]
        costs, log_probs = jax.vmap(lambda key: program(key, params, *data))(keys)
        if not parts:
            costs, log_probs = (x.reshape(samples, -1).sum(axis=1) for x in (costs, log_probs))
        return costs, log_probs

    def gradient(key: jax.Array, params: Any) -> jax.Array:
        keys = jax.random.split(key, samples)
        (costs, _), pull = jax.vjp(lambda params: several(params, keys), params)
        others = (jnp.sum(costs, axis=0) - costs) / (samples - 1)
        (found,) = pull((jnp.full_like(costs, 1 / samples), (costs - others) / samples))
        return flat(found)

    return gradient
