"""Programs with outcomes without end, or too many, with exact expectations in closed form or by quadrature."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from gradients.sampled import Sampled, over_normal
from gradients.sampled_laws import LAWS
from gradients.sampled_loops import LOOPS
from gradients.sampled_replays import REPLAYS
from jax import Array, lax
from jax.nn import sigmoid, softmax
from jax.random import split
from jax.scipy.stats import norm

import variate as vt
from variate.gradients import Coupled, Enumerate, LeaveOneOut, MeasureValued, NoBaseline, Score


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


def pole(key: Array, t: Array) -> Array:
    """Bounded, and no comparison anywhere: the jump is where the divisor passes through zero."""
    return jnp.tanh(1 / vt.draw(key, dist.Normal(t, 1.0), name="z"))


def pole_mean(t: Array) -> Array:
    z = jnp.linspace(1e-3, 12.0, 12_001)
    return jnp.trapezoid(jnp.tanh(1 / z) * (norm.pdf(z - t) - norm.pdf(z + t)), z)


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


def jacobian(key: Array, t: dict) -> dict:
    k1, k2 = split(key)
    x = vt.draw(k1, dist.Normal(t["mean"], jnp.ones(2)), name="x")
    n = vt.draw(k2, dist.Poisson(jnp.exp(t["rate"])), name="n").astype(float)
    return {"product": x * n, "square": jnp.sum(x**2) + n}


def jacobian_mean(t: dict) -> dict:
    rate = jnp.exp(t["rate"])
    return {"product": t["mean"] * rate, "square": jnp.sum(t["mean"] ** 2) + 2 + rate}


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


Z = {"score": {"z": Score(LeaveOneOut())}, "alone": {"z": Score(NoBaseline())}}
MEASURED = {"z": MeasureValued()}
PAIR = jnp.array([0.4, -0.7])
PROGRAMS = {
    "smooth": Sampled(smooth, (jnp.array([0.3, -0.5]),), smooth_mean, ({}, *Z.values(), MEASURED)),
    "step": Sampled(step, (jnp.array(0.0),), norm.cdf, ({}, Z["alone"], MEASURED)),
    "ramp": Sampled(ramp, (jnp.array(0.0),), ramp_mean, ({}, Z["alone"], MEASURED)),
    "gate": Sampled(
        gate,
        (jnp.array(0.3),),
        gate_mean,
        ({}, Z["score"], {"b": Score()}, {"b": Coupled(), **MEASURED}),
    ),
    "one distribution drawn twice": Sampled(twice, (jnp.array(0.8),), twice_mean, ({}, {"a": Score()})),
    "a discontinuity, then draws": Sampled(
        discontinuity_then_draws,
        (PAIR,),
        discontinuity_then_draws_mean,
        ({}, {"x": Score(), "n": Score(NoBaseline())}),
    ),
    "floor and sign": Sampled(rounded, (jnp.array(0.4),), rounded_mean),
    "a pole": Sampled(pole, (jnp.array(0.3),), pole_mean, ({}, MEASURED)),
    "mixture by indexing": Sampled(
        mixture,
        ({"logits": jnp.array([0.1, 0.5, -0.3]), "means": jnp.array([-1.0, 0.4, 0.8])},),
        mixture_mean,
        ({}, {"component": Score()}, {"component": Enumerate(), "x": Score()}),
    ),
    "pathwise and score": Sampled(
        mixed,
        (jnp.array([0.5, 0.2]),),
        mixed_mean,
        ({}, {"x": Score(), "y": Score()}, {"n": Coupled(), "y": MeasureValued()}),
    ),
    "a Jacobian": Sampled(jacobian, ({"mean": PAIR, "rate": jnp.array(0.5)},), jacobian_mean),
    "an Equinox module": Sampled(module, (POLICY, jnp.array([0.5, -1.0])), module_mean),
    **LAWS,
    **LOOPS,
    **REPLAYS,
}
