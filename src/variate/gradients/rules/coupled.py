"""Coupled finite perturbation: a count moves by one, as often as its parameter says."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import lax
from jax.nn import sigmoid
from jaxtyping import Array, Float, Key

from variate.gradients.base import Alternatives, Facts, Replay
from variate.programs import distributions


@dataclass(frozen=True)
class Coupled(Replay):
    r"""$\nabla_\theta E f(x) = -E\, \frac{\nabla_\theta F_\theta(x)}{p_\theta(x)} (f(x + 1) - f(x))$ for a count $x$.

    $F$ is the distribution function: what moves past $x$ as the parameters move lands one value further. Each element
    of the draw (over loops and lanes too) takes one replay, which shares every other random number with the run.
    Serves draws of finite support, in the order of their values, and binomial, Poisson, geometric and negative binomial
    counts (of which the number of failures may not move). Much less noise than `Score` where a step of one changes the
    result little. The wrong choice for a support whose order means nothing, where `Enumerate` is exact, and for
    draws of many elements, each of which takes its replay.

    Args:
        limit: the most replays that one draw may cost.

    Source: Gong and Ho (1987), smoothed perturbation analysis; as weighted finite perturbations in programs by Arya et
    al. (2022), Automatic differentiation of programs with discrete randomness, sec. 2.
    """

    limit: int = 1024

    def serves(self, facts: Facts) -> str | None:
        known = facts.law in _FLOWS
        if not known and facts.support is None:
            return f"the finite perturbation of {facts.law.__name__} is not known, nor is a finite support"
        fixed = facts.parameters & {"concentration", "total_count"}
        if known and fixed:
            return f"the finite perturbation of {facts.law.__name__} by its {min(fixed)} is not known"
        if facts.order > 1:
            return "only its first derivative is available"
        if facts.elements is not None and facts.elements > self.limit:
            return f"it would take {facts.elements} replays, more than Coupled(limit={self.limit})"
        return None

    def alternatives(self, distribution: Any, value: Array, key: Key[Array, ""]) -> Alternatives:
        own = distributions.drawn_log_prob(distributions.elementwise(distribution), value)
        law = distributions.innermost(distribution)
        if flow := _FLOWS.get(type(law)):
            weight, following = flow(law, value), value + 1
        else:
            weight, following = _through_table(distribution, value)
        weight = jnp.broadcast_to(weight, own.shape)
        return Alternatives(own, weight[..., None], following[..., None])


def _through_table(distribution: Any, value: Array) -> tuple[Float[Array, "*batch"], Array]:
    """$-F(x) / p(x)$, the divisor fixed, and the value after $x$, from the probabilities of all values."""
    support = distributions.support(distribution)
    assert support is not None  # or `serves` had said so
    table = distributions.element_probs(distribution)
    index = jnp.searchsorted(support, value.astype(support.dtype))
    below = jnp.take_along_axis(jnp.cumsum(table, axis=0), index[None], axis=0)[0]
    here = jnp.take_along_axis(table, index[None], axis=0)[0]
    last = len(support) - 1
    weight = jnp.where(index == last, 0, -below / lax.stop_gradient(here))
    return weight, support[jnp.minimum(index + 1, last)].astype(value.dtype)


def _poisson(law: Any, x: Array) -> Array:
    return law.rate


def _geometric(law: Any, x: Array) -> Array:
    return -_held((x + 1) / law.probs) * law.probs


def _binomial(law: Any, x: Array) -> Array:
    left = law.total_count - x
    return _held(jnp.where(left > 0, left / (1 - law.probs), 0)) * law.probs


def _negative_binomial(law: Any, x: Array) -> Array:
    success = sigmoid(-jnp.log(law.rate))  # of the trials that the successes before failure number r = concentration
    return _held((law.concentration + x) / (1 - success)) * success


def _held(x: Array) -> Array:
    return lax.stop_gradient(x)


# $-F(x) / p(x)$ of laws on the whole numbers, up to what has no derivative.
_FLOWS: dict[type, Callable[[Any, Array], Float[Array, "..."]]] = {
    dist.Poisson: _poisson,
    dist.GeometricProbs: _geometric,
    dist.GeometricLogits: _geometric,
    dist.BinomialProbs: _binomial,
    dist.BinomialLogits: _binomial,
    dist.GammaPoisson: _negative_binomial,
    dist.NegativeBinomialProbs: _negative_binomial,
    dist.NegativeBinomialLogits: _negative_binomial,
    dist.NegativeBinomial2: _negative_binomial,
}
