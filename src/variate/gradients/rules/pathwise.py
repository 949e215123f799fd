"""Pathwise: the derivative goes through the drawn value."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Array

from variate.gradients.base import Facts
from variate.programs.primitive import sample_leaves
from variate.programs.program import Site


@dataclass(frozen=True)
class Pathwise:
    r"""$\nabla_\theta E f(x) = E\,\nabla_\theta f(x_\theta(\epsilon))$, by reparameterization.

    Serves the continuous distributions whose sampler JAX differentiates, explicitly (location and scale) or
    implicitly (Gamma, Beta, Dirichlet, Student's t). Usually the rule of least variance where it is legal. It is wrong
    where the path is broken: over a comparison, `floor`, a branch, an integer cast the derivative of one run misses
    the change of the probability to land on either side, and `vt.grad` refuses it with `BiasedGradientError`.

    Source: Kingma and Welling (2014), eq. 4; implicit: Figurnov, Mohamed and Mnih (2018), eq. 5.
    """

    def refuse(self, facts: Facts) -> str | None:
        if facts.discrete:
            return "its values are discrete, so they do not move with its parameters"
        return None

    def bias(self, facts: Facts) -> str | None:
        where = [*facts.rough.values(), *facts.breaks]
        if not where:
            return None
        who = "its own sampler" if facts.rough else "the path from it to the result"
        return f"{who} is discontinuous: {where[0]}"

    def draw(self, site: Site, operands: Sequence[Array]) -> tuple[list[Array], Any]:
        return sample_leaves(site.structure, site.lanes)(*operands), None
