"""Enumeration: every value of a draw is tried, the rest of the run kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from variate.gradients.base import Facts, fixed_sample
from variate.programs import distributions
from variate.programs.primitive import over_lanes
from variate.programs.staging import Site


class Table(NamedTuple):
    """The record of an enumerated draw: of its value, and of every value that each element could have had."""

    log_prob: Float[Array, " elements"]
    log_probs: Float[Array, "elements support"]
    support: Array  # [elements, support, *event]


@dataclass(frozen=True)
class Enumerate:
    r"""$\sum_i \sum_k \nabla_\theta p_\theta(x_i = k)\, E[f \mid x_{<i}, x_i = k]$ over the elements $i$ of a draw.

    Each element of the draw (over loops and lanes too) is replaced by each value of its support in a replay that
    shares every other random number with the run, so the draw adds no noise of its own. Costs elements x support
    replays of the program.

    Args:
        limit: the most replays that one draw may cost.

    Source: Titsias and Lázaro-Gredilla (2015), Local expectation gradients, eq. 9.
    """

    limit: int = 1024

    def refuse(self, facts: Facts) -> str | None:
        if facts.unbounded:
            return "it is inside a while_loop, where the number of draws is random"
        if facts.support is None or facts.elements is None:
            return "its support is not finite, or its size is not known before the run"
        if facts.order > 1 and facts.looped:
            return "it is inside a loop, where only its first derivative is available"
        if facts.shared_key:
            return facts.shared_key
        if facts.support * facts.elements > self.limit:
            return (
                f"it would take {facts.support * facts.elements} replays ({facts.elements} elements with "
                f"{facts.support} values each), more than Enumerate(limit={self.limit})"
            )
        return None

    def bias(self, facts: Facts) -> str | None:
        return None

    def draw(self, site: Site, operands: Sequence[Array]) -> tuple[list[Array], Any]:
        values = fixed_sample(site, operands)
        return values, table(site, values, operands)


def table(site: Site, values: Sequence[Array], operands: Sequence[Array]) -> Table:
    """Log probabilities and support of every element of a draw, lanes and elements in one axis."""

    def one(value: Array, key: Array, *arrays: Array) -> tuple[Array, Array, Array]:
        distribution = site.structure.build(arrays)
        log_probs = jnp.moveaxis(distributions.element_log_probs(distribution), 0, -1)
        own = distributions.drawn_log_prob(distributions.elementwise(distribution), value)
        support = distributions.support(distribution)
        assert support is not None  # or `refuse` had said so
        spread = jnp.broadcast_to(support, (*own.shape, *support.shape))
        return own, log_probs, lax.stop_gradient(spread)

    own, log_probs, support = over_lanes(one, site.lanes, 1)(values[0], *operands)
    size, count = log_probs.shape[-1], own.size
    return Table(
        own.reshape(count), log_probs.reshape(count, size), support.reshape(count, size, *support.shape[own.ndim + 1 :])
    )


def override(values: Sequence[Array], element: Array, replacement: Array) -> list[Array]:
    """A drawn value with one of its elements replaced."""
    (value,) = values
    flat = value.reshape(-1, *replacement.shape)
    return [flat.at[element].set(replacement.astype(value.dtype)).reshape(value.shape)]
