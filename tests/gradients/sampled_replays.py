"""Draws from the laws that rules with replays know, with exact expectations of squares and of probabilities."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from gradients.sampled import Sampled
from jax import Array, lax
from jax.nn import sigmoid
from jax.random import split
from jax.scipy.special import gamma, gammainc

import variate as vt
from variate.gradients import Coupled, MeasureValued


def squared(make: Callable[[Any], Any]) -> Callable[[Array, Any], Array]:
    return lambda key, t: vt.draw(key, make(t), name="x").astype(float) ** 2


def above_one(make: Callable[[Any], Any]) -> Callable[[Array, Any], Array]:
    return lambda key, t: (vt.draw(key, make(t), name="x") > 1).astype(float)


def measured(program: Callable, at: Any, expectation: Callable) -> Sampled:
    return Sampled(program, (jnp.asarray(at),), expectation, ({"x": MeasureValued()},))


def counted(
    make: Callable, at: Any, mean: Callable[[Array], Array], variance: Callable[[Array], Array], *others: Any
) -> Sampled:
    rules = tuple({"x": rule} for rule in (Coupled(), *others))
    return Sampled(squared(make), (jnp.asarray(at),), lambda t: mean(t) ** 2 + variance(t), rules)


def vector(key: Array, t: Array) -> Array:
    """Elements in two axes, one of them a `vmap`, an event and an expansion."""
    law = lambda t: dist.Gamma(2.0, t).expand((2,)).to_event(1)  # noqa: E731
    x = jax.vmap(lambda k, t: vt.draw(k, law(t), name="x"))(split(key, 2), t)
    return jnp.sum(x @ jnp.array([1.0, -2.0])) ** 2


def vector_mean(t: Array) -> Array:
    return jnp.sum(2 / t) ** 2 + jnp.sum(5 * 2 / t**2)


def queue(key: Array, t: Array) -> Array:
    """Arrivals that are put off by those before them, and what is still waiting after 20 rounds."""

    def step(state: Array, key: Array) -> tuple[Array, None]:
        n = vt.draw(key, dist.Poisson(jnp.exp(t) + 0.2 * state), name="x")
        return 0.5 * state + n.astype(float), None

    return lax.scan(step, jnp.zeros(()), split(key, 20))[0]


def queue_mean(t: Array) -> Array:
    return jnp.exp(t) * (1 - 0.7**20) / 0.3


def many(key: Array, t: Array) -> Array:
    """Ten counts in each of two lanes and three steps."""

    def step(total: Array, key: Array) -> tuple[Array, None]:
        n = jax.vmap(lambda k, t: vt.draw(k, dist.Poisson(jnp.exp(t) * jnp.ones(10)), name="x"))(split(key, 2), t)
        return total + jnp.sum(n.astype(float)), None

    return lax.scan(step, jnp.zeros(()), split(key, 3))[0] ** 2 / 100


def many_mean(t: Array) -> Array:
    mean = 30 * jnp.sum(jnp.exp(t))
    return (mean + mean**2) / 100


REPLAYS = {
    "exponential": measured(squared(dist.Exponential), 0.7, lambda t: 2 / t**2),
    "gamma of a rate": measured(squared(lambda t: dist.Gamma(2.5, t)), 0.7, lambda t: 2.5 * 3.5 / t**2),
    "half normal": measured(above_one(dist.HalfNormal), 0.7, lambda t: 2 * jax.scipy.stats.norm.cdf(-1 / t)),
    "laplace": measured(squared(lambda t: dist.Laplace(t[0], t[1])), [0.8, 0.6], lambda t: t[0] ** 2 + 2 * t[1] ** 2),
    "log normal": measured(
        squared(lambda t: dist.LogNormal(t[0], t[1])), [0.3, 0.4], lambda t: jnp.exp(2 * t[0] + 2 * t[1] ** 2)
    ),
    "weibull of a scale": measured(squared(lambda t: dist.Weibull(t, 1.7)), 0.9, lambda t: t**2 * gamma(1 + 2 / 1.7)),
    "logistic": measured(
        squared(lambda t: dist.Logistic(t[0], t[1])), [0.5, 0.8], lambda t: t[0] ** 2 + (jnp.pi * t[1]) ** 2 / 3
    ),
    "cauchy": measured(
        above_one(lambda t: dist.Cauchy(t[0], t[1])), [0.3, 0.8], lambda t: 0.5 + jnp.arctan((t[0] - 1) / t[1]) / jnp.pi
    ),
    "half cauchy": measured(above_one(dist.HalfCauchy), 0.7, lambda t: 1 - 2 * jnp.arctan(1 / t) / jnp.pi),
    "student of its place": measured(
        squared(lambda t: dist.StudentT(9.0, t[0], t[1])), [0.5, 0.8], lambda t: t[0] ** 2 + t[1] ** 2 * 9 / 7
    ),
    "inverse gamma of a rate": measured(
        above_one(lambda t: dist.InverseGamma(2.5, t)), 1.4, lambda t: gammainc(2.5, t)
    ),
    "pareto": measured(above_one(lambda t: dist.Pareto(t[0], t[1])), [0.6, 1.5], lambda t: t[0] ** t[1]),
    "uniform over a step": measured(
        above_one(lambda t: dist.Uniform(t[0], t[1])), [-0.5, 2.0], lambda t: (t[1] - 1) / (t[1] - t[0])
    ),
    "vectors of gammas": measured(vector, [0.8, 1.3], vector_mean),
    "bernoulli of a probability": measured(squared(dist.BernoulliProbs), 0.3, lambda t: t),
    "bernoulli of logits": measured(squared(dist.BernoulliLogits), 0.3, sigmoid),
    "poisson of a rate": counted(dist.Poisson, 1.3, lambda t: t, lambda t: t, MeasureValued()),
    "geometric of logits": counted(
        lambda t: dist.GeometricLogits(t), 0.2, lambda t: jnp.exp(-t), lambda t: jnp.exp(-t) / sigmoid(t)
    ),
    "geometric of a probability": counted(dist.GeometricProbs, 0.4, lambda t: (1 - t) / t, lambda t: (1 - t) / t**2),
    "binomial of logits": counted(
        lambda t: dist.Binomial(9, logits=t),
        0.3,
        lambda t: 9 * sigmoid(t),
        lambda t: 9 * sigmoid(t) * sigmoid(-t),
        MeasureValued(),
    ),
    "binomial of a probability": counted(
        lambda t: dist.Binomial(9, t), 0.3, lambda t: 9 * t, lambda t: 9 * t * (1 - t), MeasureValued()
    ),
    "negative binomial of a probability": counted(
        lambda t: dist.NegativeBinomialProbs(3.0, t), 0.4, lambda t: 3 * t / (1 - t), lambda t: 3 * t / (1 - t) ** 2
    ),
    "negative binomial of logits": counted(
        lambda t: dist.NegativeBinomialLogits(3.0, t),
        -0.4,
        lambda t: 3 * jnp.exp(t),
        lambda t: 3 * jnp.exp(t) / sigmoid(-t),
    ),
    "negative binomial of a mean": counted(
        lambda t: dist.NegativeBinomial2(t, 2.0), 1.5, lambda t: t, lambda t: t + t**2 / 2
    ),
    "gamma and Poisson": counted(lambda t: dist.GammaPoisson(2.0, t), 0.8, lambda t: 2 / t, lambda t: 2 / t + 2 / t**2),
    "gamma and Poisson of both": counted(
        lambda t: dist.GammaPoisson(t[0], t[1]),
        [2.0, 0.8],
        lambda t: t[0] / t[1],
        lambda t: t[0] / t[1] + t[0] / t[1] ** 2,
    ),
    "negative binomial of its failures": counted(
        lambda t: dist.NegativeBinomialProbs(t, 0.4), 1.5, lambda t: t * 2 / 3, lambda t: t * 2 / 3 / 0.6
    ),
    "negative binomial of a mean and its concentration": counted(
        lambda t: dist.NegativeBinomial2(t[0], t[1]), [1.5, 0.7], lambda t: t[0], lambda t: t[0] + t[0] ** 2 / t[1]
    ),
    "many counts, some of them replayed": Sampled(
        many, (jnp.array([0.2, -0.3]),), many_mean, ({"x": Coupled(replays=3)}, {"x": Coupled()}), 2_000
    ),
    "a queue": Sampled(queue, (jnp.asarray(0.2),), queue_mean, ({"x": Coupled()},), 2_000),
}
