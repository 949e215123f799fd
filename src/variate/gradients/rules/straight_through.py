"""Straight-through: a drawn value with the derivatives of its probabilities."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Float, Key

from variate.gradients.rules.relaxation import Relaxation, held_at, probabilities


@dataclass(frozen=True)
class StraightThrough(Relaxation):
    r"""$w = 1_x + p_\theta - \mathrm{stop}(p_\theta)$, with $1_x$ one-hot at what was drawn.

    Serves draws of a finite support that is known, with what a program may do with them as in `Relaxation`. The value
    stays that of the program. The gradient is exact where the result is linear in the weights of each element of the
    draw, given the others; else it is biased by what the result bends between two values, and there is nothing that
    would make it less. The noise is little, and the cost one run. The wrong choice for few elements, where `Enumerate`
    is exact, and where the result bends much (`ReinMax`, `GumbelRao`).

    Source: Bengio, Léonard and Courville (2013), Estimating or propagating gradients through stochastic neurons for
    conditional computation.
    """

    def weights(
        self, distribution: Any, drawn: Float[Array, "*elements k"], key: Key[Array, ""]
    ) -> Float[Array, "*elements k"]:
        return held_at(drawn, probabilities(distribution))
