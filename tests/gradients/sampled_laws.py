"""Draws from many distributions, with the exact expectation of a function of each."""

from typing import NamedTuple

import equinox as eqx
import flowjax.bijections
import flowjax.distributions
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from gradients.sampled import Sampled
from jax import Array
from jax.nn import sigmoid, softmax
from jax.scipy.special import digamma, i0e, i1e

import variate as vt
from variate.gradients import LeaveOneOut, NoBaseline, Pathwise, Score


def gamma(key: Array, t: Array) -> Array:
    x = vt.draw(key, dist.Gamma(t[0], t[1]), name="x")
    return jnp.log(x) + x**2


def gamma_mean(t: Array) -> Array:
    return digamma(t[0]) - jnp.log(t[1]) + t[0] * (t[0] + 1) / t[1] ** 2


def beta(key: Array, t: Array) -> Array:
    x = vt.draw(key, dist.Beta(t[0], t[1]), name="x")
    return x**2 + jnp.log(x)


def beta_mean(t: Array) -> Array:
    total = t[0] + t[1]
    return t[0] * (t[0] + 1) / (total * (total + 1)) + digamma(t[0]) - digamma(total)


COEFFICIENTS = jnp.array([1.0, -3.0, 2.0])


def dirichlet(key: Array, t: Array) -> Array:
    return jnp.sum(COEFFICIENTS * vt.draw(key, dist.Dirichlet(t), name="x") ** 2)


def dirichlet_mean(t: Array) -> Array:
    return jnp.sum(COEFFICIENTS * t * (t + 1)) / (jnp.sum(t) * (jnp.sum(t) + 1))


def student(key: Array, t: Array) -> Array:
    return vt.draw(key, dist.StudentT(t[0], t[1], t[2]), name="x") ** 2


def student_mean(t: Array) -> Array:
    return t[1] ** 2 + t[2] ** 2 * t[0] / (t[0] - 2)


def von_mises(key: Array, t: Array) -> Array:
    return jnp.cos(vt.draw(key, dist.VonMises(t[0], t[1]), name="x"))


def von_mises_mean(t: Array) -> Array:
    return jnp.cos(t[0]) * i1e(t[1]) / i0e(t[1])


def poisson(key: Array, t: Array) -> Array:
    n = vt.draw(key, dist.Poisson(jnp.exp(t)), name="n").astype(float)
    return n * (n - 3)


def poisson_mean(t: Array) -> Array:
    return jnp.exp(2 * t) - 2 * jnp.exp(t)


def geometric(key: Array, t: Array) -> Array:
    return vt.draw(key, dist.GeometricProbs(sigmoid(t)), name="n").astype(float) ** 2


def geometric_mean(t: Array) -> Array:
    p = sigmoid(t)
    return (1 - p) * (2 - p) / p**2


def uniform(key: Array, t: Array) -> Array:
    return jnp.exp(vt.draw(key, dist.Uniform(-t, t), name="x"))


def uniform_mean(t: Array) -> Array:
    return jnp.sinh(t) / t


def multivariate(key: Array, t: dict) -> Array:
    factor = jnp.array([[1.0, 0.0], [0.5, 0.8]]) * jnp.exp(t["scale"])
    x = vt.draw(key, dist.MultivariateNormal(t["mean"], scale_tril=factor), name="x")
    return x[0] * x[1] + x[1] ** 2


def multivariate_mean(t: dict) -> Array:
    return jnp.prod(t["mean"]) + t["mean"][1] ** 2 + jnp.exp(2 * t["scale"]) * (0.5 + 0.25 + 0.64)


class Die(eqx.Module):
    """A distribution of one's own: the numbers 1, 2, ... with unnormalised log probabilities."""

    logits: Array

    def sample(self, key: Array) -> Array:
        return 1 + jax.random.categorical(key, self.logits)

    def log_prob(self, x: Array) -> Array:
        return jax.nn.log_softmax(self.logits)[x - 1]


class Weibull(NamedTuple):
    """Another, continuous: its sampler is smooth, so it can be followed."""

    scale: Array
    shape: Array

    def sample(self, key: Array) -> Array:
        return self.scale * jax.random.exponential(key, dtype=float) ** (1 / self.shape)

    def log_prob(self, x: Array) -> Array:
        z = x / self.scale
        return jnp.log(self.shape / self.scale) + (self.shape - 1) * jnp.log(z) - z**self.shape


def die(key: Array, t: Array) -> Array:
    return vt.draw(key, Die(t), name="face").astype(float) ** 2


def die_mean(t: Array) -> Array:
    return jnp.sum(softmax(t) * jnp.arange(1.0, 1 + t.size) ** 2)


def weibull(key: Array, t: Array) -> Array:
    return jnp.log(vt.draw(key, Weibull(t[0], t[1]), name="x"))


def weibull_mean(t: Array) -> Array:
    return jnp.log(t[0]) - np.euler_gamma / t[1]


def levy(key: Array, t: Array) -> Array:
    return jnp.exp(-vt.draw(key, dist.Levy(t[0], t[1]), name="x"))


def levy_mean(t: Array) -> Array:
    return jnp.exp(-t[0] - jnp.sqrt(2 * t[1]))


def flow(key: Array, t: Array) -> Array:
    base = flowjax.distributions.StandardNormal()
    warped = flowjax.distributions.Transformed(base, flowjax.bijections.Affine(t[0], jnp.exp(t[1])))
    return jnp.cos(vt.draw(key, warped, name="x"))


def flow_mean(t: Array) -> Array:
    return jnp.cos(t[0]) * jnp.exp(-jnp.exp(2 * t[1]) / 2)


BOTH = ({"x": Score(LeaveOneOut())}, {"x": Pathwise()})  # which is the automatic one
PAIR = jnp.array([0.4, -0.7])
LAWS = {
    "gamma": Sampled(gamma, (jnp.array([1.7, 2.0]),), gamma_mean, BOTH),
    "beta": Sampled(beta, (jnp.array([1.5, 2.5]),), beta_mean, BOTH),
    "dirichlet": Sampled(dirichlet, (jnp.array([1.0, 2.0, 0.7]),), dirichlet_mean, BOTH),
    "student": Sampled(student, (jnp.array([12.0, 0.5, 1.5]),), student_mean, BOTH),
    "von mises": Sampled(von_mises, (jnp.array([0.6, 1.5]),), von_mises_mean, ({}, {"x": Score(NoBaseline())})),
    "poisson": Sampled(poisson, (jnp.array(0.7),), poisson_mean, ({}, {"n": Score(NoBaseline())})),
    "geometric": Sampled(geometric, (jnp.array(0.2),), geometric_mean, samples=60_000),
    "uniform": Sampled(uniform, (jnp.array(1.5),), uniform_mean, ({"x": Pathwise()},)),
    "multivariate normal": Sampled(
        multivariate, ({"mean": PAIR, "scale": jnp.array(-0.3)},), multivariate_mean, ({}, {"x": Score()})
    ),
    "levy": Sampled(levy, (jnp.array([0.3, 1.4]),), levy_mean, BOTH),
    "a discrete distribution of one's own": Sampled(die, (jnp.array([0.3, -0.2, 0.5, 0.0]),), die_mean),
    "a continuous distribution of one's own": Sampled(weibull, (jnp.array([1.2, 1.7]),), weibull_mean, BOTH),
    "a FlowJAX distribution": Sampled(flow, (jnp.array([0.7, -0.4]),), flow_mean, BOTH),
}
