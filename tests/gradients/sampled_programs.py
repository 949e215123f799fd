"""Programs with outcomes without end, or too many, with their exact expectations in closed form or by quadrature."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import flowjax.bijections
import flowjax.distributions
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array, lax
from jax.nn import sigmoid, softmax
from jax.random import split
from jax.scipy.special import digamma, i0e, i1e
from jax.scipy.stats import norm

import variate as vt
from variate.gradients import Enumerate, LeaveOneOut, NoBaseline, Pathwise, Score


class Sampled(NamedTuple):
    """A program, arguments for it, its expectation as a function of them, and assignments of rules to its draws.

    The first assignment is empty: the automatic one.
    """

    program: Callable[..., Any]
    args: tuple
    expectation: Callable[..., Any]
    assignments: tuple[dict[str, Any], ...] = ({},)
    samples: int = 20_000


NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)


def over_normal(f: Callable[[Array], Array], mean: Array, scale: Array) -> Array:
    """E f(z) for z ~ Normal(mean, scale) and a smooth f: quadrature, exact to 1e-10 for the functions here."""
    return jnp.sum(WEIGHTS / np.sqrt(2 * np.pi) * f(mean + scale * NODES))


def smooth(key: Array, t: Array) -> Array:
    z = vt.draw(key, dist.Normal(t[0], jnp.exp(t[1])), name="z")
    return jnp.sin(2 * z) + z**2


def smooth_mean(t: Array) -> Array:
    return jnp.exp(-2 * jnp.exp(2 * t[1])) * jnp.sin(2 * t[0]) + t[0] ** 2 + jnp.exp(2 * t[1])


def step(key: Array, t: Array) -> Array:
    return (vt.draw(key, dist.Normal(t, 1.0), name="z") > 0).astype(float)


def ramp(key: Array, t: Array) -> Array:
    z = vt.draw(key, dist.Normal(t, 1.0), name="z")
    return 2 * z * (z > 1).astype(float)


def ramp_mean(t: Array) -> Array:
    return 2 * (t * norm.cdf(t - 1) + norm.pdf(t - 1))


def gate(key: Array, t: Array) -> Array:
    k1, k2 = split(key)
    z = vt.draw(k1, dist.Normal(t, 1.0), name="z")
    b = vt.draw(k2, dist.Bernoulli(logits=z), name="b")
    return jnp.where(b == 1, z**2, 0.0)


def gate_mean(t: Array) -> Array:
    return over_normal(lambda z: sigmoid(z) * z**2, t, jnp.ones(()))


def twice(key: Array, t: Array) -> Array:
    k1, k2 = split(key)
    law = dist.Normal(t, 1.0)
    a, b = vt.draw(k1, law, name="a"), vt.draw(k2, law, name="b")
    return (a - b) ** 2 + a * b


def twice_mean(t: Array) -> Array:
    return 2 + t**2


def discontinuity_then_draws(key: Array, t: Array) -> Array:
    k1, k2 = split(key)
    z = vt.draw(k1, dist.Normal(t[0], 1.0), name="z")
    return lax.cond(
        z > 0.5,
        lambda k: vt.draw(k, dist.Poisson(jnp.exp(t[1])), name="n").astype(float),
        lambda k: vt.draw(k, dist.Normal(t[1], 1.0), name="x") ** 2,
        k2,
    )


def discontinuity_then_draws_mean(t: Array) -> Array:
    above = norm.cdf(t[0] - 0.5)
    return above * jnp.exp(t[1]) + (1 - above) * (1 + t[1] ** 2)


def rounded(key: Array, t: Array) -> Array:
    z = vt.draw(key, dist.Normal(t, 1.0), name="z")
    return jnp.floor(z) + jnp.sign(z) * z


def rounded_mean(t: Array) -> Array:
    steps = jnp.arange(-12.0, 12.0)
    return jnp.sum(jnp.where(steps >= 0, 1 - norm.cdf(steps + 1 - t), -norm.cdf(steps + 1 - t))) + (
        t * (1 - 2 * norm.cdf(-t)) + 2 * norm.pdf(t)
    )


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
    keys = split(key, 20)

    def body(i: Array, heads: Array) -> Array:
        return heads + vt.draw(keys[i], dist.Bernoulli(logits=t), name="b").astype(float)

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


def mixture(key: Array, t: dict) -> Array:
    k1, k2 = split(key)
    component = vt.draw(k1, dist.Categorical(logits=t["logits"]), name="component")
    return jnp.cos(vt.draw(k2, dist.Normal(t["means"][component], 0.5), name="x"))


def mixture_mean(t: dict) -> Array:
    return jnp.sum(softmax(t["logits"]) * jnp.cos(t["means"]) * jnp.exp(-0.125))


def mixed(key: Array, t: Array) -> Array:
    """Pathwise and score in one program, each reaching the other's distribution."""
    k1, k2, k3 = split(key, 3)
    x = vt.draw(k1, dist.Normal(t[0], 1.0), name="x")
    n = vt.draw(k2, dist.Poisson(jnp.exp(t[1] + 0.1 * x)), name="n").astype(float)
    y = vt.draw(k3, dist.Normal(x + 0.2 * n, 0.5), name="y")
    return y**2


def mixed_mean(t: Array) -> Array:
    def given(x: Array) -> Array:
        rate = jnp.exp(t[1] + 0.1 * x)
        return (x + 0.2 * rate) ** 2 + 0.04 * rate + 0.25

    return over_normal(given, t[0], jnp.ones(()))


def until_tails(key: Array, t: Array) -> Array:
    def body(state: tuple) -> tuple:
        key, count, _ = state
        key, k = split(key)
        return key, count + 1, vt.draw(k, dist.Bernoulli(logits=t), name="b") == 1

    return lax.while_loop(lambda state: state[2], body, (key, jnp.zeros(()), jnp.array(True)))[1]


def until_tails_mean(t: Array) -> Array:
    return 1 + jnp.exp(t)


def jacobian(key: Array, t: dict) -> dict:
    k1, k2 = split(key)
    x = vt.draw(k1, dist.Normal(t["mean"], jnp.ones(2)), name="x")
    n = vt.draw(k2, dist.Poisson(jnp.exp(t["rate"])), name="n").astype(float)
    return {"product": x * n, "square": jnp.sum(x**2) + n}


def jacobian_mean(t: dict) -> dict:
    rate = jnp.exp(t["rate"])
    return {"product": t["mean"] * rate, "square": jnp.sum(t["mean"] ** 2) + 2 + rate}


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


def flow(key: Array, t: Array) -> Array:
    base = flowjax.distributions.StandardNormal()
    warped = flowjax.distributions.Transformed(base, flowjax.bijections.Affine(t[0], jnp.exp(t[1])))
    return jnp.cos(vt.draw(key, warped, name="x"))


def flow_mean(t: Array) -> Array:
    return jnp.cos(t[0]) * jnp.exp(-jnp.exp(2 * t[1]) / 2)


class Policy(eqx.Module):
    """A Gaussian policy over a linear layer, with parts that are no arrays."""

    layer: eqx.nn.Linear
    log_scale: Array
    activation: Callable = jnp.tanh
    inference: bool = False


POLICY = Policy(eqx.nn.Linear(2, "scalar", key=jax.random.key(5), dtype=float), jnp.array(-0.5))


def module(key: Array, policy: Policy, x: Array) -> Array:
    action = vt.draw(key, dist.Normal(policy.layer(x), jnp.exp(policy.log_scale)), name="action")
    return jnp.where(action > 0, policy.activation(x[0]), -policy.activation(x[1])) + action**2


def module_mean(policy: Policy, x: Array) -> Array:
    mean, scale = policy.layer(x), jnp.exp(policy.log_scale)
    up = norm.cdf(mean / scale)
    return up * policy.activation(x[0]) - (1 - up) * policy.activation(x[1]) + mean**2 + scale**2


Z = {"score": {"z": Score(LeaveOneOut())}, "alone": {"z": Score(NoBaseline())}, "path": {"z": Pathwise()}}
BOTH = ({}, {"x": Score(LeaveOneOut())}, {"x": Pathwise()})
PAIR = jnp.array([0.4, -0.7])
PROGRAMS = {
    "smooth": Sampled(smooth, (jnp.array([0.3, -0.5]),), smooth_mean, ({}, *Z.values())),
    "step": Sampled(step, (jnp.array(0.0),), norm.cdf, ({}, Z["alone"])),
    "ramp": Sampled(ramp, (jnp.array(0.0),), ramp_mean, ({}, Z["alone"])),
    "gate": Sampled(gate, (jnp.array(0.3),), gate_mean, ({}, Z["score"], {"b": Score()}, {"b": Enumerate()})),
    "one distribution drawn twice": Sampled(twice, (jnp.array(0.8),), twice_mean, ({}, {"a": Score()})),
    "a discontinuity, then draws": Sampled(
        discontinuity_then_draws,
        (PAIR,),
        discontinuity_then_draws_mean,
        ({}, {"x": Score(), "n": Score(NoBaseline())}),
    ),
    "floor and sign": Sampled(rounded, (jnp.array(0.4),), rounded_mean),
    "gamma": Sampled(gamma, (jnp.array([1.7, 2.0]),), gamma_mean, BOTH),
    "beta": Sampled(beta, (jnp.array([1.5, 2.5]),), beta_mean, BOTH),
    "dirichlet": Sampled(dirichlet, (jnp.array([1.0, 2.0, 0.7]),), dirichlet_mean, BOTH),
    "student": Sampled(student, (jnp.array([12.0, 0.5, 1.5]),), student_mean, BOTH),
    "von mises": Sampled(von_mises, (jnp.array([0.6, 1.5]),), von_mises_mean, ({}, {"x": Score(NoBaseline())})),
    "poisson": Sampled(poisson, (jnp.array(0.7),), poisson_mean, ({}, {"n": Score(NoBaseline())})),
    "geometric": Sampled(geometric, (jnp.array(0.2),), geometric_mean),
    "uniform": Sampled(uniform, (jnp.array(1.5),), uniform_mean, ({}, {"x": Pathwise()})),
    "multivariate normal": Sampled(
        multivariate, ({"mean": PAIR, "scale": jnp.array(-0.3)},), multivariate_mean, ({}, {"x": Score()})
    ),
    "20 linked coins in a scan": Sampled(chain, (jnp.array([-0.5, 1.2]),), chain_mean, ({}, {"b": Enumerate()})),
    "20 flips in a fori_loop": Sampled(flips, (jnp.array(0.3),), flips_mean, ({}, {"b": Enumerate()})),
    "25 linked Gaussians in a scan": Sampled(
        random_walk, (jnp.array([0.8, 0.3]),), random_walk_mean, ({}, {"x": Score()})
    ),
    "vmap in a scan": Sampled(lanes_in_scan, (jnp.array(0.4),), lanes_in_scan_mean, ({}, {"x": Score()})),
    "scan in a vmap": Sampled(scan_in_lanes, (jnp.array([0.2, 0.6]),), scan_in_lanes_mean),
    "mixture by indexing": Sampled(
        mixture,
        ({"logits": jnp.array([0.1, 0.5, -0.3]), "means": jnp.array([-1.0, 0.4, 0.8])},),
        mixture_mean,
        ({}, {"component": Score()}, {"component": Enumerate(), "x": Score()}),
    ),
    "pathwise and score": Sampled(mixed, (jnp.array([0.5, 0.2]),), mixed_mean, ({}, {"x": Score(), "y": Score()})),
    "while": Sampled(until_tails, (jnp.array(0.3),), until_tails_mean, ({}, {"b": Score(NoBaseline())})),
    "a Jacobian": Sampled(jacobian, ({"mean": PAIR, "rate": jnp.array(0.5)},), jacobian_mean),
    "a discrete distribution of one's own": Sampled(die, (jnp.array([0.3, -0.2, 0.5, 0.0]),), die_mean),
    "a continuous distribution of one's own": Sampled(weibull, (jnp.array([1.2, 1.7]),), weibull_mean, BOTH),
    "a FlowJAX distribution": Sampled(flow, (jnp.array([0.7, -0.4]),), flow_mean, BOTH),
    "an Equinox module": Sampled(module, (POLICY, jnp.array([0.5, -1.0])), module_mean),
}
