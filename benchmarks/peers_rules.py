"""One rule after the other as one would write it for a single problem: batches of values, and surrogates by hand.

A function takes a key, the parameters and how many samples, and returns a number with the derivatives that the rule
gives. What a cost is made of comes from `problem`.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import log_softmax, one_hot, sigmoid, softmax, softplus
from jax.scipy.special import gammaln

FACES, LENGTH = 4, 8
WEIGHTS = np.array([0.3, 0.7], np.float32)
TEACHER = jnp.asarray(np.random.default_rng(1).normal(size=(32, 32)), jnp.float32)  # logits of tokens by the last one
stop = lax.stop_gradient


def cost(params, x):
    """Of one draw [latents, features]: a network's squared error."""
    hidden = jnp.tanh(x.reshape(-1) @ params["in"])
    return jnp.sum((jnp.tanh(hidden @ params["between"]) @ params["out"] - 1.0) ** 2)


costs = jax.vmap(cost, (None, 0))


def layer(z, params):
    return jnp.sum(jnp.tanh(z.reshape(-1) @ params["in"]))


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


def implicit(key, params, samples):
    """What a draw from two normals was made by moves it, as far as it may have been."""
    first, second = jax.random.split(key)
    means = jnp.stack([params["latents"], -params["latents"]], axis=-1)
    which = jax.random.bernoulli(first, WEIGHTS[1], shape_of(params, samples))
    x = stop(jnp.where(which, means[:, 1], means[:, 0])) + jax.random.normal(second, which.shape)
    shares = softmax(jnp.log(WEIGHTS) - stop(x[..., None] - means) ** 2 / 2)
    return jnp.mean(costs(params, x + jnp.sum(shares * (means - stop(means)), axis=-1)))


def acceptance_rejection(key, params, samples):
    """Gammas of a concentration that is larger by two, and two uniform numbers."""
    first, second = jax.random.split(key)
    a = jnp.exp(params["latents"])
    d = a + 2 - 1 / 3
    drawn = jax.random.gamma(first, stop(a) + 2, shape_of(params, samples))
    noise = stop((jnp.cbrt(drawn / d) - 1) * jnp.sqrt(9 * d))
    root = 1 + noise / jnp.sqrt(9 * d)
    z = d * root**3
    u = jax.random.uniform(second, (2, *z.shape))
    found = costs(params, z * u[0] ** (1 / a) * u[1] ** (1 / (a + 1)))
    log_density = (a + 1) * jnp.log(z) - z - gammaln(a + 2) + jnp.log(d) / 2 + 2 * jnp.log(root)
    others = (jnp.sum(found) - found) / (samples - 1)
    return jnp.mean(found) + jnp.mean(stop(found - others) * jnp.sum(log_density, axis=1))


def score(key, params, samples):
    b = coins(key, params, samples)
    found = costs(params, b)
    log_probs = jnp.sum(b * params["latents"] - softplus(params["latents"]), axis=1)
    others = (jnp.sum(found) - found) / (samples - 1)
    return jnp.mean(found) + jnp.mean(stop(found - others) * log_probs)


def covariance(key, params, samples):
    """The same without the normaliser, which is what all samples share."""
    b = coins(key, params, samples)
    found = costs(params, b)
    others = (jnp.sum(found) - found) / (samples - 1)
    return jnp.mean(found) + jnp.mean(stop(found - others) * (b @ params["latents"]))


def enumerated(key, params, samples):
    """A coin has one other side, and the one that it shows has been run."""
    b = coins(key, params, samples)
    found = costs(params, b)
    other = every(params, replaced(b, 1 - b)) - stop(found)[:, None]
    return jnp.mean(found) + jnp.mean(jnp.sum((1 - 2 * b) * sigmoid(params["latents"]) * other, axis=1))


def marginalized(key, params, samples):
    """All outcomes of the first half, which are coins; the others are normal."""
    half = len(params["latents"]) // 2
    logits, means = params["latents"][:half], params["latents"][half:]
    z = means + jax.random.normal(key, (samples, half))
    outcomes = np.array(list(itertools.product((0.0, 1.0), repeat=half)), np.float32)
    weights = jnp.exp(outcomes @ logits - jnp.sum(softplus(logits)))
    x = jnp.concatenate(jnp.broadcast_arrays(outcomes, z[:, None]), axis=-1)
    return jnp.mean(jax.vmap(costs, (None, 0))(params, x) @ weights)


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


def unordered_set(key, params, samples):
    """Two different faces, each of which is the other's baseline."""
    first, second = jax.random.split(key)
    logits = params["latents"]
    p, x = softmax(logits), dice(first, params, samples)
    found = costs(params, one_hot(x, FACES))
    pair = lax.top_k(stop(logits) + jax.random.gumbel(second, shape_of(params, samples)), 2)[1]
    tried = jnp.stack([replaced(x, pair[..., 0]), replaced(x, pair[..., 1])], axis=1)
    one, other = jnp.moveaxis(
        every(params, one_hot(tried.reshape(samples, -1, x.shape[1]), FACES)).reshape(samples, 2, -1), 1, 0
    )
    a, b = jnp.moveaxis(jnp.take_along_axis(p[None], pair, axis=-1), -1, 0)
    held, rest = stop(a), stop(b)
    # p(S) / (p(a) p(b)) is the sum of both orders.
    orders = 1 / (1 - held) + 1 / (1 - rest)
    weights = (a / held - b / rest) / orders
    return jnp.mean(found) + jnp.mean(jnp.sum(weights * (one - other), axis=1))


def given(key, log_probs, drawn):
    """Perturbed log probabilities of which the largest is at what was drawn, moving as that allows."""
    noise = jnp.log(jnp.maximum(jax.random.exponential(key, drawn.shape), 1e-30))  # which may be zero
    first = jnp.sum(drawn * noise, axis=-1, keepdims=True)
    return -jnp.where(drawn > 0, first, jnp.logaddexp(first, noise - log_probs))


def controlled(control):
    """The score of costs less a control at the perturbed log probabilities, which moves with them."""

    def surrogate(key, params, samples):
        first, second = jax.random.split(key)
        log_probs = log_softmax(params["latents"])
        x = one_hot(dice(first, params, samples), FACES)
        found = costs(params, x)
        tilde = given(second, log_probs, x)
        # One relaxed run: both have its value, and their derivatives differ.
        own = control(stop(tilde) + (log_probs - tilde) - stop(log_probs - tilde), stop(params))
        scores = jnp.sum(x * log_probs, axis=(1, 2))
        return jnp.mean(found) + jnp.mean(stop(found - own) * scores + own - stop(own))

    return surrogate


rebar = controlled(lambda tilde, params: costs(params, softmax(tilde / 0.5)))
relax = controlled(jax.vmap(layer, (0, None)))  # a layer of the network


def tokens(key, params, samples):
    """Distillation: a token is charged with what comes of it, less its divergence from the teacher."""

    def turn(state, key):
        hidden, last = state
        student, other = log_softmax(hidden @ params["out"]), log_softmax(TEACHER[last])
        x = jax.random.categorical(key, stop(student))
        own = jnp.take_along_axis(student, x[:, None], axis=1)[:, 0]
        paid = own - jnp.take_along_axis(other, x[:, None], axis=1)[:, 0]
        known = jnp.sum(jnp.exp(student) * (student - other), axis=1)
        return (jnp.tanh(hidden @ params["between"] + params["out"].T[x]), x), (own, paid, known)

    hidden = jnp.tanh(params["latents"] @ params["in"])
    start = jnp.broadcast_to(hidden, (samples, *hidden.shape)), jnp.zeros(samples, int)
    own, paid, known = lax.scan(turn, start, jax.random.split(key, LENGTH))[1]
    charges = jnp.cumsum(paid[::-1], axis=0)[::-1] - known
    return jnp.mean(jnp.sum(paid + stop(charges) * own, axis=0))


def runs(key, params, samples):
    """No gradient: what a run costs."""
    return jnp.mean(costs(params, coins(key, params, samples)))
