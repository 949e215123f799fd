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
    shares every other random number with the run, so the draw adds no noise of its own. Costs elements x (support - 1)
    replays of the program: that of the drawn value is the run itself.

    Args:
        limit: the most values that may be tried in place of one draw, the drawn ones counted too.

    Source: Titsias and Lázaro-Gredilla (2015), Local expectation gradients, eq. 9.
    """

    limit: int = 1024

    def serves(self, facts: Facts) -> str | None:
        if facts.support is None or facts.elements is None:
            return "its support is not finite, or its size is not known before the run"
        if facts.support * facts.elements > self.limit:
            return (
                f"it would try {facts.support * facts.elements} values ({facts.elements} elements with "
                f"{facts.support} each), more than Enumerate(limit={self.limit})"
            )
        return None

    def alternatives(self, distribution: Any, value: Array, key: Key[Array, ""]) -> Alternatives:
        own = distributions.drawn_log_prob(distributions.elementwise(distribution), value)
        support = distributions.support(distribution)
        assert support is not None  # or `serves` had said so
        probabilities = jnp.moveaxis(distributions.element_probs(distribution), 0, -1)
        same = value.reshape(*own.shape, 1, -1) == support.reshape(len(support), -1)
        drawn = jnp.argmax(jnp.all(same, axis=-1), axis=-1, keepdims=True)
        others = (drawn + jnp.arange(1, len(support))) % len(support)
        return Alternatives(own, jnp.take_along_axis(probabilities, others, axis=-1), support[others])
