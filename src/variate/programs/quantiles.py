"""A draw as a function of uniform numbers, increasing in each where the law is one of numbers."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.special import betainc, gammaincc, ndtri
from jaxtyping import Array, ArrayLike, Float

from variate.programs import cdfs, distributions
from variate.programs.inversion import invert, invert_count

Uniforms = Float[Array, "..."]


class Transport(NamedTuple):
    """`value(u)` follows the law if the uniforms `u`, of this shape, are independent and uniform on (0, 1)."""

    shape: tuple[int, ...]
    value: Callable[[Uniforms], Array]


def transport(d: Any, shape: tuple[int, ...], dtype: Any) -> Transport | None:
    """How a distribution, whose draws are one array of this shape and type, is made of uniforms; None if not known.

    Numbers take one uniform each, by their quantiles (in the order of their values, if these are finitely many);
    normal and Dirichlet vectors as many as they have elements, a mixture one more than its components.
    """
    if hasattr(d, "transport"):  # a proposal that knows itself
        return d.transport(shape, dtype)
    if not isinstance(d, dist.Distribution):
        return None
    element = distributions.innermost(d)
    batch = shape[: len(shape) - len(element.event_shape)]
    found = _transport(element, batch)
    if found is None:
        return None

    def value(u: Uniforms) -> Array:
        with distributions.numpyro_promotion():
            inside = _inside(u, jnp.result_type(dtype, float) if jnp.issubdtype(dtype, jnp.inexact) else u.dtype)
            return jnp.broadcast_to(found.value(inside), shape).astype(dtype)

    return Transport(found.shape, value)


class Transports(NamedTuple):
    """Several transports of the same uniforms, so many: `values(u)` of each."""

    size: int
    values: Callable[[Uniforms], list[Array]]


def transports(several: Sequence[Any], shape: tuple[int, ...], dtype: Any) -> Transports | None:
    """Of like draws; None where one of them is not known."""
    known = [part for part in (transport(one, shape, dtype) for one in several) if part is not None]
    if len(known) < len(several):
        return None
    sizes = [math.prod(part.shape) for part in known]

    def values(u: Uniforms) -> list[Array]:
        return [part.value(u[:size].reshape(part.shape)) for part, size in zip(known, sizes, strict=True)]

    return Transports(max(sizes), values)


def _inside(u: Uniforms, dtype: Any) -> Uniforms:
    """The uniforms in that type, none of them rounded to 0 or 1."""
    limits = jnp.finfo(dtype)
    return jnp.clip(u.astype(dtype), limits.tiny, 1 - limits.epsneg)


def _transport(d: Any, batch: tuple[int, ...]) -> Transport | None:
    """Of an element, of which there is one for each index of `batch`."""
    if isinstance(d, dist.Delta):
        return Transport((0,), lambda u: jnp.broadcast_to(jnp.asarray(d.v), batch + d.event_shape))
    if isinstance(d, cdfs.MIXTURES):
        return _mixture(d, batch)
    if type(d) in _VECTORS:
        return Transport((*batch, *d.event_shape), functools.partial(_VECTORS[type(d)], d))
    if (values := distributions.support(d)) is not None:
        return Transport(batch, functools.partial(_of_finitely_many, d, values))
    if d.event_shape:
        return None
    known = quantile_of(d, batch)
    return None if known is None else Transport(batch, known)


def quantile_of(d: Any, batch: tuple[int, ...]) -> Callable[[Uniforms], Array] | None:
    """The quantile function of a law of numbers."""
    if type(d) in _QUANTILES:
        return functools.partial(_QUANTILES[type(d)], d)
    try:  # what NumPyro has; it says only when asked that it has not
        with distributions.numpyro_promotion():
            jax.eval_shape(d.icdf, jax.ShapeDtypeStruct(batch, jnp.result_type(float)))
    except (NotImplementedError, ImportError, AttributeError):
        return None
    return d.icdf


def _of_finitely_many(d: Any, values: Array, u: Uniforms) -> Array:
    """By the inverse of the distribution function over the values in their order."""
    table = distributions.element_probs(d)
    table = table / jnp.sum(table, axis=0, keepdims=True)
    below = jnp.cumsum(table, axis=0)[:-1]
    below = below.reshape(len(below), *(1,) * (u.ndim + 1 - below.ndim), *below.shape[1:])
    return values[jnp.sum(u >= below, axis=0)]


def _mixture(d: Any, batch: tuple[int, ...]) -> Transport | None:
    """The first uniform of each chooses the component, the others draw from it."""
    same = isinstance(d, dist.MixtureSameFamily)
    parts = [d.component_distribution] if same else list(d.component_distributions)
    k, event = d.mixture_size, d.event_shape
    laws = [distributions.innermost(part) for part in parts]
    if any(law.event_shape for law in laws):
        return None
    width = math.prod(event)
    shapes = [(*batch, k, *event) if same else (*batch, *event)] * len(laws)
    quantiles = [quantile_of(law, shape) for law, shape in zip(laws, shapes, strict=True)]
    if any(quantile is None for quantile in quantiles):
        return None

    def value(u: Uniforms) -> Array:
        inner = u[..., 1:].reshape(*batch, *event)
        weights = jnp.asarray(d.mixing_distribution.probs)
        chosen = jnp.sum(u[..., :1] >= jnp.cumsum(weights, axis=-1)[..., :-1], axis=-1)
        if same:
            each = jnp.broadcast_to(jnp.expand_dims(inner, len(batch)), shapes[0])
            each = jnp.broadcast_to(quantiles[0](each), shapes[0])  # pyright: ignore[reportOptionalCall]
        else:
            drawn = [jnp.broadcast_to(q(inner), inner.shape) for q in quantiles]  # pyright: ignore[reportOptionalCall]
            each = jnp.stack(drawn, axis=len(batch))
        index = chosen.reshape(*batch, *(1,) * (1 + len(event)))
        return jnp.squeeze(jnp.take_along_axis(each, index, axis=len(batch)), axis=len(batch))

    return Transport((*batch, 1 + width), value)


def _normal_vector(d: Any, u: Uniforms) -> Array:
    return d.loc + jnp.squeeze(d.scale_tril @ ndtri(u)[..., None], axis=-1)


def _dirichlet(d: Any, u: Uniforms) -> Array:
    """Of gammas, on the scale of logarithms because those of small shape are smaller than any float."""
    logs = _log_gamma(d.concentration, u)
    return jax.nn.softmax(logs, axis=-1)


def _log_gamma(shape: ArrayLike, u: Uniforms) -> Array:
    r"""Below the smallest float the distribution function is $x^a / \Gamma(a + 1)$."""
    shape = jnp.broadcast_to(jnp.asarray(shape), u.shape).astype(u.dtype)
    low = jnp.full_like(u, math.log(float(jnp.finfo(u.dtype).tiny)) / 2)
    high = jnp.log(shape + 12 * jnp.sqrt(shape) + 60)
    cdf = lambda t: jax.scipy.special.gammainc(shape, jnp.exp(t))  # noqa: E731
    found = invert(cdf, u, low, high)
    tail = (jnp.log(u) + jax.scipy.special.gammaln(shape + 1)) / shape
    return jnp.where(u < cdf(low), tail, found)


def _gamma(d: Any, u: Uniforms) -> Array:
    return jnp.exp(_log_gamma(d.concentration, u)) / d.rate


def _inverse_gamma(d: Any, u: Uniforms) -> Array:
    return d.rate * jnp.exp(-_log_gamma(d.concentration, 1 - u))


def _beta(d: Any, u: Uniforms) -> Array:
    a, b = (jnp.broadcast_to(x, u.shape).astype(u.dtype) for x in (d.concentration1, d.concentration0))
    reach = jnp.full_like(u, 0.9 * math.log(float(jnp.finfo(u.dtype).max)))
    return jax.nn.sigmoid(invert(lambda t: betainc(a, b, jax.nn.sigmoid(t)), u, -reach, reach))


def _student(d: Any, u: Uniforms) -> Array:
    """Of its absolute value, whose square over `df` plus itself is beta distributed."""
    df = jnp.broadcast_to(jnp.asarray(d.df), u.shape).astype(u.dtype)
    tail = jnp.minimum(u, 1 - u)
    reach = jnp.full_like(u, 0.9 * math.log(float(jnp.finfo(u.dtype).max)))
    # P(|T| > t) = I_{df / (df + t²)}(df / 2, 1 / 2), and the logit of that argument is log(df / t²).
    half = jnp.full_like(u, 0.5)
    logit = invert(lambda s: betainc(df / 2, half, jax.nn.sigmoid(s)), 2 * tail, -reach, reach)
    size = jnp.sqrt(df) * jnp.exp(-logit / 2)
    return d.loc + d.scale * jnp.where(u < 0.5, -size, size)


def _weibull(d: Any, u: Uniforms) -> Array:
    return d.scale * (-jnp.log1p(-u)) ** (1 / d.concentration)


def _kumaraswamy(d: Any, u: Uniforms) -> Array:
    return (-jnp.expm1(jnp.log1p(-u) / d.concentration0)) ** (1 / d.concentration1)


def _von_mises(d: Any, u: Uniforms) -> Array:
    ends = jnp.full_like(u, math.pi)
    return invert(lambda x: cdfs.standardized(d, x), u, -ends, ends)


def _poisson(d: Any, u: Uniforms) -> Array:
    rate = jnp.broadcast_to(jnp.asarray(d.rate), u.shape).astype(u.dtype)
    # Chernoff: beyond this a probability is less than any uniform is near to 1.
    return invert_count(lambda k: gammaincc(k + 1, rate), u, rate + 12 * jnp.sqrt(rate) + 60)


def _negative_binomial(d: Any, u: Uniforms) -> Array:
    r, rate = (jnp.broadcast_to(jnp.asarray(x), u.shape).astype(u.dtype) for x in (d.concentration, d.rate))
    mean, width = r / rate, 1 + 1 / rate  # from width on the tail falls at least as fast as that of a geometric law
    high = mean + 12 * jnp.sqrt(mean * width) + 60 * width
    return invert_count(lambda k: betainc(r, k + 1, rate / (1 + rate)), u, high)


def _geometric(d: Any, u: Uniforms) -> Array:
    return jnp.maximum(jnp.ceil(jnp.log1p(-u) / jnp.log1p(-d.probs)) - 1, 0)


_VECTORS: dict[type, Callable[[Any, Uniforms], Array]] = {
    dist.Dirichlet: _dirichlet,
    dist.MultivariateNormal: _normal_vector,
}
_QUANTILES: dict[type, Callable[[Any, Uniforms], Array]] = {
    dist.Beta: _beta,
    dist.BetaProportion: _beta,
    dist.Chi2: _gamma,
    dist.Gamma: _gamma,
    dist.GammaPoisson: _negative_binomial,
    dist.GeometricLogits: _geometric,
    dist.GeometricProbs: _geometric,
    dist.InverseGamma: _inverse_gamma,
    dist.Kumaraswamy: _kumaraswamy,
    dist.NegativeBinomial2: _negative_binomial,
    dist.NegativeBinomialLogits: _negative_binomial,
    dist.NegativeBinomialProbs: _negative_binomial,
    dist.Poisson: _poisson,
    dist.StudentT: _student,
    dist.VonMises: _von_mises,
    dist.Weibull: _weibull,
}
