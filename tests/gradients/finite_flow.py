"""Finite programs with loops, branches and lanes, with their exact expectations summed by hand."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from gradients.coins import Finite, chance, flip, mean_over_flips
from jax import Array, lax
from jax.nn import sigmoid, softmax
from jax.random import split

import variate as vt


def branches(key: Array, t: Array) -> Array:
    k1, k2, k3 = split(key, 3)
    a = flip(k1, t[0], "a")

    def heads(keys: tuple) -> Array:
        b = flip(keys[0], t[1], "b")
        return lax.cond(b == 1, lambda k: 2 + flip(k, t[0] - t[1], "c"), lambda k: -t[1], keys[1])

    return lax.cond(a == 1, heads, lambda keys: 3 * flip(keys[1], t[0] + t[1], "d"), (k2, k3))


def branches_mean(t: Array) -> Array:
    c, d = sigmoid(t[0] - t[1]), sigmoid(t[0] + t[1])
    heads = sigmoid(t[1]) * (2 + c) - sigmoid(-t[1]) * t[1]
    return sigmoid(t[0]) * heads + sigmoid(-t[0]) * 3 * d


def walk(key: Array, t: Array) -> Array:
    def step(s: Array, k: Array) -> tuple[Array, Array]:
        b = flip(k, t[0] + t[1] * s, "b")
        s = 0.5 * s + 2 * b - 1
        return s, b * s

    last, rewards = lax.scan(step, jnp.zeros(()), split(key, 3))
    return jnp.sum(rewards) + jnp.cos(last)


def walk_mean(t: Array) -> Array:
    def weighted(*coins: Array) -> Array:
        p, s, total = 1.0, 0.0, 0.0
        for b in coins:
            p, s = p * chance(b, t[0] + t[1] * s), 0.5 * s + 2 * b - 1
            total = total + b * s
        return p * (total + jnp.cos(s))

    return mean_over_flips(3, weighted)


def lanes(key: Array, t: Array) -> Array:
    b = jax.vmap(lambda k, logit: flip(k, logit, "b"))(split(key, 3), t)
    return jnp.sum(b) ** 2 + b[0] * b[2]


def lanes_mean(t: Array) -> Array:
    def weighted(*coins: Array) -> Array:
        b = jnp.stack(coins)
        return jnp.prod(chance(b, t)) * (jnp.sum(b) ** 2 + b[0] * b[2])

    return mean_over_flips(3, weighted)


def lanes_in_scan(key: Array, t: Array) -> Array:
    def step(total: Array, k: Array) -> tuple[Array, Array]:
        b = jax.vmap(lambda k, shift: flip(k, t[0] + t[1] * total + shift, "b"))(split(k), jnp.arange(2.0))
        return total + jnp.sum(b), b[0] * b[1] * total

    total, pairs = lax.scan(step, jnp.zeros(()), split(key))
    return total**2 + 5 * jnp.sum(pairs)


def lanes_in_scan_mean(t: Array) -> Array:
    def weighted(a: Array, b: Array, c: Array, d: Array) -> Array:
        p = chance(a, t[0]) * chance(b, t[0] + 1)
        p = p * chance(c, t[0] + t[1] * (a + b)) * chance(d, t[0] + t[1] * (a + b) + 1)
        return p * ((a + b + c + d) ** 2 + 5 * c * d * (a + b))

    return mean_over_flips(4, weighted)


def scan_in_lanes(key: Array, t: Array) -> Array:
    def lane(key: Array, start: Array) -> Array:
        def step(s: Array, k: Array) -> tuple[Array, None]:
            return s + flip(k, t[0] + t[1] * s, "b"), None

        return lax.scan(step, start, split(key))[0]

    ends = jax.vmap(lane)(split(key), jnp.array([0.0, 1.0]))
    return ends[0] * ends[1] - jnp.sum(ends**2)


def scan_in_lanes_mean(t: Array) -> Array:
    def weighted(a: Array, b: Array, c: Array, d: Array) -> Array:
        p = chance(a, t[0]) * chance(b, t[0] + t[1] * a)
        p = p * chance(c, t[0] + t[1]) * chance(d, t[0] + t[1] * (1 + c))
        x, y = a + b, 1 + c + d
        return p * (x * y - x**2 - y**2)

    return mean_over_flips(4, weighted)


def counted(key: Array, t: Array) -> Array:
    return lax.fori_loop(0, 3, lambda i, s: s * (1 + flip(jax.random.fold_in(key, i), t * s, "b")), jnp.ones(()))


def counted_mean(t: Array) -> Array:
    def weighted(*coins: Array) -> Array:
        p, s = 1.0, 1.0
        for b in coins:
            p, s = p * chance(b, t * s), s * (1 + b)
        return p * s

    return mean_over_flips(3, weighted)


def switched(key: Array, t: Array) -> Array:
    k1, k2 = split(key)
    z = vt.draw(k1, dist.Categorical(probs=softmax(t)), name="z")
    cases = [lambda k: flip(k, t[1], "b"), lambda k: -flip(k, 2 * t[0], "c"), lambda k: jnp.exp(t[2])]
    return lax.switch(z, cases, k2)


def switched_mean(t: Array) -> Array:
    return jnp.sum(softmax(t) * jnp.stack([sigmoid(t[1]), -sigmoid(2 * t[0]), jnp.exp(t[2])]))


def apart(key: Array, t: Array) -> Array:
    """Three coins each with a cost of its own, and a cost that two of them share."""
    b = flip(key, t, "b")
    each = jnp.sin(t) * (b + 0.3) ** 2 + t * b
    return jnp.sum(each.reshape(1, 3).T @ jnp.array([2.0])) - jnp.mean(jnp.exp(b)) + b[0] * b[2]


def apart_mean(t: Array) -> Array:
    def weighted(*coins: Array) -> Array:
        b = jnp.stack(coins)
        total = 2 * jnp.sum(jnp.sin(t) * (b + 0.3) ** 2 + t * b) - jnp.mean(jnp.exp(b)) + b[0] * b[2]
        return jnp.prod(chance(b, t)) * total

    return mean_over_flips(3, weighted)


def lanes_apart(key: Array, t: Array) -> Array:
    """Two lanes of two coins, the second of each linked to the first, costs by lane."""

    def lane(key: Array, logits: Array) -> Array:
        k1, k2 = split(key)
        a = flip(k1, logits[0], "a")
        return (a - 0.3 * flip(k2, logits[1] + a, "b")) ** 2 * (1 + logits[0])

    return jnp.sum(jax.vmap(lane)(split(key), t.reshape(2, 2)))


def lanes_apart_mean(t: Array) -> Array:
    def weighted(a: Array, b: Array, c: Array, d: Array) -> Array:
        p = chance(a, t[0]) * chance(b, t[1] + a) * chance(c, t[2]) * chance(d, t[3] + c)
        return p * ((a - 0.3 * b) ** 2 * (1 + t[0]) + (c - 0.3 * d) ** 2 * (1 + t[2]))

    return mean_over_flips(4, weighted)


def linked(key: Array, t: Array) -> Array:
    """Each coin depends on the one before, and pays by itself."""

    def step(last: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        k, pay = inputs
        b = flip(k, t[0] + t[1] * last, "b")
        return b, pay * b

    return jnp.sum(lax.scan(step, jnp.zeros(()), (split(key, 3), jnp.array([1.0, -2.0, 3.0])))[1])


def linked_mean(t: Array) -> Array:
    def weighted(*coins: Array) -> Array:
        p, last, total = 1.0, 0.0, 0.0
        for b, pay in zip(coins, (1.0, -2.0, 3.0), strict=True):
            p, last, total = p * chance(b, t[0] + t[1] * last), b, total + pay * b
        return p * total

    return mean_over_flips(3, weighted)


def totals(key: Array, t: Array) -> Array:
    """Rewards that a carry adds up, a discounted state, and a table that coins look into."""
    table = jnp.array([0.5, -1.0, 2.0])

    def step(carry: tuple, k: Array) -> tuple[tuple, None]:
        i, s, total = carry
        b = flip(k, t[0] + t[1] * s, "b")
        s = 0.5 * s + 2 * b - 1
        return (i + 1, s, total + b * s - (table[b.astype(int) + i] - t[0])), None

    (_, last, total), _ = lax.scan(step, (jnp.zeros((), int), jnp.zeros(()), jnp.ones(())), split(key, 2))
    return 3 * total - jnp.cos(last)


def totals_mean(t: Array) -> Array:
    table = jnp.array([0.5, -1.0, 2.0])

    def weighted(*coins: Array) -> Array:
        p, s, total = 1.0, 0.0, 1.0
        for i, b in enumerate(coins):
            p, s = p * chance(b, t[0] + t[1] * s), 0.5 * s + 2 * b - 1
            total = total + b * s - (table[b.astype(int) + i] - t[0])
        return p * (3 * total - jnp.cos(s))

    return mean_over_flips(2, weighted)


def several(key: Array, t: Array) -> dict[str, Array]:
    """A number whose terms tell elements apart beside an array whose terms do not; draws in branches of a scan."""
    k1, k2 = split(key)
    b = flip(k1, t, "b")

    def step(total: Array, k: Array) -> tuple[Array, Array]:
        c = lax.cond(total > 0.5, lambda k: flip(k, t[0], "c"), lambda k: 1 - 2 * flip(k, t[1], "d"), k)
        return total + c, total * c

    _, ys = lax.scan(step, jnp.ones(()), split(k2))
    return {"apart": jnp.sum(b**2 * t) + jnp.sum(ys), "array": jnp.stack([b[0] * b[1], ys[1] + b[0]])}


def several_mean(t: Array) -> dict[str, Array]:
    def weighted(a: Array, b: Array, *coins: Array) -> dict[str, Array]:
        p, total, ys = chance(a, t[0]) * chance(b, t[1]), 1.0, []
        for coin in coins:
            c = jnp.where(total > 0.5, coin, 1 - 2 * coin)
            p = p * jnp.where(total > 0.5, chance(coin, t[0]), chance(coin, t[1]))
            ys.append(total * c)
            total = total + c
        apart = a**2 * t[0] + b**2 * t[1] + sum(ys)
        return {"apart": p * apart, "array": p * jnp.stack([a * b, ys[1] + a])}

    return mean_over_flips(4, weighted)


def discounted(key: Array, t: Array) -> Array:
    """A return by a recurrence from the end, of rewards that an episode may stop giving."""

    def step(s: Array, k: Array) -> tuple[Array, tuple[Array, Array]]:
        b = flip(k, t[0] + t[1] * s, "b")
        s = 0.5 * s + b
        return s, (s * b - t[1], jnp.where(s > 1.2, 0.0, 0.9))

    rewards, kept = lax.scan(step, jnp.ones(()), split(key, 3))[1]
    return lax.scan(lambda g, x: (x[0] + x[1] * g, None), jnp.zeros(()), (rewards, kept), reverse=True)[0]


def discounted_mean(t: Array) -> Array:
    def weighted(*coins: Array) -> Array:
        p, s, kept, total = 1.0, 1.0, 1.0, 0.0
        for b in coins:
            p, s = p * chance(b, t[0] + t[1] * s), 0.5 * s + b
            total, kept = total + kept * (s * b - t[1]), kept * jnp.where(s > 1.2, 0.0, 0.9)
        return p * total

    return mean_over_flips(3, weighted)


def backwards(key: Array, t: Array) -> Array:
    """A scan from the end to the start, and sums of what it stacks up to each step."""

    def step(s: Array, k: Array) -> tuple[Array, Array]:
        b = flip(k, t[0] + t[1] * s, "b")
        return s + b, (b + s) ** 2

    _, ys = lax.scan(step, jnp.zeros(()), split(key, 3), reverse=True)
    return jnp.sum(jnp.cumsum(ys) * jnp.array([1.0, -2.0, 0.5]))


def backwards_mean(t: Array) -> Array:
    def weighted(*coins: Array) -> Array:
        p, s, total = 1.0, 0.0, 0.0
        for b, weight in zip(coins, (0.5, -1.5, -0.5), strict=True):
            p, total = p * chance(b, t[0] + t[1] * s), total + weight * (b + s) ** 2
            s = s + b
        return p * total

    return mean_over_flips(3, weighted)


PAIR = jnp.array([0.4, -0.7])
FLOW = {
    "nested conditionals": Finite(branches, (PAIR,), branches_mean, "abcd"),
    "scan": Finite(walk, (PAIR,), walk_mean, "b"),
    "vmap": Finite(lanes, (jnp.array([0.2, -0.5, 1.0]),), lanes_mean, "b"),
    "elements apart": Finite(apart, (jnp.array([0.2, -0.5, 1.0]),), apart_mean, "b"),
    "lanes apart": Finite(lanes_apart, (jnp.array([0.2, -0.5, 1.0, 0.3]),), lanes_apart_mean, "ab"),
    "coins linked in a scan": Finite(linked, (PAIR,), linked_mean, "b"),
    "totals": Finite(totals, (PAIR,), totals_mean, "b"),
    "discounted": Finite(discounted, (PAIR,), discounted_mean, "b"),
    "several results": Finite(several, (PAIR,), several_mean, "bcd"),
    "a scan backwards": Finite(backwards, (PAIR,), backwards_mean, "b"),
    "vmap in scan": Finite(lanes_in_scan, (PAIR,), lanes_in_scan_mean, "b"),
    "scan in vmap": Finite(scan_in_lanes, (PAIR,), scan_in_lanes_mean, "b"),
    "fori_loop": Finite(counted, (jnp.array(0.2),), counted_mean, "b"),
    "switch": Finite(switched, (jnp.array([0.3, -0.2, 0.5]),), switched_mean, "zbc"),
}
