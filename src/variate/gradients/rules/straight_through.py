"""Straight-through: a drawn value with the derivatives of its expectation."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Float, Key

from variate.gradients.rules.relaxation import Relaxation, probabilities, straight_through


@dataclass(frozen=True)
class StraightThrough(Relaxation):
    r"""$w = 1_x + p_\theta - \mathrm{stop}(p_\theta)$."""

    def weights(
        self, distribution: Any, drawn: Float[Array, "*elements k"], key: Key[Array, ""]
    ) -> Float[Array, "*elements k"]:
        return straight_through(drawn, probabilities(distribution))
