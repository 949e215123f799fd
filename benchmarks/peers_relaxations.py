"""Relaxations as one would write them for a single problem: what is drawn moves as something soft does."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import log_softmax, one_hot, softmax
from peers_rules import FACES, costs, dice, given, shape_of, stop


def held(drawn, moving):
    return drawn + moving - stop(moving)


def _gumbels(key, params, samples):
    return log_softmax(params["latents"]) + jax.random.gumbel(key, shape_of(params, samples))


def gumbel_softmax(key, params, samples):
    return jnp.mean(costs(params, softmax(_gumbels(key, params, samples) / 0.5)))


def gumbel_straight_through(key, params, samples):
    z = _gumbels(key, params, samples)
    soft = softmax(z / 0.5)
    return jnp.mean(costs(params, held(one_hot(jnp.argmax(z, axis=-1), FACES), soft)))


def straight_through(key, params, samples):
    p, x = softmax(params["latents"]), one_hot(dice(key, params, samples), FACES)
    return jnp.mean(costs(params, held(x, p)))


def reinmax(key, params, samples):
    log_probs, x = log_softmax(params["latents"]), one_hot(dice(key, params, samples), FACES)
    p = jnp.exp(log_probs)
    half = stop((x + p) / 2)
    first = softmax(stop(jnp.log(half)) + log_probs - stop(log_probs))
    moving = 2 * first - p / 2
    return jnp.mean(costs(params, held(x, moving)))


def gumbel_rao(key, params, samples):
    """Sixteen times the noise that would have drawn the same."""
    first, second = jax.random.split(key)
    log_probs, x = log_softmax(params["latents"]), one_hot(dice(first, params, samples), FACES)
    noise = stop(given(second, log_probs, jnp.broadcast_to(x, (16, *x.shape))) - log_probs)
    return jnp.mean(costs(params, held(x, jnp.mean(softmax((log_probs + noise) / 0.5), axis=0))))


def top_k(key, params, samples):
    """Three items of all, and three softmaxes one after the other."""
    scores = params["latents"] + jax.random.gumbel(key, shape_of(params, samples))
    mask = jnp.sum(one_hot(lax.top_k(scores, 3)[1], scores.shape[-1]), axis=1)
    soft = jnp.zeros_like(scores)
    for _ in range(3):
        chosen = softmax(scores / 0.5)
        soft, scores = soft + chosen, scores + jnp.log(jnp.maximum(1 - chosen, 1e-20))
    return jnp.mean(costs(params, held(mask, soft)))


def masks(key, params, samples):
    """Two of four, with the slopes of their means."""
    table = np.zeros((6, 4), np.float32)
    np.put_along_axis(table, np.array(list(itertools.combinations(range(4), 2))), 1, axis=1)
    x = jnp.asarray(table)[dice(key, params, samples)]
    return jnp.mean(costs(params, held(x, softmax(params["latents"]) @ table)))
