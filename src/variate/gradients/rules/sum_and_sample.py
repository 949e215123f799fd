"""Sum and sample: the likeliest values of a draw are tried, and one of the rest for all of them."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from variate import checks
from variate.gradients.base import Alternatives, Facts, Replay
from variate.gradients.rules.enumerate import Enumerate
from variate.programs import distributions


@dataclass(frozen=True)
class SumAndSample(Replay):
    r"""$\sum_i \left(\sum_{k \in K_i} \nabla_\theta p_\theta(x_i = k)\, f(x_i = k) + \frac{\nabla_\theta p_\theta(x_i =
    v)}{q(v)}\, f(x_i = v)\right)$ over the elements $i$ of a draw, with $v \sim q$.

    $K_i$ are the most probable values of an element, and $q$ is proportional to the probabilities of the others. Each
    element of the draw (over loops and lanes too) takes as many replays as there are values in $K_i$, and one more; all
    of them share every other random number with the run. Serves draws of finite support. Choose it where a few values
    have most of the probability and `Enumerate` would take too many replays; where at most one value is left it is
    `Enumerate`. The wrong choice for draws of many elements, each of which takes its replays, and for values all alike
    in probability (`UnorderedSet`).

    Args:
        size: how many values of an element are summed over.
        limit: the most replays that one draw may cost.

    Source: Liu, Regier, Tripuraneni, Jordan and McAuliffe (2019), Rao-Blackwellized stochastic gradients for discrete
    distributions.
    """

    size: int = 1
    limit: int = 1024

    def __post_init__(self) -> None:
        checks.check_positive_int("size", self.size)
        checks.check_positive_int("limit", self.limit)

    def serves(self, facts: Facts) -> str | None:
        return why_not_some(self, facts, self.size + 1, self.limit)

    def alternatives(self, distribution: Any, value: Array, key: Key[Array, ""]) -> Alternatives:
        support = distributions.support(distribution)
        assert support is not None  # or `serves` had said so
        if len(support) <= self.size + 1:
            return Enumerate().alternatives(distribution, value, key)
        own = distributions.drawn_log_prob(distributions.elementwise(distribution), value)
        probabilities = jnp.moveaxis(distributions.element_probs(distribution), 0, -1)
        order = jnp.argsort(lax.stop_gradient(probabilities), axis=-1, descending=True)
        rest = positive(jnp.take_along_axis(probabilities, order[..., self.size :], axis=-1))
        pick = one_of(key, rest)[..., None]
        chosen = jnp.concatenate(
            [order[..., : self.size], jnp.take_along_axis(order[..., self.size :], pick, axis=-1)], -1
        )
        weights = jnp.take_along_axis(probabilities, chosen, axis=-1)
        weights = weights.at[..., -1].divide(jnp.take_along_axis(rest, pick, axis=-1)[..., 0])
        return Alternatives(own, weights, support[chosen])


def one_of(key: Key[Array, ""], probabilities: Float[Array, "*elements values"]) -> Int[Array, "*elements"]:
    return jax.random.categorical(key, jnp.log(probabilities))


def positive(probabilities: Float[Array, "*elements values"]) -> Float[Array, "*elements values"]:
    """Fixed, none of them zero, so that the derivative of one that is zero has its chance, and of sum one."""
    fixed = lax.stop_gradient(probabilities)
    fixed = jnp.maximum(fixed, jnp.finfo(fixed.dtype).eps)
    return fixed / jnp.sum(fixed, axis=-1, keepdims=True)


def why_not_some(rule: Replay, facts: Facts, values: int, limit: int) -> str | None:
    """Why a rule that tries so many values of an element cannot serve that draw; None if it can."""
    if facts.support is None or facts.elements is None:
        return "its support is not finite, or its size is not known before the run"
    if facts.order > 1:
        return "only its first derivative is available"
    values = min(values, facts.support)
    if (replays := values * facts.elements) > limit:
        return (
            f"it would take {replays} replays ({facts.elements} elements with {values} values each), "
            f"more than {type(rule).__name__}(limit={limit})"
        )
    return None
