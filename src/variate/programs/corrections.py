"""What NumPyro 0.22 has wrong in densities and samplers, put right.

| class | where | NumPyro 0.22 | right |
|---|---|---|---|
| `BernoulliLogits` | gradient at a logit of 0 | $0$ or $1$ | $x - 1/2$ |
| `BinomialLogits` | gradient at a logit of 0 | $0$, or $x$ if $x > 0$ | $x - n/2$ |
| both | a logit of NaN | some number, for Bernoulli | NaN |
| `BernoulliProbs`, `BinomialProbs` | gradient at a probability of 0 or 1 | 0 | $-n$, $n$ |
| `GeometricProbs` | $p = 1$, $x = 0$ | $-\\infty$ | 0 |
| `Poisson`, `MultinomialProbs` | gradient at $x = 0$ with rate or probability 0 | NaN | $-1$, 0 |
| `ZeroInflatedProbs` | gradient at a gate of 1, $x = 0$ | NaN | $1 - p(0)$ |
| `HurdleProbs` | gradient at a gate of 0 or 1 | NaN | $-1$, 1 |
| mixtures | gradient in a weight that is 0 | 0 | $(p_k - p) / p$ |
| `GammaPoisson`, `NegativeBinomial{Probs,2}`, | beta functions of 8 and more | $10^{-6}$ off | double precision |
| `BetaBinomial`, `BetaNegativeBinomial` | second derivative at beta functions of equals | $\\pi^2/12$ off | no kink |
| `DoublyTruncatedPowerLaw` | gradient in `low` and `high`, everywhere | the density's | the log density's |
| `ProjectedNormal` | opposite a concentration of 6 and more | cancelled away | tail kept |
| `Hurdle*` on counts | sampler | uses a key twice | does not |
| `TruncatedPolyaGamma` | sampler | mean too small by 2.5% | exact mean and variance |
| `Levy` | support, made anew as a pytree | forgotten | from the location on |
"""

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import lax
from jax.nn import log1mexp, log_sigmoid, softplus
from jax.scipy.special import erfc, gammaln, xlog1py, xlogy
from jaxtyping import Array, Key, PyTree
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample

from variate.programs.special import betaln, hold, log_choose, log_sinhc, log_sum, together, trials


def corrected(d: PyTree) -> PyTree:
    """`d` with whatever is wrong in it replaced by its right twin, wherever it is nested."""
    nodes = jax.tree.leaves(d, is_leaf=_is_wrong)
    return jax.tree.map(_put_right, d, is_leaf=_is_wrong) if any(map(_is_wrong, nodes)) else d


def _is_wrong(node: Any) -> bool:
    return isinstance(node, dist.Distribution) and bool(_wrong_methods(type(node)))


def _put_right(node: Any) -> Any:
    if not _is_wrong(node):
        return node
    twin = object.__new__(_twin(type(node)))
    twin.__dict__.update(vars(node))
    return corrected(twin)


@functools.cache
def _wrong_methods(cls: type) -> dict[str, Any]:
    """By the function itself, so that a class that inherits a wrong one is found and one that replaces it is not."""
    methods = {name: getattr(cls, name) for name in ("sample", "log_prob")}
    methods["support"] = getattr(cls.support, "fget", None)  # None of a class with one support
    return {name: _RIGHT[method] for name, method in methods.items() if method in _RIGHT}


@functools.cache
def _twin(cls: type) -> type:
    return type(cls)(cls.__name__, (cls,), _wrong_methods(cls))


def _bernoulli_logits(d: Any, x: Array) -> Array:
    # Linear in x, because grey pixels are observed with it too; written as most people write it, so that XLA finds a
    # cost that contains the same log probability and computes it once.
    plain = x * d.logits - softplus(d.logits)
    if d._validate_args is False:  # of a draw, whose logit has to be finite
        return plain
    certain = jnp.where((x == 1) == (d.logits > 0), 0.0, -jnp.inf)
    return jnp.where(jnp.isinf(d.logits), certain, plain)


def _bernoulli_probs(d: Any, x: Array) -> Array:
    return trials(1, x, d.probs)


def _binomial_logits(d: Any, x: Array) -> Array:
    n = jnp.asarray(d.total_count, float)
    return log_choose(n, x) + x * log_sigmoid(d.logits) + (n - x) * log_sigmoid(-d.logits)


def _binomial_probs(d: Any, x: Array) -> Array:
    n = jnp.asarray(d.total_count, float)
    return log_choose(n, x) + trials(n, x, d.probs)


def _geometric_probs(d: Any, x: Array) -> Array:
    return x * jnp.log1p(-hold(x == 0, d.probs)) + jnp.log(d.probs)


def _poisson(d: Any, x: Array) -> Array:
    rate = jnp.asarray(d.rate, float)
    return x * jnp.log(hold(x == 0, rate, jnp.inf)) - gammaln(x + 1.0) - rate


def _multinomial_probs(d: Any, x: Array) -> Array:
    terms = x * jnp.log(hold(x == 0, d.probs)) - gammaln(x + 1.0)
    return gammaln(d.total_count + 1.0) + jnp.sum(terms, axis=-1)


def _zero_inflated_probs(d: Any, x: Array) -> Array:
    zero, base, gate = x == 0, *jnp.broadcast_arrays(d.base_dist.log_prob(x), d.gate)
    terms = jnp.stack([jnp.zeros_like(base), jnp.where(zero, base, 0)], axis=-1)
    at_zero = log_sum(terms, jnp.stack([gate, 1 - gate], axis=-1))
    return jnp.where(zero, at_zero, jnp.log1p(-jnp.where(zero, 0, gate)) + base)


def _hurdle_probs(d: Any, x: Array) -> Array:
    zero = x == 0
    positive = jnp.log1p(-jnp.where(zero, 0, d.gate)) + d.base_dist.log_prob(jnp.where(zero, jnp.ones_like(x), x))
    if d.support.is_discrete:
        positive -= log1mexp(-d.base_dist.log_prob(jnp.zeros((), int)))
    return jnp.where(zero, jnp.log(jnp.where(zero, d.gate, 1)), positive)


def _mixture(d: Any, x: Array) -> Array:
    mixing = d.mixing_distribution
    if not isinstance(mixing, dist.CategoricalProbs):
        return _NUMPYRO_MIXTURE(d, x)
    even = copy.copy(d)
    even.__dict__["_mixing_distribution"] = dist.CategoricalLogits(jnp.zeros_like(mixing.probs))
    terms = even.component_log_probs(x) + math.log(d.mixture_size)
    # As in NumPyro: no derivative enters a component that cannot have produced x, and the weights are normalized.
    terms = jnp.where(jnp.isneginf(terms), -jnp.inf, terms)
    weights = jnp.asarray(mixing.probs)
    return log_sum(terms, weights) - jnp.log(jnp.sum(weights, axis=-1))


def _gamma_poisson(d: Any, x: Array) -> Array:
    x, c, rate = (jnp.asarray(part, float) for part in (x, d.concentration, d.rate))
    return -betaln(c, x + 1) - jnp.log(c + x) + xlogy(-c, 1 + 1 / rate) - xlog1py(x, rate)


def _beta_binomial(d: Any, x: Array) -> Array:
    a, b, n = d.concentration1, d.concentration0, jnp.asarray(d.total_count, float)
    ones, others = jnp.split(together(x + a, a, n - x + b, b), 2)
    after, before = betaln(ones, others)
    return log_choose(n, x) + after - before


def _beta_negative_binomial(d: Any, x: Array) -> Array:
    a, b, n = d.concentration1, d.concentration0, d.n
    ones, others = jnp.split(together(a + x, a, b + n, b), 2)
    after, before = betaln(ones, others)
    whole, failures, successes = gammaln(together(n + x, n, x + 1.0))
    return whole - failures - successes + after - before


def _double_power_law(d: Any, x: Array) -> Array:
    # The integral of x^alpha over [low, high], written so that alpha = -1 is a point like any other.
    power, from_zero = d.alpha + 1, d.low == 0
    low, high = jnp.log(jnp.where(from_zero, d.high / 2, d.low)), jnp.log(d.high)
    inside = jnp.log(high - low) + power * (high + low) / 2 + log_sinhc(power * (high - low) / 2)
    all_of_it = power * high - jnp.log(jnp.where(from_zero, power, 1))
    return d.alpha * jnp.log(x) - jnp.where(from_zero, all_of_it, inside)


def _projected_normal(d: Any, x: Array) -> Array:
    c = jnp.asarray(d.concentration)
    if c.shape[-1] not in (2, 3):
        return _NUMPYRO_PROJECTED(d, x)
    t = jnp.sum(c * x, axis=-1)
    across = 0.5 * (jnp.sum(c * c, axis=-1) - t * t)
    bell, tail = jnp.exp(-0.5 * t * t) / math.sqrt(2 * math.pi), 0.5 * erfc(-t / math.sqrt(2))
    if c.shape[-1] == 2:
        return jnp.log(bell + t * tail) - across - 0.5 * math.log(2 * math.pi)
    return jnp.log(t * bell + (1 + t * t) * tail) - across - math.log(2 * math.pi)


def _hurdle_sample(d: Any, key: Key[Array, ""], sample_shape: tuple[int, ...] = ()) -> Array:
    key_gate, key_base = jax.random.split(key)

    def redraw(state: tuple[Array, Array]) -> tuple[Array, Array]:
        key, drawn = state
        key, key_again = jax.random.split(key)
        return key, jnp.where(drawn == 0, d.base_dist.sample(key_again, sample_shape), drawn)

    if d.support.is_discrete:
        nothing = jax.eval_shape(lambda k: d.base_dist.sample(k, sample_shape), key_base)
        start = key_base, jnp.zeros(nothing.shape, nothing.dtype)
        other = jnp.broadcast_to(d.base_dist.log_prob(jnp.zeros((), int)) < 0, nothing.shape)  # or it would never end
        _, positive = lax.while_loop(lambda state: jnp.any((state[1] == 0) & other), redraw, start)
    else:
        positive = d.base_dist.sample(key_base, sample_shape)
    zero = jax.random.bernoulli(key_gate, d.gate, sample_shape + d.batch_shape)
    return jnp.where(zero, jnp.zeros_like(positive), positive)


def _polya_gamma_sample(d: Any, key: Key[Array, ""], sample_shape: tuple[int, ...] = ()) -> Array:
    r"""The sum of $g_k / (k + 1/2)^2$, the terms past the eighth as one Gamma of their mean and variance."""
    weights = 1 / jnp.square(jnp.arange(d.num_gamma_variates) + 0.5)
    mean = math.pi**2 / 2 - jnp.sum(weights)
    variance = math.pi**4 / 6 - jnp.sum(weights**2)
    key_terms, key_rest = jax.random.split(key)
    shape = (*sample_shape, *d.batch_shape)
    terms = jax.random.exponential(key_terms, (*shape, weights.size)) @ weights
    rest = jax.random.gamma(key_rest, mean**2 / variance, shape) * variance / mean
    return jnp.clip((terms + rest) / (2 * math.pi**2), None, d.truncation_point)


def _from_the_location_on(d: Any) -> constraints.Constraint:
    return constraints.greater_than(d.loc)


_NUMPYRO_MIXTURE: Callable = dist.MixtureSameFamily.log_prob
_NUMPYRO_PROJECTED: Callable = dist.ProjectedNormal.log_prob
_RIGHT: dict[Any, Any] = {
    wrong.log_prob: validate_sample(right)
    for wrong, right in {
        dist.BernoulliLogits: _bernoulli_logits,
        dist.BernoulliProbs: _bernoulli_probs,
        dist.BinomialLogits: _binomial_logits,
        dist.BinomialProbs: _binomial_probs,
        dist.GeometricProbs: _geometric_probs,
        dist.Poisson: _poisson,
        dist.MultinomialProbs: _multinomial_probs,
        dist.ZeroInflatedProbs: _zero_inflated_probs,
        dist.HurdleProbs: _hurdle_probs,
        dist.MixtureSameFamily: _mixture,
        dist.GammaPoisson: _gamma_poisson,
        dist.BetaBinomial: _beta_binomial,
        dist.BetaNegativeBinomial: _beta_negative_binomial,
        dist.DoublyTruncatedPowerLaw: _double_power_law,
    }.items()
} | {
    dist.ProjectedNormal.log_prob: _projected_normal,
    dist.HurdleProbs.sample: _hurdle_sample,
    dist.TruncatedPolyaGamma.sample: _polya_gamma_sample,
    vars(dist.Levy)["support"].fget: property(_from_the_location_on),
}
