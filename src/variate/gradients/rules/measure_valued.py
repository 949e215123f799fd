"""Measure-valued: the derivative of a density as the difference of two others."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import lax
from jax.nn import sigmoid
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, Key

from variate.gradients.base import Alternatives, Facts, Replay
from variate.programs import distributions


@dataclass(frozen=True)
class MeasureValued(Replay):
    r"""$\nabla_\theta E f(x) = c_\theta (E_{p^+} f - E_{p^-} f)$, where $\nabla_\theta p = c_\theta (p^+ - p^-)$.

    Where $p^-$ or $p^+$ is $p$ itself, it is the run that there is anyway; the other side is coupled to it. Serves
    Normal, LogNormal, HalfNormal, Laplace, Logistic, Cauchy, HalfCauchy, StudentT (in its location and scale),
    Exponential, Pareto, Gamma and InverseGamma (in their rate), Weibull (in its scale), Uniform, and of the counts
    Bernoulli, Binomial and Poisson (`Coupled` has more), over any program, discontinuous ones too, with less noise than
    `Score`, which cannot serve the edges of Uniform and Pareto at all.
    Each element of the draw (over loops and lanes too) takes one replay for a scale, a rate, a probability or an edge
    and two for a location. The wrong choice for draws of many elements, and where `Pathwise` is legal.

    Args:
        limit: the most replays that one draw may cost.

    Source: Pflug (1989); Mohamed, Rosca, Figurnov and Mnih (2020), sec. 6 and table 1. The couplings are those of an
    exponential that is added to what is exponential or gamma, and for the scale of a density $g$ with its mode at zero
    that of Khinchine's theorem: on the side of $z$, with $g(z') = v\, g(z)$ and $v$ uniform, $z'$ has the density
    $-z' g'(z')$.
    """

    limit: int = 1024

    def serves(self, facts: Facts) -> str | None:
        if facts.law not in _DECOMPOSITIONS:
            known = ", ".join(sorted(law.__name__ for law in _DECOMPOSITIONS))
            return f"it has no decomposition of {facts.law.__name__}; it has those of {known}"
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
    return _signed(z, jnp.sqrt(z**2 + 2 * exponential))


def _location_scale(
    d: Any, z: Array, key: Key[Array, ""], wider: Callable[[Array, Array], Array], peak: Any
) -> list[Step]:
    r"""Of a symmetric density with one mode: `wider` solves $g(z') = e^{-y} g(z)$, and the `peak` is $g(0)$.

    What moves with the location has the densities $-g'(z) / g(0)$ on its two sides, as `wider` has from zero.
    """
    for_loc, for_scale = jax.random.split(key)
    constant = peak / d.scale
    side = wider(jnp.zeros_like(z), _exponential(for_loc, z))
    further = wider(z, _exponential(for_scale, z))
    return [
        Step(d.loc, constant, d.loc + d.scale * side),
        Step(d.loc, -constant, d.loc - d.scale * side),
        Step(d.scale, 1 / d.scale, d.loc + d.scale * further),
    ]


def _signed(z: Array, size: Array) -> Array:
    return jnp.where(z < 0, -1, 1) * size


def _normal(d: Any, z: Array, key: Key[Array, ""]) -> list[Step]:
    return _location_scale(d, z, key, _wider, 1 / math.sqrt(2 * math.pi))


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
    def wider(z: Array, exponential: Array) -> Array:
        return z + _signed(z, exponential)

    return _location_scale(d, (x - d.loc) / d.scale, key, wider, 1 / 2)


@_decomposition(dist.Logistic, "loc scale", 3)
def _(d: Any, x: Array, key: Array) -> list[Step]:
    def wider(z: Array, exponential: Array) -> Array:  # cosh(z' / 2) = cosh(z / 2) exp(y / 2)
        rise = jnp.logaddexp(z / 2, -z / 2) - math.log(2) + exponential / 2
        return _signed(z, 2 * (rise + jnp.log1p(jnp.sqrt(-jnp.expm1(-2 * rise)))))

    return _location_scale(d, (x - d.loc) / d.scale, key, wider, 1 / 4)


def _wider_student(z: Array, exponential: Array, df: Any) -> Array:
    return _signed(z, jnp.sqrt(z**2 + (df + z**2) * jnp.expm1(2 * exponential / (df + 1))))


@_decomposition(dist.StudentT, "loc scale", 3)
def _(d: Any, x: Array, key: Array) -> list[Step]:
    df = jnp.asarray(d.df, x.dtype)
    peak = jnp.exp(gammaln((df + 1) / 2) - gammaln(df / 2)) / jnp.sqrt(df * math.pi)
    wider = functools.partial(_wider_student, df=df)
    return _location_scale(d, (x - d.loc) / d.scale, key, wider, peak)


@_decomposition(dist.Cauchy, "loc scale", 3)
def _(d: Any, x: Array, key: Array) -> list[Step]:
    wider = functools.partial(_wider_student, df=1)
    return _location_scale(d, (x - d.loc) / d.scale, key, wider, 1 / math.pi)


@_decomposition(dist.HalfCauchy, "scale", 1)
def _(d: Any, x: Array, key: Array) -> list[Step]:
    return [Step(d.scale, 1 / d.scale, d.scale * _wider_student(x / d.scale, _exponential(key, x), 1))]


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


@_decomposition(dist.InverseGamma, "rate", 1)
def _(d: Any, x: Array, key: Array) -> list[Step]:
    return [Step(d.rate, -d.concentration / d.rate, 1 / (1 / x + _exponential(key, x) / d.rate))]


@_decomposition(dist.Pareto, "scale alpha", 2)
def _(d: Any, x: Array, key: Array) -> list[Step]:
    return [
        Step(d.alpha, -1 / d.alpha, x * jnp.exp(_exponential(key, x) / d.alpha)),
        Step(d.scale, -d.alpha / d.scale, d.scale),  # what leaves at the edge
    ]


@_decomposition(dist.Uniform, "low high", 2)
def _(d: Any, x: Array, key: Array) -> list[Step]:
    constant = 1 / (d.high - d.low)
    return [Step(d.high, constant, d.high), Step(d.low, -constant, d.low)]


@_decomposition(dist.Poisson, "rate", 1)
def _(d: Any, x: Array, key: Array) -> list[Step]:
    return [Step(d.rate, jnp.ones_like(d.rate), x + 1)]


@_decomposition(dist.BernoulliProbs, "probs", 1)
def _(d: Any, x: Array, key: Array) -> list[Step]:
    return _flipped(d.probs, x)


@_decomposition(dist.BernoulliLogits, "logits", 1)
def _(d: Any, x: Array, key: Array) -> list[Step]:
    return _flipped(sigmoid(d.logits), x)


@_decomposition(dist.BinomialProbs, "probs", 1)
def _(d: Any, x: Array, key: Array) -> list[Step]:
    return _tried_again(d.probs, d.total_count, x, key)


@_decomposition(dist.BinomialLogits, "logits", 1)
def _(d: Any, x: Array, key: Array) -> list[Step]:
    return _tried_again(sigmoid(d.logits), d.total_count, x, key)


def _flipped(p: Array, x: Array) -> list[Step]:
    return [Step(p, jnp.where(x == 0, jnp.ones_like(p), -1), 1 - x)]


def _tried_again(p: Array, trials: Any, x: Array, key: Key[Array, ""]) -> list[Step]:
    """One trial, any of them, comes out the other way: with the rest the two sides differ in nothing else."""
    succeeded = jax.random.uniform(key, x.shape) * trials < x
    return [Step(p, jnp.where(succeeded, -trials, trials).astype(p.dtype), jnp.where(succeeded, x - 1, x + 1))]
