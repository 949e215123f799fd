"""Every solver, with its order and what would be wrong in it."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import numpy as np

from variate.diffusion import (
    DDIM,
    DEIS,
    ERSDE,
    AcceleratedDDIM,
    ConjugateDDIM,
    DPMSolver,
    DPMSolverPP,
    DPMSolverPPSinglestep,
    DPMSolverSinglestep,
    Euler,
    EVODiff,
    Genie,
    Heun,
    Process,
    SASolver,
    SDEDPMSolver,
    SDEDPMSolverPP,
    Solver,
    UniPC,
)


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


@dataclass(frozen=True)
class Altered:
    """A solver one coefficient of which is another at every step."""

    solver: Solver
    which: Callable[[Any], Any]
    how: Callable[[Any], Any]

    def plan(self, process: Process, times: np.ndarray) -> Any:
        return eqx.tree_at(self.which, self.solver.plan(process, times), replace_fn=self.how)


@dataclass(frozen=True)
class HalfCurved:
    """DPM-Solver++(3M) with half of the second derivative, as programs have it that are about."""

    def plan(self, process: Process, times: np.ndarray) -> Any:
        full: Any
        less: Any
        full, less = DPMSolverPP(3).plan(process, times), DPMSolverPP(2).plan(process, times)
        first, second, third = full.x.history
        halves = (0.5 * (first + less.x.history[0]), 0.5 * (second + less.x.history[1]), 0.5 * third)
        return eqx.tree_at(lambda plan: plan.x.history, full, halves)


def half_an_older_one(solver: Solver) -> dict[str, Altered]:
    return {"half of an older prediction": Altered(solver, lambda plan: plan.x.history[1], lambda weight: 0.5 * weight)}


def too_little_noise(solver: Solver) -> dict[str, Altered]:
    return {"too little noise": Altered(solver, lambda plan: plan.x.noise, lambda deviation: 0.9 * deviation)}


def one(h: float) -> float:
    return h


def straight(rho: jax.Array) -> jax.Array:
    return rho


def lively(time: float) -> float:
    """Noise in the middle only."""
    return 4 * time * (1 - time)


# Those that follow the probability flow: the order is of where they lead.
LAWS = {
    "accelerated DDIM": Law(AcceleratedDDIM(), 2, mutants={"the line is turned": Tampered(AcceleratedDDIM(), _turned)}),
    "GENIE": Law(
        Genie(), 2, mutants={"one term": _no("derivative"), "the level does not change": _no("level's change")}
    ),
    "EVODiff": Law(
        EVODiff(),
        2,
        mutants={"half of the corrector": Altered(EVODiff(), lambda plan: plan.half, lambda half: 0.5 * half)},
    ),
    "DDIM": Law(DDIM(), 1),
    "conjugate DDIM": Law(
        ConjugateDDIM(-0.3),
        1,
        mutants={"not grown": Altered(ConjugateDDIM(-0.3), lambda plan: plan.x.x, lambda carry: 1.01 * carry)},
    ),
    "Euler": Law(Euler(), 1, mutants={"noise does not fade": Tampered(Euler(), _still)}),
    "Heun": Law(Heun(), 2, evaluations=2),
    "DPM-Solver-2": _halves(DPMSolverSinglestep(2)),
    "DPM-Solver-3": _thirds(DPMSolverSinglestep(3)),
    "DPM-Solver++(2S)": _halves(DPMSolverPPSinglestep(2)),
    "DPM-Solver++(3S)": _thirds(DPMSolverPPSinglestep(3)),
    "DPM-Solver++": Law(DPMSolverPP(), 2, mutants={"one order fewer": DPMSolverPP(1)}),
    "DPM-Solver++, 3": Law(
        DPMSolverPP(3), 3, mutants={"half of the second derivative": HalfCurved()} | half_an_older_one(DPMSolverPP(3))
    ),
    "DPM-Solver": Law(DPMSolver(), 2, mutants={"one order fewer": DPMSolver(1)} | half_an_older_one(DPMSolver())),
    "DPM-Solver, 3": Law(DPMSolver(3), 3, mutants={"one order fewer": DPMSolver()}),
    "UniPC, 1": Law(UniPC(1), 2, mutants={"not corrected": DPMSolverPP(1), "half of B": UniPC(1, lambda h: 0.5 * h)}),
    "UniPC": Law(UniPC(), 3, mutants={"not corrected": DPMSolverPP()} | half_an_older_one(UniPC())),
    "UniPC with B1": Law(UniPC(growth=one), 3, mutants={"B of another slope": UniPC(growth=lambda h: 2 * h)}),
    "UniPC of noise, 3": Law(UniPC(3, of_noise=True), 4, mutants={"one order fewer": UniPC(2, of_noise=True)}),
    "DEIS": Law(DEIS(), 3, mutants={"one order fewer": DEIS(2)} | half_an_older_one(DEIS())),
    "DEIS in rho": Law(DEIS(3, in_rho=True), 3, mutants={"one order fewer": DEIS(2, in_rho=True)}),
    "ER-SDE without noise": Law(ERSDE(3, straight), 3, mutants={"one order fewer": ERSDE(2, straight)}),
}

# Those with noise: the order is of means and covariances.
NOISY = {
    "ancestral": Law(DDIM(1.0), 1, mutants=too_little_noise(DDIM(1.0))),
    "SDE-DPM-Solver++, 1": Law(SDEDPMSolverPP(1), 1, mutants=too_little_noise(SDEDPMSolverPP(1))),
    "SDE-DPM-Solver++": Law(
        SDEDPMSolverPP(), 2, mutants={"one order fewer": SDEDPMSolverPP(1)} | half_an_older_one(SDEDPMSolverPP())
    ),
    "SDE-DPM-Solver, 1": Law(SDEDPMSolver(1), 1, mutants=too_little_noise(SDEDPMSolver(1))),
    "SDE-DPM-Solver": Law(
        SDEDPMSolver(), 2, mutants={"one order fewer": SDEDPMSolver(1)} | half_an_older_one(SDEDPMSolver())
    ),
    "SA-Solver": Law(SASolver(), 2, mutants=too_little_noise(SASolver()) | {"one order fewer": SASolver(1.0, 1, 0)}),
    "SA-Solver, noise in the middle": Law(SASolver(lively, 2, 2), 2, mutants=too_little_noise(SASolver(lively, 2, 2))),
    "ER-SDE, 1": Law(ERSDE(1), 1, mutants=too_little_noise(ERSDE(1))),
    "ER-SDE, 2": Law(ERSDE(2), 2, mutants={"one order fewer": ERSDE(1)} | too_little_noise(ERSDE(2))),
}
