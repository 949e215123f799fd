"""Distribution functions with a derivative in every parameter: where a sampler has none, they say how a draw moves."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import lax
from jax.scipy.special import betainc, gammainc, gammaincc, gammaln, i0e
from jaxtyping import Array, ArrayLike, Float

from variate.programs import distributions
from variate.programs.special import log_sinhc

MIXTURES = (dist.MixtureSameFamily, dist.MixtureGeneral)
Values = Float[Array, "..."]


class Law(NamedTuple):
    """What is known of a law.

    `ends`: those of its support, None where parameters move them. `never`, `once`: the parameters in which its
    distribution function has no derivative, or only a first one.
    """

    cdf: Callable[[Any, Values], Values] = lambda d, x: d.cdf(x)
    ends: tuple[float, float] | None = (-math.inf, math.inf)
    never: frozenset[str] = frozenset()
    once: frozenset[str] = frozenset()


def standardized(d: Any, x: Values) -> Values:
    r"""The distribution function at each element of a draw: uniform on $[0, 1]$ if $x$ is drawn from `d`.

    Of a vector it is $F(x_i \mid x_1, \dots, x_{i-1})$ in the place of each $x_i$ (Rosenblatt 1952).

    Args:
        d: a law of elements (`distributions.innermost`) of which `unknown` knows nothing to say.
        x: values inside its support, of its shape or of one that this was expanded to.
    """
    with distributions.numpyro_promotion():
        found = _mixture(d, x) if isinstance(d, MIXTURES) else LAWS[type(d)].cdf(d, x)
        return jnp.broadcast_to(found, x.shape)


def unknown(d: Any, moves: Callable[[Any], bool], order: int) -> str | None:
    """Why `standardized(d, x)` cannot be differentiated to this order in those parts of `d` that move; None if it can.

    Only the structure of `d` matters: its arrays may be anything that `moves` understands.
    """
    name = type(d).__name__
    if isinstance(d, MIXTURES):
        return _unknown_mixture(d, moves, order)
    if type(d) not in LAWS:
        return f"the distribution function of {name} is not known; those of {_names(LAWS)} and of mixtures are"
    known = LAWS[type(d)]
    for parameter in sorted(known.never | known.once):
        if moves(getattr(d, parameter)) and (parameter in known.never or order > 1):
            which = "no" if parameter in known.never else "only a first"
            return f"the distribution function of {name} has {which} derivative in its {parameter}"
    if type(d) not in _TRUNCATED:
        return None
    if order > 1 and isinstance(d.base_dist, dist.StudentT) and moves(d.base_dist.df):
        return f"the density of {name} has no derivative in the degrees of freedom, so that a draw has only a first one"
    return unknown(d.base_dist, moves, order)


def _unknown_mixture(d: Any, moves: Callable[[Any], bool], order: int) -> str | None:
    if len(d.event_shape) > 1:
        return "of mixtures only those of numbers and of vectors are known"
    parts = _components(d)
    for part in parts:
        if type(part) not in LAWS or LAWS[type(part)].ends is None:
            # Supports that may move may leave gaps, over which a draw would jump as the weights move.
            fixed = _names({law: known for law, known in LAWS.items() if known.ends is not None})
            return f"a mixture over {type(part).__name__} is not known; those over independent elements of {fixed} are"
    if order > 1 and len({LAWS[type(part)].ends for part in parts}) > 1:
        return "its density jumps where the support of a component ends, so it has only a first derivative"
    return next((reason for part in parts if (reason := unknown(part, moves, order))), None)


def _names(laws: dict[type, Law]) -> str:
    return ", ".join(sorted(law.__name__ for law in laws))


def _components(d: Any) -> list[Any]:
    """The laws of the elements of a mixture's components; all in one where they are of the same family."""
    same = isinstance(d, dist.MixtureSameFamily)
    parts = [d.component_distribution] if same else d.component_distributions
    return [distributions.innermost(part) for part in parts]


def _weights(d: Any) -> Float[Array, "*batch k"]:
    return jnp.asarray(d.mixing_distribution.probs)


def _mixture(d: Any, x: Values) -> Values:
    """Of each element given those before it, which say how probable each component is."""
    axis, lone = -1 - len(d.event_shape), (1,) * len(d.event_shape)
    weights = jnp.reshape(_weights(d), (*jnp.shape(_weights(d)), *lone))
    if d.event_shape:
        log_density = _by_component(d, x, _log_density)
        before = jnp.cumsum(jnp.concatenate([jnp.zeros_like(log_density[..., :1]), log_density[..., :-1]], -1), axis=-1)
        top = lax.stop_gradient(jnp.max(before, axis=axis, keepdims=True))
        weights = weights * jnp.exp(before - top)
    return jnp.sum(weights * _by_component(d, x, _cdf), axis=axis) / jnp.sum(weights, axis=axis)


def _by_component(d: Any, x: Values, function: Callable[[Any, Values], Values]) -> Values:
    axis, parts = -1 - len(d.event_shape), _components(d)
    x = jnp.expand_dims(x, axis)
    shape = list(x.shape)
    shape[axis] = d.mixture_size // len(parts)
    return jnp.concatenate([jnp.broadcast_to(function(part, x), shape) for part in parts], axis)


def _cdf(part: Any, x: Values) -> Values:
    """Of a component, whose support may be smaller than that of the mixture."""
    low, high = LAWS[type(part)].ends or (-math.inf, math.inf)
    inside = (x > low) & (x < high)
    return jnp.where(inside, LAWS[type(part)].cdf(part, jnp.where(inside, x, 0.5)), jnp.where(x < high, 0.0, 1.0))


def _log_density(part: Any, x: Values) -> Values:
    low, high = LAWS[type(part)].ends or (-math.inf, math.inf)
    inside = (x > low) & (x < high)
    return jnp.where(inside, distributions.drawn_log_prob(part, jnp.where(inside, x, 0.5)), -jnp.inf)


def _beta(d: Any, x: Values) -> Values:
    return betainc(lax.stop_gradient(d.concentration1), lax.stop_gradient(d.concentration0), x)


def _student(d: Any, x: Values) -> Values:
    """JAX's incomplete beta function has no derivative in the degrees of freedom."""
    df = jnp.asarray(d.df)
    log_height = gammaln((df + 1) / 2) - gammaln(df / 2) - jnp.log(df * math.pi) / 2

    def density(t: Values) -> Values:
        own = jnp.expand_dims(df, -1)
        return jnp.exp(jnp.expand_dims(log_height, -1) - (own + 1) / 2 * jnp.log1p(t**2 / own))

    z = (x - d.loc) / d.scale
    return 0.5 + _integral(density, z, jnp.ones_like(z))


def _von_mises(d: Any, x: Values) -> Values:
    r"""From $-\pi$ on, where the circle is cut: draws near it do not move, so that none jumps to the other side."""
    loc, kappa = jnp.asarray(d.loc), jnp.asarray(d.concentration)

    def density(t: Values) -> Values:
        own = jnp.expand_dims(kappa, -1)
        return jnp.exp(-2 * own * jnp.sin(t / 2) ** 2) / (2 * math.pi * i0e(own))

    def from_mode(angle: Values) -> Values:
        turns = lax.stop_gradient(jnp.round(angle / (2 * math.pi)))
        width = lax.stop_gradient(lax.rsqrt(1 + kappa))
        return turns + _integral(density, angle - 2 * math.pi * turns, width)

    return from_mode(x - loc) - from_mode(-math.pi - loc)


_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(64)


def _integral(f: Callable[[Values], Values], end: Values, width: Values) -> Values:
    r"""$\int_0^{end} f(t)\,dt$ of a density with a peak of some width at 0: by Gauss and Legendre in $\sinh^{-1} t$."""
    length = jnp.expand_dims(jnp.arcsinh(end / width), -1)
    width = jnp.expand_dims(width, -1)
    s = length * (_NODES + 1).astype(length.dtype) / 2
    heights = f(width * jnp.sinh(s)) * width * jnp.cosh(s)
    return jnp.sum(heights * length * (_NODE_WEIGHTS / 2).astype(length.dtype), axis=-1)


def _left_truncated(d: Any, x: Values) -> Values:
    at, low = (_tail(d.base_dist, t, True) for t in (x, d.low))
    return 1 - at / low


def _right_truncated(d: Any, x: Values) -> Values:
    at, high = (_tail(d.base_dist, t, False) for t in (x, d.high))
    return at / high


def _truncated(d: Any, x: Values) -> Values:
    upper = LAWS[type(d.base_dist)].cdf(d.base_dist, d.low) > 0.5
    at, low, high = (_tail(d.base_dist, t, upper) for t in (x, d.low, d.high))
    return (at - low) / (high - low)


def _tail(base: Any, t: ArrayLike, upper: ArrayLike | bool) -> Values:
    """The probability below $t$, or minus the one above it: up to a constant the same, but each keeps its digits."""
    if not isinstance(base, dist.Gamma):  # symmetric, as all others that are truncated
        return jnp.where(upper, -1, 1) * LAWS[type(base)].cdf(base, jnp.where(upper, 2 * base.loc - t, t))
    inside = jnp.asarray(t) > 0  # at 0 the density, and a derivative, may be infinite
    a, z = jnp.asarray(base.concentration), jnp.asarray(base.rate * jnp.where(inside, t, 1))
    return jnp.where(upper, jnp.where(inside, -gammaincc(a, z), -1), jnp.where(inside, gammainc(a, z), 0))


def _power_law(d: Any, x: Values) -> Values:
    # As in `corrections`: alpha = -1 is a point like any other, and the lower end may be 0.
    power, from_zero = d.alpha + 1, d.low == 0
    low = jnp.log(jnp.where(from_zero, d.high / 2, d.low))
    at, high = jnp.log(x), jnp.log(d.high)
    ratio = jnp.exp(power * (at - high) / 2 + log_sinhc(power * (at - low) / 2) - log_sinhc(power * (high - low) / 2))
    return jnp.where(from_zero, jnp.exp(power * (at - high)), ratio * (at - low) / (high - low))


_HALF_LINE = (0.0, math.inf)
_TRUNCATED: dict[type, Law] = {
    dist.LeftTruncatedDistribution: Law(_left_truncated, None),
    dist.LeftTruncatedGamma: Law(_left_truncated, None),
    dist.RightTruncatedDistribution: Law(_right_truncated, None),
    dist.RightTruncatedGamma: Law(_right_truncated, None),
    dist.TwoSidedTruncatedDistribution: Law(_truncated, None),
    dist.TwoSidedTruncatedGamma: Law(_truncated, None),
}
LAWS: dict[type, Law] = {
    dist.AsymmetricLaplace: Law(),
    dist.AsymmetricLaplaceQuantile: Law(),
    dist.Beta: Law(_beta, (0.0, 1.0), never=frozenset({"concentration1", "concentration0"})),
    dist.Cauchy: Law(),
    dist.Chi2: Law(ends=_HALF_LINE, once=frozenset({"concentration"})),
    dist.Dagum: Law(ends=_HALF_LINE),
    dist.DoublyTruncatedPowerLaw: Law(_power_law, None),
    dist.Exponential: Law(ends=_HALF_LINE),
    dist.Gamma: Law(ends=_HALF_LINE, once=frozenset({"concentration"})),
    dist.Gompertz: Law(ends=_HALF_LINE),
    dist.Gumbel: Law(),
    dist.HalfCauchy: Law(ends=_HALF_LINE),
    dist.HalfNormal: Law(ends=_HALF_LINE),
    dist.InverseGamma: Law(ends=_HALF_LINE, once=frozenset({"concentration"})),
    dist.Laplace: Law(),
    dist.LogNormal: Law(ends=_HALF_LINE),
    dist.Logistic: Law(),
    dist.Normal: Law(),
    dist.SoftLaplace: Law(),
    dist.StudentT: Law(_student),
    dist.Uniform: Law(lambda d, x: (x - d.low) / (d.high - d.low), None),
    dist.VonMises: Law(_von_mises, None),
    dist.Weibull: Law(ends=_HALF_LINE),
    **_TRUNCATED,
}
