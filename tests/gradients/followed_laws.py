"""Laws that a distribution function follows, with nodes at which sums over their density are integrals."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array, lax
from programs.laws import loosely

from variate.gradients.rules.implicit_reparameterization import follow
from variate.programs import distributions


class Row(NamedTuple):
    """A law, parameters, and where the quadrature breaks: the ends, and what a kink in the density follows.

    `scale` maps the line on which the breaks are given to the support.
    """

    make: Callable[..., Any]
    at: dict[str, Any]
    breaks: Callable[[dict], tuple] = lambda t: (-14.0, 16.0)
    scale: Callable[[Array], Array] = lambda y: y
    heavy: bool = False  # its tails are too heavy to integrate a square
    order: int = 2


NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)
PANELS = 60


@loosely
def nodes(row: Row, t: dict) -> tuple[Array, Array]:
    """Values of one draw and the weights of their densities, both moving with breaks that move."""
    ends = [jnp.asarray(end, float) for end in row.breaks(t)]
    panels = [jnp.linspace(low, high, PANELS + 1) for low, high in pairwise(ends)]
    half = jnp.concatenate([jnp.diff(panel) for panel in panels])[:, None] / 2
    middle = jnp.concatenate([(panel[1:] + panel[:-1]) / 2 for panel in panels])[:, None]
    y = (middle + half * NODES).ravel()
    x, slope = jax.jvp(row.scale, (y,), (jnp.ones_like(y),))
    return x, slope * (half * WEIGHTS).ravel()


@loosely
def density(row: Row, t: dict) -> tuple[Array, Array]:
    """Values, and the weights of a sum that is an integral over their density; what is cut is normalized by itself."""
    x, weight = nodes(row, t)
    law = row.make(**t)
    if not hasattr(law, "base_dist") or not (hasattr(law, "low") or hasattr(law, "high")):
        return x, weight * jnp.exp(distributions.log_prob(law, x))
    weight = weight * jnp.exp(distributions.log_prob(law.base_dist, x))
    return x, weight / jnp.sum(weight)


def expectations(row: Row, t: dict) -> Array:
    x, weight = density(row, t)
    return functions(row, x) @ weight


def followed(row: Row, t: dict) -> Array:
    """The same, with the derivatives that the values have by themselves."""
    x, weight = lax.stop_gradient(density(row, t))
    return functions(row, follow(build(row, t), x)) @ weight


@loosely
def functions(row: Row, x: Array) -> Array:
    near = [jnp.exp(-(x**2)), x * jnp.exp(-(x**2))]
    return jnp.stack(near if row.heavy else [jnp.sin(x), x**2, *near])


@loosely
def build(row: Row, t: dict) -> Any:
    return row.make(**t)


def line(make: Callable[..., Any], kink: str | None = None, **at: Any) -> Row:
    return Row(make, at, lambda t: (-60.0, *([t[kink]] if kink else [0.3]), 60.0))


def half(make: Callable[..., Any], heavy: bool = False, order: int = 2, **at: Any) -> Row:
    return Row(make, at, lambda t: (-40.0, 0.0, 8.0 if heavy else 4.5), jnp.exp, heavy, order)


def mixture(component: Callable[..., Any]) -> Callable[..., Any]:
    return lambda logits, **t: dist.MixtureSameFamily(dist.Categorical(logits=logits), component(**t))


def by_probs(probs: Any, loc: Any) -> Any:
    return dist.MixtureSameFamily(dist.Categorical(probs=probs), dist.Normal(loc, jnp.array([0.8, 1.2])))


def normal_and_exponential(logits: Any, loc: Any, rate: Any) -> Any:
    parts = [dist.Normal(loc, 0.9), dist.Exponential(rate)]
    return dist.MixtureGeneral(dist.Categorical(logits=logits), parts, support=dist.constraints.real)


def cut(base: Callable[..., Any], low: bool = False, high: bool = False) -> Callable[..., Any]:
    names = [name for name, given in (("low", low), ("high", high)) if given]
    return lambda **t: dist.TruncatedDistribution(
        base(**{k: v for k, v in t.items() if k not in names}), **{name: t[name] for name in names}
    )


def cut_gamma(**t: Any) -> Any:
    return dist.TruncatedGamma(t.pop("concentration"), t.pop("rate"), **t)


TWO = {"logits": [0.2, -0.4]}
PLACES = {"loc": 0.3, "scale": 1.4}
GAMMA = {"concentration": 1.7, "rate": 1.4}
ROWS = {
    "mixture of normals": Row(mixture(dist.Normal), {**TWO, "loc": [-0.6, 0.9], "scale": [0.8, 1.1]}),
    "mixture by probabilities": Row(by_probs, {"probs": [0.3, 0.7], "loc": [-0.5, 0.7]}),
    "mixture of laplaces": Row(
        mixture(dist.Laplace), {**TWO, "loc": [-0.6, 0.9], "scale": [0.8, 1.1]}, lambda t: (-40.0, *t["loc"], 40.0)
    ),
    "mixture of students": Row(
        mixture(dist.StudentT),
        {**TWO, "df": [4.5, 7.0], "loc": [-0.6, 0.9], "scale": [0.8, 1.1]},
        lambda t: (-60.0, 0.0, 60.0),
        heavy=True,
    ),
    "mixture of gammas": half(
        mixture(dist.Gamma), order=1, **TWO, concentration=jnp.array([1.4, 3.0]), rate=jnp.array([1.2, 0.9])
    ),
    "mixture of betas in their weights": Row(
        lambda logits: mixture(dist.Beta)(
            logits, concentration1=jnp.array([2.0, 3.0]), concentration0=jnp.array([4.0, 1.5])
        ),
        TWO,
        lambda t: (-30.0, 0.0, 30.0),
        jax.nn.sigmoid,
    ),
    "mixture of a normal and an exponential": Row(
        normal_and_exponential, {**TWO, "loc": -0.3, "rate": 0.8}, lambda t: (-12.0, 0.0, 45.0), order=1
    ),
    "normal cut on the left": Row(cut(dist.Normal, True), {**PLACES, "low": -0.4}, lambda t: (t["low"], t["low"] + 20)),
    "normal cut far out": Row(cut(dist.Normal, True), {**PLACES, "low": 9.0}, lambda t: (t["low"], t["low"] + 12)),
    "normal cut on the right": Row(
        cut(dist.Normal, high=True), {**PLACES, "high": 1.1}, lambda t: (t["high"] - 20, t["high"])
    ),
    "normal cut on both sides": Row(
        cut(dist.Normal, True, True), {**PLACES, "low": -0.4, "high": 1.7}, lambda t: (t["low"], t["high"])
    ),
    "normal cut to an upper tail": Row(
        cut(dist.Normal, True, True), {**PLACES, "low": 4.4, "high": 6.7}, lambda t: (t["low"], t["high"])
    ),
    "cauchy cut on both sides": Row(
        cut(dist.Cauchy, True, True), {**PLACES, "low": -1.4, "high": 2.7}, lambda t: (t["low"], t["high"])
    ),
    "laplace cut on the left": Row(
        cut(dist.Laplace, True), {**PLACES, "low": -1.4}, lambda t: (t["low"], t["loc"], t["loc"] + 50)
    ),
    "logistic cut on the right": Row(
        cut(dist.Logistic, high=True), {**PLACES, "high": 1.1}, lambda t: (t["high"] - 60, t["high"])
    ),
    "student cut on both sides": Row(
        cut(dist.StudentT, True, True),
        {"df": 3.3, **PLACES, "low": 0.7, "high": 2.7},
        lambda t: (t["low"], t["high"]),
        order=1,
    ),
    "gamma cut on the left": Row(cut_gamma, {**GAMMA, "low": 0.7}, lambda t: (t["low"], t["low"] + 30), order=1),
    "gamma cut on the right": Row(
        lambda **t: cut_gamma(**t), {**GAMMA, "high": 1.7}, lambda t: (-40.0, jnp.log(t["high"])), jnp.exp, order=1
    ),
    "gamma cut on both sides": Row(
        cut_gamma, {**GAMMA, "low": 2.1, "high": 4.7}, lambda t: (t["low"], t["high"]), order=1
    ),
    "power law": Row(
        dist.DoublyTruncatedPowerLaw, {"alpha": -1.7, "low": 0.5, "high": 3.0}, lambda t: (t["low"], t["high"])
    ),
    "power law of a logarithm": Row(
        dist.DoublyTruncatedPowerLaw, {"alpha": -1.0, "low": 0.5, "high": 3.0}, lambda t: (t["low"], t["high"])
    ),
    "von mises": Row(dist.VonMises, {"loc": 0.6, "concentration": 1.5}, lambda t: (-math.pi, math.pi)),
    "von mises behind": Row(dist.VonMises, {"loc": 9.0, "concentration": 3.0}, lambda t: (-math.pi, math.pi)),
    "asymmetric laplace": line(dist.AsymmetricLaplace, "loc", **PLACES, asymmetry=1.3),
    "asymmetric laplace of a quantile": line(dist.AsymmetricLaplaceQuantile, **PLACES, quantile=0.3)._replace(
        breaks=lambda t: (-90.0, t["loc"], 20.0, 250.0)
    ),
    "cauchy": line(dist.Cauchy, **PLACES)._replace(heavy=True),
    "gumbel": line(dist.Gumbel, **PLACES)._replace(breaks=lambda t: (-6.0, 0.0, 60.0)),
    "laplace": line(dist.Laplace, "loc", **PLACES),
    "logistic": line(dist.Logistic, **PLACES),
    "normal": line(dist.Normal, **PLACES)._replace(breaks=lambda t: (-14.0, 16.0)),
    "soft laplace": line(dist.SoftLaplace, **PLACES),
    "student": line(dist.StudentT, df=5.5, **PLACES)._replace(heavy=True),
    "chi square": half(dist.Chi2, order=1, df=3.3),
    "dagum": half(dist.Dagum, heavy=True, concentration=1.3, sharpness=2.2, scale=1.4),
    "exponential": half(dist.Exponential, rate=1.4),
    "gamma": half(dist.Gamma, order=1, **GAMMA),
    "gompertz": half(dist.Gompertz, concentration=1.3, rate=0.8)._replace(breaks=lambda t: (-40.0, 0.0, 1.4)),
    "half cauchy": half(dist.HalfCauchy, heavy=True, scale=1.4),
    "half normal": half(dist.HalfNormal, scale=1.4)._replace(breaks=lambda t: (-40.0, 0.0, 2.5)),
    "inverse gamma": half(dist.InverseGamma, heavy=True, order=1, concentration=3.7, rate=1.4)._replace(
        breaks=lambda t: (-5.0, 0.0, 8.0)
    ),
    "log normal": half(dist.LogNormal, heavy=True, loc=0.3, scale=0.7)._replace(breaks=lambda t: (-10.0, 10.0)),
    "uniform": Row(dist.Uniform, {"low": -0.5, "high": 1.5}, lambda t: (t["low"], t["high"])),
    "weibull": half(dist.Weibull, scale=0.9, concentration=1.7)._replace(breaks=lambda t: (-40.0, 0.0, 2.2)),
}
