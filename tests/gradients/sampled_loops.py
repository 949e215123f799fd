"""Draws in loops, with their exact expectations by recursion."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from gradients.sampled import Sampled
from jax import Array, lax
from jax.nn import sigmoid
from jax.random import split

import variate as vt
from variate.gradients import Enumerate, NoBaseline, Score


def chain(key: Array, t: Array) -> Array:
    """20 coins, each with a logit of its own that depends on those before."""

    def step(s: Array, k: Array) -> tuple[Array, Array]:
        b = vt.draw(k, dist.Bernoulli(logits=t[0] + t[1] * s), name="b").astype(float)
        return b, b * (1 - s)

    last, switches = lax.scan(step, jnp.zeros(()), split(key, 20))
    return jnp.sum(switches) + 3 * last


def chain_mean(t: Array) -> Array:
    up, p, total = sigmoid(jnp.stack([t[0], t[0] + t[1]])), 0.0, 0.0
    for _ in range(20):
        total = total + (1 - p) * up[0]
        p = (1 - p) * up[0] + p * up[1]
    return total + 3 * p


def flips(key: Array, t: Array) -> Array:
    def body(i: Array, heads: Array) -> Array:
        return heads + vt.draw(jax.random.fold_in(key, i), dist.Bernoulli(logits=t), name="b").astype(float)

    return lax.fori_loop(0, 20, body, jnp.zeros(())) ** 2


def flips_mean(t: Array) -> Array:
    p = sigmoid(t)
    return 20 * p * (1 - p) + 400 * p**2


def random_walk(key: Array, t: Array) -> Array:
    """25 steps of a linear Gaussian chain; the cost is quadratic."""

    def step(x: Array, k: Array) -> tuple[Array, Array]:
        x = vt.draw(k, dist.Normal(t[0] * x + t[1], 0.5), name="x")
        return x, x**2

    return jnp.mean(lax.scan(step, jnp.ones(()), split(key, 25))[1])


def random_walk_mean(t: Array) -> Array:
    mean, variance, total = 1.0, 0.0, 0.0
    for _ in range(25):
        mean, variance = t[0] * mean + t[1], t[0] ** 2 * variance + 0.25
        total = total + (mean**2 + variance) / 25
    return total


def lanes_in_scan(key: Array, t: Array) -> Array:
    """Three Gaussian lanes in a scan of four steps, linked through their mean."""

    def step(center: Array, k: Array) -> tuple[Array, Array]:
        x = jax.vmap(lambda k, shift: vt.draw(k, dist.Normal(t * center + shift, 1.0), name="x"))(
            split(k, 3), jnp.arange(3.0)
        )
        return jnp.mean(x), jnp.prod(x)

    return jnp.sum(lax.scan(step, jnp.ones(()), split(key, 4))[1])


def lanes_in_scan_mean(t: Array) -> Array:
    mean, second, third, total = 1.0, 1.0, 1.0, 0.0  # moments of the center
    for _ in range(4):
        # The lanes are t c + 0, 1, 2 plus noise of variance 1; given c they are independent.
        total = total + t**3 * third + 3 * t**2 * second + 2 * t * mean
        shifted = t * mean + 1
        variance = 1 / 3
        second_moment = t**2 * second + 2 * t * mean + 1 + variance
        third_moment = t**3 * third + 3 * t**2 * second + 3 * t * mean + 1 + 3 * variance * shifted
        mean, second, third = shifted, second_moment, third_moment
    return total


def scan_in_lanes(key: Array, t: Array) -> Array:
    def lane(k: Array, start: Array) -> Array:
        def step(x: Array, k: Array) -> tuple[Array, None]:
            n = vt.draw(k, dist.Poisson(jnp.exp(t[0]) + t[1] ** 2 * x), name="n").astype(float)
            return n, None

        return lax.scan(step, start, split(k, 3))[0]

    return jnp.sum(jax.vmap(lane)(split(key, 2), jnp.array([1.0, 2.0])))


def scan_in_lanes_mean(t: Array) -> Array:
    mean = jnp.array([1.0, 2.0])
    for _ in range(3):
        mean = jnp.exp(t[0]) + t[1] ** 2 * mean
    return jnp.sum(mean)


def until_tails(key: Array, t: Array) -> Array:
    def body(state: tuple) -> tuple:
        key, count, _ = state
        key, k = split(key)
        return key, count + 1, vt.draw(k, dist.Bernoulli(logits=t), name="b") == 1

    return lax.while_loop(lambda state: state[2], body, (key, jnp.zeros(()), jnp.array(True)))[1]


def until_tails_mean(t: Array) -> Array:
    return 1 + jnp.exp(t)


PAIR = jnp.array([0.4, -0.7])
LOOPS = {
    "20 linked coins in a scan": Sampled(chain, (jnp.array([-0.5, 1.2]),), chain_mean, ({}, {"b": Enumerate()})),
    "20 flips in a fori_loop": Sampled(flips, (jnp.array(0.3),), flips_mean, ({}, {"b": Enumerate()})),
    "25 linked Gaussians in a scan": Sampled(
        random_walk, (jnp.array([0.8, 0.3]),), random_walk_mean, ({}, {"x": Score()})
    ),
    "vmap in a scan": Sampled(lanes_in_scan, (jnp.array(0.4),), lanes_in_scan_mean, ({}, {"x": Score()})),
    "scan in a vmap": Sampled(scan_in_lanes, (jnp.array([0.2, 0.6]),), scan_in_lanes_mean),
    "while": Sampled(until_tails, (jnp.array(0.3),), until_tails_mean, ({}, {"b": Score(NoBaseline())})),
}
