"""Every law of finite support, and four programs in which each rule meets it: apart, linked, in a scan, in lanes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from gradients.coins import Finite
from gradients.dice_programs import mean_over_faces, score_of
from jax import Array, lax
from jax.nn import sigmoid, softmax
from jax.random import split
from programs.laws import loosely

import variate as vt


class Law(NamedTuple):
    """A distribution of three real numbers, which move it as far as it has parameters, and its mass written by hand."""

    make: Callable[[Array], Any]
    mass: Callable[[Array], Array]


def coin(logit: Array) -> Array:
    return jnp.stack([sigmoid(-logit), sigmoid(logit)])


def of_two(logit: Array) -> Array:
    """The number of heads."""
    return jnp.stack([sigmoid(-logit) ** 2, 2 * sigmoid(-logit) * sigmoid(logit), sigmoid(logit) ** 2])


def polya(a: Array, b: Array) -> Array:
    """The number of heads of two coins of one bias, which is Beta(a, b)."""
    return jnp.stack([b * (b + 1), 2 * a * b, a * (a + 1)]) / ((a + b) * (a + b + 1))


def ordered(place: Array, first: Array, second: Array) -> Array:
    below, up_to = sigmoid(first - place), sigmoid(second - place)
    return jnp.stack([below, up_to - below, 1 - up_to])


def inflated(mass: Array, gate: Array) -> Array:
    return (1 - gate) * mass + gate * jnp.array([1.0, 0.0, 0.0])


# Of three numbers those that move a law much in all four programs: z-tests then need few samples.
LAWS = {
    "BernoulliLogits": Law(lambda t: dist.Bernoulli(logits=t[0] + t[1]), lambda t: coin(t[0] + t[1])),
    "BernoulliProbs": Law(lambda t: dist.Bernoulli(probs=sigmoid(t[0] + t[1])), lambda t: coin(t[0] + t[1])),
    "BetaBinomial": Law(
        lambda t: dist.BetaBinomial(jnp.exp(t[0]), jnp.exp(t[2]), 2), lambda t: polya(jnp.exp(t[0]), jnp.exp(t[2]))
    ),
    "BinomialLogits": Law(lambda t: dist.Binomial(2, logits=-t[0] - t[2]), lambda t: of_two(-t[0] - t[2])),
    "BinomialProbs": Law(lambda t: dist.Binomial(2, sigmoid(-t[0] - t[2])), lambda t: of_two(-t[0] - t[2])),
    "CategoricalLogits": Law(lambda t: dist.Categorical(logits=t), softmax),
    "CategoricalProbs": Law(lambda t: dist.Categorical(probs=softmax(t)), softmax),
    "OrderedLogistic": Law(
        lambda t: dist.OrderedLogistic(t[1], jnp.stack([t[0], t[0] + jnp.exp(t[2])])),
        lambda t: ordered(t[1], t[0], t[0] + jnp.exp(t[2])),
    ),
    "ZeroInflatedLogits": Law(
        lambda t: dist.ZeroInflatedDistribution(dist.Binomial(2, logits=t[0]), gate_logits=t[1]),
        lambda t: inflated(of_two(t[0]), sigmoid(t[1])),
    ),
    "ZeroInflatedProbs": Law(
        lambda t: dist.ZeroInflatedDistribution(dist.Binomial(2, logits=t[0]), gate=sigmoid(t[1])),
        lambda t: inflated(of_two(t[0]), sigmoid(t[1])),
    ),
}
AT = jnp.array([0.3, -0.4, 0.8])
KINDS = ("apart", "linked", "in a scan", "in lanes")


def is_zero(x: Array) -> Array:
    return jnp.where(x == 0, 1.0, 0.0)


def after(zero: Array, t: Array) -> Array:
    """What moves a draw behind one that is zero or not; a real number, which relaxations take too."""
    return zero * 0.5 * t + (1 - zero) * (t[0] - t)


def programs_of(name: str) -> dict[str, Finite]:
    """By kind."""
    law, chances = loosely(LAWS[name].make), LAWS[name].mass
    size = len(chances(AT))

    def cast(key: Array, t: Array, draw: str) -> Array:
        return vt.draw(key, law(t), name=draw)

    def mean(weighted: Callable[..., Array]) -> Callable[[Array], Array]:
        """Of what `weighted(t, first, second)` gives: values with their probabilities."""
        return lambda t: mean_over_faces((size, size), lambda *faces: weighted(t, *faces))

    def apart(key: Array, t: Array) -> Array:
        s = score_of(vt.draw(key, law(t).expand((2,)).to_event(1), name="a"))
        return jnp.sum(s * jnp.array([1.0, -2.0])) + jnp.exp(s[0] * t[0]) * s[1] ** 2

    def apart_weighted(t: Array, a: Array, b: Array) -> Array:
        first, second = score_of(a), score_of(b)
        return chances(t)[a] * chances(t)[b] * (first - 2 * second + jnp.exp(first * t[0]) * second**2)

    def linked(key: Array, t: Array) -> Array:
        k1, k2 = split(key)
        a = cast(k1, t, "a")
        s = score_of(cast(k2, after(is_zero(a), t), "b"))
        return score_of(a) * s + s**2 * t[1]

    def linked_weighted(t: Array, a: Array, b: Array) -> Array:
        cost = score_of(a) * score_of(b) + score_of(b) ** 2 * t[1]
        return chances(t)[a] * chances(after(is_zero(a), t))[b] * cost

    def scanned(key: Array, t: Array) -> Array:
        def step(carry: tuple[Array, Array], k: Array) -> tuple[tuple[Array, Array], Array]:
            zero, last = carry
            x = cast(k, after(zero, t), "a")
            return (is_zero(x), score_of(x)), score_of(x) * (1 + last)

        (_, last), costs = lax.scan(step, (jnp.zeros(()), jnp.ones(())), split(key))
        return jnp.sum(costs * jnp.array([1.0, 3.0])) + last**2

    def scanned_weighted(t: Array, a: Array, b: Array) -> Array:
        cost = score_of(a) * 2 + 3 * score_of(b) * (1 + score_of(a)) + score_of(b) ** 2
        return chances(after(jnp.zeros(()), t))[a] * chances(after(is_zero(a), t))[b] * cost

    def lanes(key: Array, t: Array) -> Array:
        s = score_of(jax.vmap(lambda k, t: cast(k, t, "a"))(split(key), jnp.stack([t, 1 - 2 * t])))
        return (s[0] - 2 * s[1]) ** 2 + s[0]

    def lanes_weighted(t: Array, a: Array, b: Array) -> Array:
        cost = (score_of(a) - 2 * score_of(b)) ** 2 + score_of(a)
        return chances(t)[a] * chances(1 - 2 * t)[b] * cost

    pairs = ((apart, apart_weighted), (linked, linked_weighted), (scanned, scanned_weighted), (lanes, lanes_weighted))
    draws = ("a", "ab", "a", "a")
    return {
        kind: Finite(program, (AT,), mean(weighted), names)
        for kind, (program, weighted), names in zip(KINDS, pairs, draws, strict=True)
    }


FINITE = {f"{law}, {kind}": case for law in LAWS for kind, case in programs_of(law).items()}
