"""One rule after the other as one would write it for a single problem: batches of values, and surrogates by hand.

A function takes a key, the parameters and how many samples, and returns a number with the derivatives that the rule
gives. What a cost is made of comes from `problem`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import log_softmax, one_hot, sigmoid, softmax, softplus

FACES = 4
stop = lax.stop_gradient


def cost(params, x):
    """Of one draw [latents, features]: a network's squared error."""
    hidden = jnp.tanh(x.reshape(-1) @ params["in"])
    return jnp.sum((jnp.tanh(hidden @ params["between"]) @ params["out"] - 1.0) ** 2)


costs = jax.vmap(cost, (None, 0))


def replaced(x, others):
    """Every element of x [samples, latents] replaced in turn: [samples, latents, latents]."""
    return jnp.where(jnp.eye(x.shape[1], dtype=bool), others[:, None, :], x[:, None, :])


def every(params, x):
    """Costs of replays [samples, replays, ...], held fixed."""
    return stop(jax.vmap(costs, (None, 0))(params, x))


def shape_of(params, samples):
    return (samples, *params["latents"].shape)


def coins(key, params, samples):
    logits = params["latents"]
    return jax.random.bernoulli(key, sigmoid(stop(logits)), shape_of(params, samples)).astype(logits.dtype)


def dice(key, params, samples):
    logits = stop(params["latents"])
    return jax.random.categorical(key, logits, shape=(samples, len(logits)))


def pathwise(key, params, samples):
    z = params["latents"] + jax.random.normal(key, shape_of(params, samples))
    return jnp.mean(costs(params, z))


def score(key, params, samples):
    b = coins(key, params, samples)
    found = costs(params, b)
    log_probs = jnp.sum(b * params["latents"] - softplus(params["latents"]), axis=1)
    others = (jnp.sum(found) - found) / (samples - 1)
    return jnp.mean(found) + jnp.mean(stop(found - others) * log_probs)


def enumerated(key, params, samples):
    """A coin has one other side, and the one that it shows has been run."""
    b = coins(key, params, samples)
    found = costs(params, b)
    other = every(params, replaced(b, 1 - b)) - stop(found)[:, None]
    return jnp.mean(found) + jnp.mean(jnp.sum((1 - 2 * b) * sigmoid(params["latents"]) * other, axis=1))


def coupled(key, params, samples):
    rate = jnp.exp(params["latents"])
    n = jax.random.poisson(key, stop(rate), shape_of(params, samples)).astype(rate.dtype)
    found = costs(params, n)
    more = every(params, replaced(n, n + 1)) - stop(found)[:, None]
    return jnp.mean(found) + jnp.mean(jnp.sum(rate * more, axis=1))


def measure_valued(key, params, samples):
    first, second = jax.random.split(key)
    rate = jnp.exp(params["latents"])
    x = jax.random.exponential(first, shape_of(params, samples)) / stop(rate)
    longer = x + jax.random.exponential(second, x.shape) / stop(rate)
    found = costs(params, x)
    more = every(params, replaced(x, longer)) - stop(found)[:, None]
    return jnp.mean(found) - jnp.mean(jnp.sum(rate / stop(rate) * more, axis=1))


def _twins(key, params, samples):
    p = sigmoid(stop(params["latents"]))
    u = jax.random.uniform(key, shape_of(params, samples))
    b, twin = (u > 1 - p).astype(p.dtype), (u < p).astype(p.dtype)
    found = costs(params, b)
    return u, p, b, twin, found, stop(found - costs(params, twin))


def arm(key, params, samples):
    u, _, _, _, found, difference = _twins(key, params, samples)
    return jnp.mean(found) + jnp.mean(difference * ((u - 0.5) @ params["latents"]))


def disarm(key, params, samples):
    _, p, b, twin, found, difference = _twins(key, params, samples)
    weights = jnp.where(b == twin, 0, (1 - 2 * twin) * jnp.maximum(p, 1 - p)) / 2
    return jnp.mean(found) + jnp.mean(difference * (weights @ params["latents"]))


def arsm(key, params, samples):
    logits = params["latents"]
    e = jax.random.exponential(key, shape_of(params, samples))
    shares = e / jnp.sum(e, axis=-1, keepdims=True)
    p = softmax(stop(logits))
    found = costs(params, one_hot(jnp.argmin(e / p, axis=-1), FACES))
    c, j = np.triu_indices(FACES, 1)
    swaps = np.tile(np.arange(FACES), (len(c), 1))
    swaps[np.arange(len(c)), c], swaps[np.arange(len(c)), j] = j, c
    swapped = jnp.argmin(e[..., swaps] / p[:, None, :], axis=-1)
    change = every(params, one_hot(jnp.swapaxes(swapped, 1, 2), FACES)) - stop(found)[:, None]
    left, centred = 1 / FACES - shares, logits - jnp.mean(logits, axis=-1, keepdims=True)
    weights = jnp.sum(left[..., j] * centred[..., c] + left[..., c] * centred[..., j], axis=1)
    return jnp.mean(found) + jnp.mean(jnp.sum(weights * change, axis=1))


def sum_and_sample(key, params, samples):
    """The likeliest face, and one of the others."""
    first, second = jax.random.split(key)
    logits = params["latents"]
    p, x = softmax(logits), dice(first, params, samples)
    top = jnp.argmax(logits, axis=1)
    rest = jnp.where(one_hot(top, FACES, dtype=bool), -jnp.inf, stop(logits))
    pick = jax.random.categorical(second, rest, shape=x.shape)
    found = costs(params, one_hot(x, FACES))
    chosen = jnp.stack([jnp.broadcast_to(top, x.shape), pick])
    weights = jnp.take_along_axis(p[None], jnp.moveaxis(chosen, 0, -1), axis=-1)
    weights = weights.at[..., 1].divide(jnp.take_along_axis(softmax(rest)[None], pick[..., None], axis=-1)[..., 0])
    tried = jnp.stack([replaced(x, others) for others in chosen], axis=-2)
    change = every(params, one_hot(tried.reshape(samples, -1, x.shape[1]), FACES)) - stop(found)[:, None]
    return jnp.mean(found) + jnp.mean(jnp.sum(weights.reshape(samples, -1) * change, axis=1))


def _gumbels(key, params, samples):
    return log_softmax(params["latents"]) + jax.random.gumbel(key, shape_of(params, samples))


def _given(key, log_probs, drawn):
    """Perturbed log probabilities of which the largest is at what was drawn, moving as that allows."""
    noise = jnp.log(jax.random.exponential(key, drawn.shape))
    first = jnp.sum(drawn * noise, axis=-1, keepdims=True)
    return -jnp.where(drawn > 0, first, jnp.logaddexp(first, noise - log_probs))


def rebar(key, params, samples):
    first, second = jax.random.split(key)
    log_probs = log_softmax(params["latents"])
    x = one_hot(dice(first, params, samples), FACES)
    found = costs(params, x)
    tilde = _given(second, log_probs, x)
    # One relaxed run: both have its value, and their derivatives differ.
    control = costs(stop(params), softmax((stop(tilde) + (log_probs - tilde) - stop(log_probs - tilde)) / 0.5))
    scores = jnp.sum(x * log_probs, axis=(1, 2))
    return jnp.mean(found) + jnp.mean(stop(found - control) * scores + control - stop(control))


def gumbel_softmax(key, params, samples):
    return jnp.mean(costs(params, softmax(_gumbels(key, params, samples) / 0.5)))


def gumbel_straight_through(key, params, samples):
    z = _gumbels(key, params, samples)
    soft = softmax(z / 0.5)
    return jnp.mean(costs(params, one_hot(jnp.argmax(z, axis=-1), FACES) + soft - stop(soft)))


def straight_through(key, params, samples):
    p, x = softmax(params["latents"]), one_hot(dice(key, params, samples), FACES)
    return jnp.mean(costs(params, x + p - stop(p)))


def reinmax(key, params, samples):
    log_probs, x = log_softmax(params["latents"]), one_hot(dice(key, params, samples), FACES)
    p = jnp.exp(log_probs)
    half = stop((x + p) / 2)
    first = softmax(stop(jnp.log(half)) + log_probs - stop(log_probs))
    moving = 2 * first - p / 2
    return jnp.mean(costs(params, x + moving - stop(moving)))


def runs(key, params, samples):
    """No gradient: what a run costs."""
    return jnp.mean(costs(params, coins(key, params, samples)))
