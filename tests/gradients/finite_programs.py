"""Programs whose draws have few values, with their exact expectations summed by hand."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from gradients.coins import Finite, chance, flip, mean_over_flips
from gradients.finite_flow import FLOW
from jax import Array
from jax.nn import sigmoid, softmax, softplus
from jax.random import split

import variate as vt


def one_coin(key: Array, t: Array) -> Array:
    return (flip(key, t, "a") - 0.45) ** 2


def one_coin_mean(t: Array) -> Array:
    return mean_over_flips(1, lambda a: chance(a, t) * (a - 0.45) ** 2)


def linked(key: Array, t: Array) -> Array:
    k1, k2, k3 = split(key, 3)
    a = flip(k1, t[0], "a")
    b = flip(k2, t[1] + 2 * a - t[0] * a, "b")
    c = flip(k3, t[0] * t[1] - b, "c")
    return 3 * a + jnp.sin(t[0]) * a * b - (b + 0.3) ** 2 * c + c / 2 + t[1] ** 2


def linked_mean(t: Array) -> Array:
    def weighted(a: Array, b: Array, c: Array) -> Array:
        p = chance(a, t[0]) * chance(b, t[1] + 2 * a - t[0] * a) * chance(c, t[0] * t[1] - b)
        return p * (3 * a + jnp.sin(t[0]) * a * b - (b + 0.3) ** 2 * c + c / 2 + t[1] ** 2)

    return mean_over_flips(3, weighted)


def vector(key: Array, t: Array) -> Array:
    k1, k2 = split(key)
    b = flip(k1, t, "b")
    c = flip(k2, jnp.sum(t * b), "c")
    return jnp.sum(b) ** 2 - 3 * b[0] * c


def vector_mean(t: Array) -> Array:
    def weighted(x: Array, y: Array, c: Array) -> Array:
        b = jnp.stack([x, y])
        return jnp.prod(chance(b, t)) * chance(c, jnp.sum(t * b)) * (jnp.sum(b) ** 2 - 3 * x * c)

    return mean_over_flips(3, weighted)


def bound(key: Array, t: Array) -> Array:
    """A variational bound: the log probability that weighs the score is a term of the cost as well."""
    b = flip(key, t, "b")
    return jnp.sum(b * t - softplus(t)) - jnp.sum(b) ** 2


def bound_mean(t: Array) -> Array:
    def weighted(*coins: Array) -> Array:
        b = jnp.stack(coins)
        return jnp.prod(chance(b, t)) * (jnp.sum(jnp.log(chance(b, t))) - jnp.sum(b) ** 2)

    return mean_over_flips(2, weighted)


def indexed(key: Array, t: dict) -> Array:
    k1, k2 = split(key)
    z = vt.draw(k1, dist.Categorical(logits=t["mixture"]), name="z")
    return (2 + z.astype(float)) * flip(k2, t["coins"][z], "b") + t["coins"][z] ** 2


def indexed_mean(t: dict) -> Array:
    return jnp.sum(softmax(t["mixture"]) * ((2 + jnp.arange(3.0)) * sigmoid(t["coins"]) + t["coins"] ** 2))


def binomial(key: Array, t: Array) -> Array:
    k1, k2 = split(key)
    n = vt.draw(k1, dist.Binomial(total_count=3, probs=sigmoid(t)), name="n").astype(float)
    return n**2 * flip(k2, t - n, "b")


def binomial_mean(t: Array) -> Array:
    n, p = jnp.arange(4.0), sigmoid(t)
    return jnp.sum(jnp.array([1.0, 3.0, 3.0, 1.0]) * p**n * (1 - p) ** (3 - n) * n**2 * sigmoid(t - n))


def integers(key: Array, t: Array) -> Array:
    k1, k2 = split(key)
    a = vt.draw(k1, dist.Bernoulli(logits=t), name="a") == 1
    z = vt.draw(k2, dist.Categorical(logits=jnp.stack([t, 0 * t, -t])), name="z")
    count = jnp.bincount(jnp.stack([z, jnp.where(a, 2, z)]), length=3)
    return (jnp.argmax(count) + 3 * (a & (z > 0)).astype(int)).astype(float) + count[2].astype(float) // 2


def integers_mean(t: Array) -> Array:
    p, q = softmax(jnp.stack([t, 0 * t, -t])), sigmoid(t)
    heads = p[0] * 0 + p[1] * (1 + 3) + p[2] * (2 + 3 + 1)
    return q * heads + (1 - q) * (p[1] * 1 + p[2] * (2 + 1))


def unused(key: Array, t: Array) -> Array:
    k1, k2, k3 = split(key, 3)
    flip(k1, t, "a")
    b = flip(k2, 2 * t, "b")
    return 2 * flip(k3, -t, "c") - t * b * 0 + t**3


def unused_mean(t: Array) -> Array:
    return 2 * sigmoid(-t) + t**3


def drawn_twice(key: Array, t: Array) -> Array:
    k1, k2 = split(key)
    coin = dist.Bernoulli(logits=t)
    return (vt.draw(k1, coin, name="a") * vt.draw(k2, coin, name="b")).astype(float)


def drawn_twice_mean(t: Array) -> Array:
    return sigmoid(t) ** 2


def many_results(key: Array, t: dict) -> dict:
    k1, k2 = split(key)
    a = flip(k1, t["a"], "a")
    b = flip(k2, t["b"][0] * a + t["b"][1], "b")
    return {"scalar": a + b, "vector": jnp.stack([a, a * b, jnp.exp(t["a"])]) * t["b"][0]}


def many_results_mean(t: dict) -> dict:
    def weighted(a: Array, b: Array) -> dict:
        p = chance(a, t["a"]) * chance(b, t["b"][0] * a + t["b"][1])
        return {"scalar": p * (a + b), "vector": p * jnp.stack([a, a * b, jnp.exp(t["a"])]) * t["b"][0]}

    return mean_over_flips(2, weighted)


@jax.custom_jvp
def own_tangent(key: Array, t: Array) -> Array:
    return flip(key, t, "a") * t


own_tangent.defjvp(lambda primals, tangents: (own_tangent(*primals), 100 * tangents[1]))


@jax.custom_vjp
def own_cotangent(key: Array, t: Array) -> Array:
    return flip(key, 2 * t, "b")


own_cotangent.defvjp(lambda key, t: (own_cotangent(key, t), t), lambda t, cotangent: (None, 100 * cotangent))


@jax.custom_jvp
def tripled(t: Array) -> Array:
    return 3 * t


tripled.defjvp(lambda primals, tangents: (tripled(*primals), 3 * tangents[0]))


def wrapped(key: Array, t: Array) -> Array:
    k1, k2, k3, k4 = split(key, 4)
    a = jax.jit(own_tangent)(k1, t)
    b = own_cotangent(k2, t)
    c = jax.checkpoint(lambda k, t: flip(k, t + b, "c") * jnp.sin(t))(k3, t)
    d = jax.jit(lambda k, t: flip(k, tripled(t), "d"))(k4, t * b)
    return a * b + c * (1 + d)


def wrapped_mean(t: Array) -> Array:
    def weighted(a: Array, b: Array, c: Array, d: Array) -> Array:
        p = chance(a, t) * chance(b, 2 * t) * chance(c, t + b) * chance(d, 3 * t * b)
        return p * (a * t * b + c * jnp.sin(t) * (1 + d))

    return mean_over_flips(4, weighted)


class Network(eqx.Module):
    """Two stochastic units under a linear layer; the activation is not an array, nor is the flag."""

    layer: eqx.nn.Linear
    activation: Callable = jnp.tanh
    flag: bool = True

    def logits(self, x: Array) -> Array:
        return self.activation(self.layer(x)) if self.flag else x


NETWORK = Network(eqx.nn.Linear(2, 2, key=jax.random.key(3), dtype=float))


def network(key: Array, model: Network, x: Array) -> Array:
    b = flip(key, model.logits(x), "b")
    return jnp.sum(b * jnp.array([1.0, -2.0])) ** 2


def network_mean(model: Network, x: Array) -> Array:
    def weighted(*coins: Array) -> Array:
        b = jnp.stack(coins)
        return jnp.prod(chance(b, model.logits(x))) * (coins[0] - 2 * coins[1]) ** 2

    return mean_over_flips(2, weighted)


def two_arguments(key: Array, t: Array, fixed: Array, u: Array) -> Array:
    k1, k2 = split(key)
    a = flip(k1, t + fixed, "a")
    return (a - flip(k2, u * a, "b")) ** 2 * t


def two_arguments_mean(t: Array, fixed: Array, u: Array) -> Array:
    return mean_over_flips(2, lambda a, b: chance(a, t + fixed) * chance(b, u * a) * (a - b) ** 2 * t)


PAIR = jnp.array([0.4, -0.7])
PROGRAMS = {
    "one coin": Finite(one_coin, (jnp.array(0.3),), one_coin_mean, "a"),
    "one coin at a logit of zero": Finite(one_coin, (jnp.array(0.0),), one_coin_mean, "a"),
    "linked coins": Finite(linked, (PAIR,), linked_mean, "abc"),
    "a vector of coins": Finite(vector, (PAIR,), vector_mean, "bc"),
    "a bound": Finite(bound, (PAIR,), bound_mean, "b"),
    "mixture by indexing": Finite(
        indexed, ({"mixture": jnp.array([0.1, 0.5, -0.3]), "coins": jnp.array([-1.0, 0.4, 0.8])},), indexed_mean, "zb"
    ),
    "binomial": Finite(binomial, (jnp.array(0.4),), binomial_mean, "nb"),
    "integers and booleans": Finite(integers, (jnp.array(0.6),), integers_mean, "az"),
    "unused draws": Finite(unused, (jnp.array(0.6),), unused_mean, "bc"),
    "one distribution drawn twice": Finite(drawn_twice, (jnp.array(-0.2),), drawn_twice_mean, "ab"),
    "pytrees": Finite(many_results, ({"a": jnp.array(0.3), "b": PAIR},), many_results_mean, "ab"),
    "jit, checkpoint, custom_jvp, custom_vjp": Finite(wrapped, (jnp.array(0.4),), wrapped_mean, "abcd"),
    "an Equinox module": Finite(network, (NETWORK, jnp.array([0.5, -1.0])), network_mean, "b"),
    "a tuple of argnums": Finite(
        two_arguments, (jnp.array(0.7), jnp.array(0.1), jnp.array(-0.4)), two_arguments_mean, "ab", argnums=(3, 1)
    ),
    **FLOW,
}
