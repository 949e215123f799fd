"""Marginal straight-through: a drawn mask with the derivatives of its inclusion probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float

from variate.gradients.base import Facts, fixed_sample
from variate.gradients.rules.relaxation import Relaxation, held_at
from variate.gradients.rules.structured_relaxation import why_not_moved
from variate.programs import distributions
from variate.programs.primitive import over_lanes
from variate.programs.program import Site


@runtime_checkable
class Includes(Protocol):
    """A distribution over masks that knows the mean of its draws."""

    def inclusion_probabilities(self) -> Float[Array, "..."]:
        """For each number of a draw the probability that it is one."""
        ...


@dataclass(frozen=True)
class MarginalStraightThrough(Relaxation):
    r"""$x + \mu_\theta - \mathrm{stop}(\mu_\theta)$, with the inclusion probabilities $\mu_\theta = E\, x$ of a mask.

    Serves distributions with a method `inclusion_probabilities()`: `ConditionalPoisson`, `TopK` and `NMMask` of
    `vt.subsets`, or one's own. The value stays that of the program. The gradient is exact where the result is linear in
    the mask; else it is biased by what the result bends, and there is no temperature that would make it less. The noise
    is little, and the cost one run and the probabilities. Refused is what `StructuredRelaxation` refuses. The wrong
    choice where the items of a set matter to each other (`Score`).

    Source: Ahmed, Zeng, Niepert and Van den Broeck (2023), SIMPLE: a gradient estimator for k-subset sampling.
    """

    def refuse(self, facts: Facts) -> str | None:
        return why_not_moved(facts, Includes, "method inclusion_probabilities()")

    def draw(self, site: Site, operands: Sequence[Array]) -> tuple[list[Array], Any]:
        def one(key: Array, *arrays: Array) -> Array:
            with distributions.numpyro_promotion():
                return site.structure.build(arrays).inclusion_probabilities()

        (value,) = fixed_sample(site, operands)
        return [held_at(value, over_lanes(one, site.lanes)(*operands))], None
