"""What every gradient rule is given and owes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jax import lax
from jaxtyping import Array

from variate.programs.dataflow import Break
from variate.programs.primitive import sample_leaves
from variate.programs.staging import Site


class BiasedGradientError(ValueError):
    """A gradient would be wrong in silence: the derivative of one run is not that of the expectation."""


@dataclass(frozen=True)
class Facts:
    """What dataflow knows of one draw.

    `moved`: the operands through which its distribution depends on what is differentiated. `rough`: those of them with
    which the sampler does not move smoothly. `edges`: those of them that move the support. `kinks`: where its log
    probability has a kink in them that matters at this order. `breaks`: where the drawn value meets a discontinuity on
    the way to the result. `support`: the number of values of one element, if finite and known. `elements`: how many
    elements it draws in a run, over loops and lanes. `shared_key`: why its key is not its own.
    """

    site: Site
    discrete: bool
    moved: frozenset[int]
    rough: dict[int, Break]
    edges: frozenset[int]
    breaks: tuple[Break, ...]
    support: int | None
    elements: int | None
    kinks: tuple[Break, ...]
    shared_key: str | None
    looped: bool  # inside a loop
    unbounded: bool  # inside a `while`, which may run any number of times
    order: int  # of the derivatives that will be taken


@runtime_checkable
class Rule(Protocol):
    """How one draw contributes to the gradient of an expectation.

    A draw's value is `stop_gradient`ed unless the rule moves it with the parameters; what the rule needs later (log
    probabilities) goes into its record.
    """

    def refuse(self, facts: Facts) -> str | None:
        """Why this rule cannot serve that draw; None if it can."""
        ...

    def bias(self, facts: Facts) -> str | None:
        """Why its gradient would be biased there; None if it would not."""
        ...

    def draw(self, site: Site, operands: Sequence[Array]) -> tuple[list[Array], Any]:
        """The drawn value's leaves, and a record: a pytree of arrays or None."""
        ...


def fixed_sample(site: Site, operands: Sequence[Array]) -> list[Array]:
    """The drawn value, held fixed under differentiation."""
    return lax.stop_gradient(sample_leaves(site.structure, site.lanes)(*lax.stop_gradient(list(operands))))
