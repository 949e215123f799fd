"""Every solver that follows the probability flow, with its order and what would be wrong in it."""

from dataclasses import dataclass, field
from typing import Any

from variate.diffusion import DDIM, DPMSolverPP, Heun


@dataclass(frozen=True)
class Law:
    """A solver and the order of its convergence; each mutant is a solver that is not of this order."""

    solver: Any
    order: int
    evaluations: int = 1  # a step
    mutants: dict[str, Any] = field(default_factory=dict)


LAWS = {
    "DDIM": Law(DDIM(), 1),
    "Heun": Law(Heun(), 2, evaluations=2),
    "DPM-Solver++": Law(DPMSolverPP(), 2),
}
