"""Marginalization: all outcomes of several draws together are gone through, so that these add no noise."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from variate import checks
from variate.gradients.base import Facts, Replay, by_lane, fixed_sample
from variate.programs import distributions
from variate.programs.program import Site
from variate.programs.simulation import log_prob


@dataclass(frozen=True)
class Marginalize(Replay):
    r"""$\nabla_\theta \sum_k p_\theta(x = k)\, f_\theta(k)$, in which $x$ are all draws of this rule together.

    The program is replayed once for each of their joint outcomes, with every other random number that of the run. Where
    all draws have it the value is exact and so is the gradient, of every order, and one sample is enough; else they
    have the noise of the others alone. Serves draws of finite support whose number of elements is known before the run,
    also those that nothing differentiated moves, whose noise goes too. What depends on them must have the rule as well,
    take its path (`Pathwise`) or need no rule. The wrong choice for more than a few elements: outcomes multiply, where
    the replays of `Enumerate` add up.

    Args:
        limit: the most outcomes that may be gone through.

    Source: Schulman, Heess, Weber and Abbeel (2015), Gradient estimation using stochastic computation graphs, section
    2.1: the sum that estimators stand for, taken in full; Storchastic calls it `Expect`.
    """

    limit: int = 1024

    def __post_init__(self) -> None:
        checks.check_positive_int("limit", self.limit)

    def refuse(self, facts: Facts) -> str | None:
        if facts.unbounded or facts.support is None or facts.elements is None:
            return "its support is not finite, or its size is not known before the run"
        if any(loop.kind == "cond" for loop in facts.site.loops):
            return "it is inside a branch, where it is not drawn in all outcomes"
        if facts.support**facts.elements > self.limit:
            return (
                f"it has {facts.support}^{facts.elements} outcomes ({facts.elements} elements with {facts.support} "
                f"each), more than Marginalize(limit={self.limit})"
            )
        return facts.shared_key

    def draw(self, site: Site, operands: Sequence[Array]) -> tuple[list[Array], Any]:
        values = fixed_sample(site, operands)
        return values, log_prob(site, values, operands)


def chosen(
    site: Site, places: Int[Array, " elements"], operands: Sequence[Array]
) -> tuple[list[Array], Float[Array, ""]]:
    """The value of a draw whose elements have these places in its support, and the probability of it.

    In a lane the elements come in their own order, lanes before them.
    """
    lanes = tuple(lane.size for lane in reversed(site.lanes))

    def one(distribution: Any, places: Array, key: Key[Array, ""]) -> tuple[Array, Array]:
        support, table = distributions.support(distribution), distributions.element_probs(distribution)
        assert support is not None  # or the rule had refused
        places = places.reshape(table.shape[1:])
        here = places == jnp.arange(len(support)).reshape(-1, *(1,) * places.ndim)
        return support[places], product([jnp.sum(jnp.where(here, table, 0), axis=0)])

    value, probabilities = by_lane(one, site, places.reshape(*lanes, -1), operands)
    (_, dtype) = site.event.leaves[0]
    return [lax.stop_gradient(value).astype(dtype)], product([probabilities])


def product(factors: Sequence[Float[Array, "..."]]) -> Float[Array, ""]:
    """Of all numbers in arrays that have few, as outcomes do: one by one, which XLA fuses with the slopes."""
    numbers = [x for factor in factors for x in (factor.reshape(-1) if factor.ndim else [factor])]
    return functools.reduce(jnp.multiply, numbers)
