"""Laws that are made of gammas, and programs over them whose expectations their first two moments give."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from gradients.sampled import Sampled
from jax import Array, lax
from jax.nn import sigmoid, softmax
from jax.random import split
from programs.laws import loosely

import variate as vt
from variate.gradients import Enumerate, NoBaseline, Score
from variate.gradients.rules.acceptance_rejection import AcceptanceRejection


class Law(NamedTuple):
    """A law of parameters and of a state, in which the mean of a statistic of it is linear."""

    make: Callable[[Array, Array], Any]
    at: list[float]
    mean: Callable[[Array, Array], Array]
    variance: Callable[[Array, Array], Array]
    statistic: Callable[[Array], Array] = lambda x: x


def share(t: Array, s: Array) -> Array:
    return 0.5 * sigmoid(t[0]) + 0.4 * s


def shares(t: Array, s: Array) -> Array:
    return 0.6 * softmax(t[:3]) + 0.4 * jnp.stack([s, 1 - s, 0 * s])


def share_variance(t: Array, s: Array) -> Array:
    return share(t, s) * (1 - share(t, s)) / (1 + t[1])


def first_variance(t: Array, s: Array) -> Array:
    return shares(t, s)[0] * (1 - shares(t, s)[0]) / (1 + t[3])


def gamma_of(t: Array, s: Array) -> dist.Gamma:
    return dist.Gamma(t[0] + 0.3 * s, t[1])


def gamma_center(t: Array, s: Array) -> Array:
    return (t[0] + 0.3 * s) / t[1]


def gamma_variance(t: Array, s: Array) -> Array:
    return (t[0] + 0.3 * s) / t[1] ** 2


def chi_mean(t: Array, s: Array) -> Array:
    return t[0] + 0.3 * s


LAWS = {
    "a gamma below one": Law(gamma_of, [0.3, 1.4], gamma_center, gamma_variance),
    "a gamma above one": Law(gamma_of, [2.5, 1.4], gamma_center, gamma_variance),
    "inverse gamma": Law(
        lambda t, s: dist.InverseGamma(t[0] + 0.3 * s, t[1]), [0.8, 1.4], gamma_center, gamma_variance, lambda x: 1 / x
    ),
    "chi square": Law(lambda t, s: dist.Chi2(t[0] + 0.3 * s), [1.1], chi_mean, lambda t, s: 2 * chi_mean(t, s)),
    "beta": Law(
        lambda t, s: dist.Beta(t[1] * share(t, s), t[1] * (1 - share(t, s))), [0.4, 1.5], share, share_variance
    ),
    "beta of a proportion": Law(
        lambda t, s: dist.BetaProportion(share(t, s), t[1]), [0.4, 3.5], share, share_variance
    ),
    "dirichlet": Law(
        lambda t, s: dist.Dirichlet(t[3] * shares(t, s)),
        [0.4, -0.2, 0.1, 2.5], lambda t, s: shares(t, s)[0], first_variance, lambda x: x[..., 0],
    ),
    "student": Law(
        lambda t, s: dist.StudentT(t[0], t[1] + 0.3 * s, t[2]),
        [9.0, 0.8, 1.1], lambda t, s: t[1] + 0.3 * s, lambda t, s: t[2] ** 2 * t[0] / (t[0] - 2),
    ),
}  # fmt: skip
RULE = AcceptanceRejection()


def drawn(law: Law, key: Array, t: Array, s: Any, name: str = "x") -> Array:
    return law.statistic(vt.draw(key, loosely(law.make)(t, jnp.asarray(s)), name=name))


def square(law: Law, t: Array, s: Any) -> Array:
    s = jnp.asarray(s)
    return law.mean(t, s) ** 2 + law.variance(t, s)


def alone(law: Law) -> tuple[Callable, Callable]:
    return lambda key, t: drawn(law, key, t, 0.5) ** 2, lambda t: square(law, t, 0.5)


def in_a_scan(law: Law) -> tuple[Callable, Callable]:
    """The parameters of each draw depend on the one before."""

    def program(key: Array, t: Array) -> Array:
        def step(s: Array, key: Array) -> tuple[Array, Array]:
            s = drawn(law, key, t, s)
            return s, s

        last, states = lax.scan(step, jnp.full((), 0.5), split(key, 6))
        return last + jnp.mean(states)

    def mean(t: Array) -> Array:
        states = [jnp.full((), 0.5)]
        for _ in range(6):
            states.append(law.mean(t, states[-1]))
        return states[-1] + jnp.mean(jnp.stack(states[1:]))

    return program, mean


def in_lanes(law: Law) -> tuple[Callable, Callable]:
    """Elements in a `vmap`, an expansion and an event."""
    states = jnp.array([0.2, 0.7])

    def program(key: Array, t: Array) -> Array:
        def lane(key: Array, s: Array) -> Array:
            return law.statistic(vt.draw(key, loosely(law.make)(t, s).expand((2,)).to_event(1), name="x"))

        return jnp.sum(jax.vmap(lane)(split(key, 2), states) @ jnp.array([1.0, -2.0])) ** 2

    def mean(t: Array) -> Array:
        means, variances = (jnp.stack([f(t, s) for s in states]) for f in (law.mean, law.variance))
        return jnp.sum(means) ** 2 + 5 * jnp.sum(variances)

    return program, mean


def linked(law: Law) -> tuple[Callable, Callable]:
    def program(key: Array, t: Array) -> Array:
        k1, k2 = split(key)
        first = drawn(law, k1, t, 0.5)
        return first * drawn(law, k2, t, first, "y")

    def mean(t: Array) -> Array:
        zero, one = jnp.zeros(()), jnp.ones(())
        slope = law.mean(t, one) - law.mean(t, zero)
        return law.mean(t, zero) * law.mean(t, zero + 0.5) + slope * square(law, t, 0.5)

    return program, mean


def among_others(law: Law) -> tuple[Callable, Callable]:
    """An enumerated draw before it and a scored one after it."""

    def program(key: Array, t: Array) -> Array:
        k1, k2, k3 = split(key, 3)
        coin = vt.draw(k1, dist.Bernoulli(logits=t[0]), name="coin").astype(float)
        x = drawn(law, k2, t, coin)
        return x * vt.draw(k3, dist.Normal(t[0] + x, 1.0), name="z")

    def mean(t: Array) -> Array:
        up = sigmoid(t[0])
        each = [square(law, t, s) + t[0] * law.mean(t, jnp.asarray(s)) for s in (0.0, 1.0)]
        return (1 - up) * each[0] + up * each[1]

    return program, mean


PROGRAMS = {"alone": alone, "scan": in_a_scan, "lanes": in_lanes, "linked": linked, "among others": among_others}
RULES = {
    "alone": {"x": RULE},
    "scan": {"x": RULE},
    "lanes": {"x": AcceptanceRejection(NoBaseline(), augmentation=1)},
    "linked": {"x": RULE, "y": AcceptanceRejection(augmentation=2)},
    "among others": {"coin": Enumerate(), "x": RULE, "z": Score()},
}


def case(law: str, name: str) -> Sampled:
    program, mean = PROGRAMS[name](LAWS[law])
    return Sampled(program, (jnp.asarray(LAWS[law].at),), mean, (RULES[name],), samples=10_000)


# Each takes seconds to compile, so those that are gammas or betas by another name have fewer programs.
ALIASES = ("a gamma above one", "inverse gamma", "chi square", "beta of a proportion")
CASES = [(law, name) for law in LAWS for name in PROGRAMS if law not in ALIASES or name in ("alone", "linked")]
CASES = [(law, name) for law, name in CASES if law not in ("beta", "dirichlet") or name != "among others"]
