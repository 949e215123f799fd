"""Programs that throw dice, with their exact expectations summed over the ways in which they fall."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from gradients import outcomes
from gradients.coins import Finite, chance, flip
from jax import Array, lax
from jax.nn import softmax
from jax.random import split

import variate as vt
from variate.programs import distributions


@contextmanager
def elements_apart() -> Iterator[None]:
    """Within it the outcomes of draws with events are known too: they are those of their elements."""
    cdf, sampling_by = outcomes.cdf, outcomes.sampling_by
    with (
        mock.patch.object(outcomes, "cdf", lambda d: cdf(distributions.elementwise(d))),
        mock.patch.object(
            outcomes,
            "sampling_by",
            lambda sample: sampling_by(lambda d, key: sample(distributions.elementwise(d), key)),
        ),
    ):
        yield


def cast(key: Array, logits: Array, name: str) -> Array:
    return vt.draw(key, dist.Categorical(logits=logits), name=name)


def mean_over_faces(sizes: tuple[int, ...], weighted: Callable[..., Array]) -> Array:
    """The sum of `weighted(*faces)`, values times their probability, over all faces."""
    faces = jnp.stack(jnp.meshgrid(*map(jnp.arange, sizes), indexing="ij")).reshape(len(sizes), -1)
    return jnp.sum(jax.vmap(weighted)(*faces))


def score_of(face: Array) -> Array:
    """A cost of a face that is not monotone in it."""
    return jnp.array([0.3, -1.0, 1.7, 0.9])[face]


def alike(key: Array, t: Array) -> Array:
    """An event of dice that were expanded from one."""
    z = vt.draw(key, dist.Categorical(probs=softmax(t)).expand((2,)).to_event(1), name="a")
    s = score_of(z)
    return s[0] * jnp.exp(s[1]) - s[0] ** 2


def alike_mean(t: Array) -> Array:
    def weighted(a: Array, b: Array) -> Array:
        p = softmax(t)
        return p[a] * p[b] * (score_of(a) * jnp.exp(score_of(b)) - score_of(a) ** 2)

    return mean_over_faces((t.size,) * 2, weighted)


def after(first: Array, t: Array) -> Array:
    """The logits of a die after another."""
    return jnp.where(first == 0, 0.5 * t, -t + t[0])


def linked(key: Array, t: Array) -> Array:
    k1, k2 = split(key)
    a = cast(k1, t, "a")
    b = cast(k2, after(a, t), "b")
    return score_of(a) * score_of(b) + score_of(b) ** 2 * t[1]


def linked_mean(t: Array) -> Array:
    def weighted(a: Array, b: Array) -> Array:
        p = softmax(t)[a] * softmax(after(a, t))[b]
        return p * (score_of(a) * score_of(b) + score_of(b) ** 2 * t[1])

    return mean_over_faces((t.size,) * 2, weighted)


def chain(key: Array, t: Array) -> Array:
    def step(last: Array, k: Array) -> tuple[Array, Array]:
        z = cast(k, after(last, t), "a")
        return z, score_of(z) * (1 + score_of(last))

    last, costs = lax.scan(step, jnp.ones((), int), split(key))
    return jnp.sum(costs) ** 2 + score_of(last)


def chain_mean(t: Array) -> Array:
    def weighted(a: Array, b: Array) -> Array:
        p = softmax(after(jnp.ones((), int), t))[a] * softmax(after(a, t))[b]
        costs = score_of(a) * (1 + score_of(jnp.ones((), int))) + score_of(b) * (1 + score_of(a))
        return p * (costs**2 + score_of(b))

    return mean_over_faces((t.size,) * 2, weighted)


def lanes(key: Array, t: Array) -> Array:
    logits = jnp.stack([t, 1 - 2 * t])
    s = score_of(jax.vmap(lambda k, logits: cast(k, logits, "a"))(split(key), logits))
    return (s[0] - 2 * s[1]) ** 2 + s[0]


def lanes_mean(t: Array) -> Array:
    def weighted(a: Array, b: Array) -> Array:
        return softmax(t)[a] * softmax(1 - 2 * t)[b] * ((score_of(a) - 2 * score_of(b)) ** 2 + score_of(a))

    return mean_over_faces((t.size,) * 2, weighted)


def with_a_coin(key: Array, t: Array) -> Array:
    k1, k2 = split(key)
    a = cast(k1, t, "a")
    c = flip(k2, t[1] + jnp.where(a == 0, t[0], -0.3), "c")
    return score_of(a) * (1 + c) + c * t[2]


def with_a_coin_mean(t: Array) -> Array:
    def weighted(a: Array, shown: Array) -> Array:
        c = shown.astype(float)
        p = softmax(t)[a] * chance(c, t[1] + jnp.where(a == 0, t[0], -0.3))
        return p * (score_of(a) * (1 + c) + c * t[2])

    return mean_over_faces((t.size, 2), weighted)


def dice_programs(logits: Array) -> dict[str, Finite]:
    """With as many faces as there are logits, 4 at the most."""
    return {
        "independent dice": Finite(alike, (logits,), alike_mean, "a"),
        "linked dice": Finite(linked, (logits,), linked_mean, "ab"),
        "dice in a scan": Finite(chain, (logits,), chain_mean, "a"),
        "dice in lanes": Finite(lanes, (logits,), lanes_mean, "a"),
        "a die and a coin": Finite(with_a_coin, (logits,), with_a_coin_mean, "ac"),
    }
