"""Enumeration: every value of a draw is tried, the rest of the run kept."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Key

from variate.gradients.base import Alternatives, Facts, Replay
from variate.programs import distributions


@dataclass(frozen=True)
class Enumerate(Replay):
    r"""$\sum_i \sum_k \nabla_\theta p_\theta(x_i = k)\, E[f \mid x_{<i}, x_i = k]$ over the elements $i$ of a draw.

    Each element of the draw (over loops and lanes too) is replaced by each value of its support in a replay that
    shares every other random number with the run, so the draw adds no noise of its own. Costs elements x support
    replays of the program.

    Args:
        limit: the most replays that one draw may cost.

    Source: Titsias and Lázaro-Gredilla (2015), Local expectation gradients, eq. 9.
    """

    limit: int = 1024

    def serves(self, facts: Facts) -> str | None:
        if facts.support is None or facts.elements is None:
            return "its support is not finite, or its size is not known before the run"
        if facts.support * facts.elements > self.limit:
            return (
                f"it would take {facts.support * facts.elements} replays ({facts.elements} elements with "
                f"{facts.support} values each), more than Enumerate(limit={self.limit})"
            )
        return None

    def alternatives(self, distribution: Any, value: Array, key: Key[Array, ""]) -> Alternatives:
        own = distributions.drawn_log_prob(distributions.elementwise(distribution), value)
        support = distributions.support(distribution)
        assert support is not None  # or `serves` had said so
        probabilities = jnp.moveaxis(distributions.element_probs(distribution), 0, -1)
        return Alternatives(own, probabilities, jnp.broadcast_to(support, (*own.shape, *support.shape)))
