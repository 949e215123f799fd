"""Every solver that follows the probability flow, with its order and what would be wrong in it."""

import functools
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import numpy as np

from variate.diffusion import DDIM, AcceleratedDDIM, DPMSolver, DPMSolverPP, DPMSolverPPSinglestep, Euler, Genie, Heun


@dataclass(frozen=True)
class Law:
    """A solver and the order of its convergence; each mutant is a solver that is not of this order."""

    solver: Any
    order: int
    evaluations: int = 1  # a step
    mutants: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Tampered:
    """A solver whose plan has been changed."""

    solver: Any
    change: Any

    def plan(self, process: Any, times: Any) -> Any:
        return self.change(_planned(self.solver, process, tuple(times)))


@functools.cache
def _planned(solver: Any, process: Any, times: Any) -> Any:
    return solver.plan(process, np.asarray(times))


def _bent(row: int, factor: float) -> Any:
    """Another slope in one evaluation of each step of order three, against the prediction at its start."""

    def change(plan: Any) -> Any:
        def columns(plan: Any) -> Any:
            return plan.x.history[0], plan.x.history[row]

        new, old = (column.copy() for column in columns(plan))
        old[row::3] += (1 - factor) * new[row::3]
        new[row::3] *= factor
        return eqx.tree_at(columns, plan, (new, old))

    return change


def _asked_at_the_start(plan: Any) -> Any:
    return eqx.tree_at(lambda plan: plan.level, plan, jax.tree.map(lambda leaf: np.repeat(leaf[::2], 2), plan.level))


def _still(plan: Any) -> Any:
    return eqx.tree_at(lambda plan: plan.x.x, plan, np.ones_like(plan.x.x))


def _thirds(solver: Any) -> Law:
    mutants = {
        "the slope is seen over the whole step": Tampered(solver, _bent(2, 2 / 3)),
        "no slope within the step": Tampered(solver, _bent(1, 0.0)),
    }
    return Law(solver, 3, evaluations=3, mutants=mutants)


def _halves(solver: Any) -> Law:
    return Law(solver, 2, 2, {"asked at the start again": Tampered(solver, _asked_at_the_start)})


def _no(what: str) -> Any:
    """Without a part of the derivative."""

    def change(plan: Any) -> Any:
        def where(plan: Any) -> Any:
            return plan.second if what == "derivative" else plan.change.sigma

        return eqx.tree_at(where, plan, replace_fn=np.zeros_like)

    return Tampered(Genie(), change)


def _turned(plan: Any) -> Any:
    """With the line through two predictions turned the other way."""

    def columns(plan: Any) -> Any:
        return plan.x.history

    new, old = columns(plan)
    return eqx.tree_at(columns, plan, (new + 2 * old, -old))


LAWS = {
    "accelerated DDIM": Law(AcceleratedDDIM(), 2, mutants={"the line is turned": Tampered(AcceleratedDDIM(), _turned)}),
    "GENIE": Law(
        Genie(), 2, mutants={"one term": _no("derivative"), "the level does not change": _no("level's change")}
    ),
    "DDIM": Law(DDIM(), 1),
    "Euler": Law(Euler(), 1, mutants={"noise does not fade": Tampered(Euler(), _still)}),
    "Heun": Law(Heun(), 2, evaluations=2),
    "DPM-Solver-2": _halves(DPMSolver(2)),
    "DPM-Solver-3": _thirds(DPMSolver(3)),
    "DPM-Solver++(2S)": _halves(DPMSolverPPSinglestep(2)),
    "DPM-Solver++(3S)": _thirds(DPMSolverPPSinglestep(3)),
    "DPM-Solver++": Law(DPMSolverPP(), 2),
}
