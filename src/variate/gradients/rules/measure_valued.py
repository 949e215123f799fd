"""Measure-valued: the derivative of a density as the difference of two others."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import lax
from jaxtyping import Array, Float, Key

from variate.gradients.base import Alternatives, Facts, Replay
from variate.programs import distributions


@dataclass(frozen=True)
class MeasureValued(Replay):
    r"""$\nabla_\theta E f(x) = c_\theta (E_{p^+} f - E_{p^-} f)$, where $\nabla_\theta p = c_\theta (p^+ - p^-)$.

    Where $p^-$ or $p^+$ is $p$ itself, it is the run that there is anyway; the other side is coupled to it. Serves
    Normal, LogNormal, HalfNormal, Laplace, Exponential, Gamma (in its rate) and Weibull (in its scale), over any
    program, discontinuous ones too, with less noise than `Score`. Each element of the draw (over loops and lanes too)
    takes one replay for a scale or a rate and two for a location. The wrong choice for draws of many elements, and
    where `Pathwise` is legal.

    Args:
        limit: the most replays that one draw may cost.

    Source: Pflug (1989); Mohamed, Rosca, Figurnov and Mnih (2020), sec. 6 and table 1; the couplings are those of an
    exponential that is added to $x$, or for a Normal scale to $z^2 / 2$.
    """

    limit: int = 1024

    def serves(self, facts: Facts) -> str | None:
        if facts.law not in _DECOMPOSITIONS:
            known = ", ".join(sorted(law.__name__ for law in _DECOMPOSITIONS))
            return f"the decomposition of {facts.law.__name__} is not known; those of {known} are"
        decomposition = _DECOMPOSITIONS[facts.law]
        if unknown := facts.parameters - decomposition.parameters:
            return f"the decomposition of {facts.law.__name__} in its {min(unknown)} is not known"
        if facts.order > 1:
            return "only its first derivative is available"
        replays = (facts.elements or 0) * decomposition.replays
        if replays > self.limit:
            return f"it would take {replays} replays, more than MeasureValued(limit={self.limit})"
        return None

    def alternatives(self, distribution: Any, value: Array, key: Key[Array, ""]) -> Alternatives:
        own = distributions.drawn_log_prob(distributions.elementwise(distribution), value)
        law = distributions.innermost(distribution)
        steps = _DECOMPOSITIONS[type(law)].steps(law, value, key)
        fixed = lax.stop_gradient([(c, x) for _, c, x in steps])
        weights = [jnp.broadcast_to(c * step.parameter, own.shape) for step, (c, _) in zip(steps, fixed, strict=True)]
        values = [jnp.broadcast_to(x, value.shape) for _, x in fixed]
        return Alternatives(own, jnp.stack(weights, axis=-1), jnp.stack(values, axis=-1))


class Step(NamedTuple):
    r"""A part $c\,(p' - p)$ of the derivative of $p$ in a parameter, with a draw from $p'$."""

    parameter: Float[Array, "..."]
    constant: Float[Array, "..."]
    value: Float[Array, "..."]


class Decomposition(NamedTuple):
    """The steps of a law, those parameters that they are the derivative in, and how many they are."""

    parameters: frozenset[str]
    replays: int
    steps: Callable[[Any, Array, Array], list[Step]]


_DECOMPOSITIONS: dict[type, Decomposition] = {}


def _decomposition(law: type, parameters: str, replays: int) -> Callable[[Callable], Callable]:
    def register(steps: Callable) -> Callable:
        _DECOMPOSITIONS[law] = Decomposition(frozenset(parameters.split()), replays, steps)
        return steps

    return register


def _exponential(key: Key[Array, ""], like: Array) -> Array:
    return jax.random.exponential(key, like.shape, like.dtype)


def _wider(z: Array, exponential: Array) -> Array:
    """A draw with the density $z^2 \\phi(z)$ coupled to a standard normal one, of the same sign."""
    return jnp.where(z < 0, -1, 1) * jnp.sqrt(z**2 + 2 * exponential)


def _normal(d: Any, z: Array, key: Key[Array, ""]) -> list[Step]:
    for_loc, for_scale = jax.random.split(key)
    constant = 1 / (d.scale * math.sqrt(2 * math.pi))
    rayleigh = jnp.sqrt(2 * _exponential(for_loc, z))
    wider = _wider(z, _exponential(for_scale, z))
    return [
        Step(d.loc, constant, d.loc + d.scale * rayleigh),
        Step(d.loc, -constant, d.loc - d.scale * rayleigh),
        Step(d.scale, 1 / d.scale, d.loc + d.scale * wider),
    ]


@_decomposition(dist.Normal, "loc scale", 3)
def _(d: Any, x: Array, key: Array) -> list[Step]:
    return _normal(d, (x - d.loc) / d.scale, key)


@_decomposition(dist.LogNormal, "loc scale", 3)
def _(d: Any, x: Array, key: Array) -> list[Step]:
    steps = _normal(d, (jnp.log(x) - d.loc) / d.scale, key)
    return [step._replace(value=jnp.exp(step.value)) for step in steps]


@_decomposition(dist.HalfNormal, "scale", 1)
def _(d: Any, x: Array, key: Array) -> list[Step]:
    return [Step(d.scale, 1 / d.scale, d.scale * _wider(x / d.scale, _exponential(key, x)))]


@_decomposition(dist.Laplace, "loc scale", 3)
def _(d: Any, x: Array, key: Array) -> list[Step]:
    for_loc, for_scale = jax.random.split(key)
    side, further = d.scale * _exponential(for_loc, x), d.scale * _exponential(for_scale, x)
    return [
        Step(d.loc, 1 / (2 * d.scale), d.loc + side),
        Step(d.loc, -1 / (2 * d.scale), d.loc - side),
        Step(d.scale, 1 / d.scale, x + jnp.where(x < d.loc, -1, 1) * further),
    ]


@_decomposition(dist.Exponential, "rate", 1)
def _(d: Any, x: Array, key: Array) -> list[Step]:
    return [Step(d.rate, -1 / d.rate, x + _exponential(key, x) / d.rate)]


@_decomposition(dist.Gamma, "rate", 1)
def _(d: Any, x: Array, key: Array) -> list[Step]:
    return [Step(d.rate, -d.concentration / d.rate, x + _exponential(key, x) / d.rate)]


@_decomposition(dist.Weibull, "scale", 1)
def _(d: Any, x: Array, key: Array) -> list[Step]:
    further = (x / d.scale) ** d.concentration + _exponential(key, x)
    return [Step(d.scale, d.concentration / d.scale, d.scale * further ** (1 / d.concentration))]
