"""How near samplers of diffusion models come to the end of the probability flow, for each evaluation of the model.

python benchmarks/diffusion.py                          # hours; rewrites benchmarks/results/diffusion.*
python benchmarks/diffusion.py --only 25 --budgets 5 10 # some problems and numbers of evaluations
python benchmarks/diffusion.py --quick                  # minutes: that everything runs

Needs `pip install '.[bench]'`. Problems are in `diffusion_problems.py`, diffusers' schedulers in `diffusion_peers.py`.
"""

import argparse
import math
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import diffusion_peers
import jax
import jax.numpy as jnp
import numpy as np
import reports
from diffusion_problems import PROBLEMS, Problem
from rich.console import Console

from variate.diffusion import (
    DEIS,
    DPMSolver,
    DPMSolverPP,
    DPMSolverPPSinglestep,
    DPMSolverSinglestep,
    Heun,
    Level,
    UniPC,
    VariancePreserving,
    edm,
    fit,
    sample,
    uniform,
    uniform_log_snr,
)

PROCESS = VariancePreserving()
BUDGETS, SCALES, DRAWS, FITTED = (5, 6, 8, 10, 15, 20, 50), (1.0, 3.0, 7.5), 1_000, 256
COLUMNS = ("problem", "guidance", "evaluations", "diffusers", "by formula", "fitted", "ratio", "medians", "ratio", "ok")
FLOORS = (0.003, 0.01, 0.03)  # times at which schedules end before they go to zero

WORDS = f"""Root mean square distance, a coordinate, of {DRAWS:,} draws from the exact ends of the probability flow that
starts where each of them started, in the units of the data: of the best of all of diffusers' schedulers that solve it,
on all the grids of times that they offer; of the best of ours by formula; and of ours with coefficients and times that
`fit` learned from {FITTED} other trajectories of the model. The ratio is of the best of ours to the best of theirs, and
so for medians over the draws. Each best is chosen for its own number, theirs too. NO: theirs is nearer at 20
evaluations or fewer."""


class Found(NamedTuple):
    """How far a sampler's draws are from where they should be."""

    name: str
    rms: float
    median: float

    @classmethod
    def of(cls, name: str, ends: np.ndarray, exact: np.ndarray) -> "Found":
        each = np.mean((np.asarray(ends, np.float64) - exact) ** 2, axis=1)
        far = [float(np.sqrt(which(each))) for which in (np.mean, np.median)]
        return cls(name, *(x if math.isfinite(x) else math.inf for x in far))


class Row(NamedTuple):
    """Of one problem and number of evaluations: theirs, ours by formula, and ours fitted."""

    program: str
    scale: float
    evaluations: int
    peers: list[Found]
    formulas: list[Found]
    fitted: list[Found]

    def best(self, which: str) -> tuple[Found, Found, Found]:
        def least(some: list[Found]) -> Found:
            return min(some, key=lambda one: getattr(one, which))

        return least(self.peers), least(self.formulas), least(self.fitted)

    def ratio(self, which: str) -> float:
        theirs, *ours = (getattr(one, which) for one in self.best(which))
        return min(ours) / theirs

    @property
    def ok(self) -> bool | None:
        return None if self.evaluations > 20 else max(self.ratio("rms"), self.ratio("median")) < 1

    def cells(self) -> list[str]:
        shown = [f"{one.rms:.2g} {one.name}" for one in self.best("rms")]
        medians = " / ".join(f"{one.median:.2g}" for one in self.best("median"))
        ok = {True: "yes", False: "NO", None: ""}[self.ok]
        ratios = [f"{self.ratio(which):.2g}" for which in ("rms", "median")]
        return [self.program, f"{self.scale:g}", f"{self.evaluations}", *shown, ratios[0], medians, ratios[1], ok]

    def record(self) -> dict[str, Any]:
        bests = {which: [one._asdict() for one in self.best(which)] for which in ("rms", "median")}
        return {"problem": self.program, "guidance": self.scale, "evaluations": self.evaluations, "best": bests}


def grids(steps: int) -> Iterator[tuple[str, np.ndarray]]:
    """Schedules of so many steps, the last of which leads to no noise."""
    for floor in FLOORS:
        yield f"log SNR to {floor:g}", np.append(uniform_log_snr(PROCESS, steps - 1, end=floor), 0.0)
        yield f"EDM to {floor:g}", edm(PROCESS, steps, end=floor)
    yield "uniform", uniform(PROCESS, steps, end=0.0)


def solvers() -> dict[str, tuple[Any, int]]:
    """Each by a name, with its evaluations a step."""
    each: dict[str, tuple[Any, int]] = {"Heun": (Heun(), 2)}
    for order in (2, 3):
        each[f"DPM-Solver++({order}M)"] = (DPMSolverPP(order), 1)
        each[f"DPM-Solver({order}M)"] = (DPMSolver(order), 1)
        each[f"UniPC-{order}"] = (UniPC(order), 1)
        each[f"DEIS-{order}"] = (DEIS(order), 1)
        each[f"DPM-Solver++({order}S)"] = (DPMSolverPPSinglestep(order), order)
        each[f"DPM-Solver-{order}"] = (DPMSolverSinglestep(order), order)
    return each


def of_peers(problem: Problem, scale: float, draws: np.ndarray, budget: int) -> list[Found]:
    model = problem.guided(PROCESS, scale)

    @jax.jit
    def asked(x: Any, alpha: Any, sigma: Any) -> Any:
        level = Level(jnp.zeros((), x.dtype), alpha, sigma)
        return jax.vmap(lambda one: model.predict(one, level).noise)(x)

    def noise(x: np.ndarray, alpha: float, sigma: float) -> np.ndarray:
        return np.asarray(asked(jnp.asarray(x, jnp.float32), jnp.float32(alpha), jnp.float32(sigma)))

    found, exact = [], {}
    for peer in diffusion_peers.peers():
        outcome = diffusion_peers.run(peer, noise, draws, budget)
        if outcome is None:
            continue
        ratio = round(outcome.ratio, 4)
        if ratio not in exact:
            exact[ratio] = problem.ends(scale, outcome.start, outcome.ratio)
        found.append(Found.of(peer.name, outcome.ends, exact[ratio]))
    return found


def of_ours(
    problem: Problem, scale: float, draws: np.ndarray, budget: int, quick: bool
) -> tuple[list[Found], list[Found]]:
    model, level = problem.guided(PROCESS, scale), PROCESS.level(jnp.asarray(1.0))
    start = jnp.asarray(draws * float(level.sigma), jnp.float32)
    exact = problem.ends(scale, np.asarray(start, np.float64) / float(level.alpha), float(level.sigma / level.alpha))

    def ends(solver: Any, times: np.ndarray) -> np.ndarray:
        run = sample(jax.random.key(0), model, solver, times, start.shape, start=start, dtype=jnp.float32)
        return np.asarray(run.values)

    formulas = []
    for name, (solver, each) in solvers().items():
        for grid, times in grids(-(-budget // each)):
            if len(solver.plan(PROCESS, times).level.time) == budget:
                formulas.append((Found.of(f"{name}, {grid}", ends(solver, times), exact), solver, times))
    begun = [min(formulas, key=lambda one: getattr(one[0], which)) for which in ("rms", "median")]
    begun = begun[:1] if begun[0] is begun[1] else begun
    shape, fitted = (16 if quick else FITTED, *problem.shape), []
    for best, solver, times in begun:
        for forgiven, words in ((3.0, ""), (1e6, ", least squares")):
            made = fit(jax.random.key(1), model, solver, times, shape, forgiven=forgiven)
            fitted.append(Found.of(f"{best.name}{words}", ends(made, times), exact))
    return [one for one, _, _ in formulas], fitted


def keep(rows: list[Row]) -> None:
    section = reports.Section("Distance from the exact end", COLUMNS, rows)
    path = Path(__file__).parent / "results" / "diffusion"
    reports.write_sections([section], path, "Samplers of diffusion models", WORDS, diffusers=version("diffusers"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", default=[""])
    parser.add_argument("--budgets", nargs="*", type=int, default=BUDGETS)
    parser.add_argument("--guidance", nargs="*", type=float, default=SCALES)
    told = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    console, rows = Console(width=200), []
    names = [name for name in PROBLEMS if any(part in name for part in told.only)]
    scales: list[float] = told.guidance[:1] if told.quick else told.guidance
    for scale, name in [(scale, name) for scale in scales for name in names]:
        problem = PROBLEMS[name]()
        for budget in told.budgets[:1] if told.quick else told.budgets:
            draws = np.random.default_rng(1).normal(size=(20 if told.quick else DRAWS, *problem.shape))
            theirs = of_peers(problem, scale, draws, budget)
            row = Row(name, scale, budget, theirs, *of_ours(problem, scale, draws, budget, told.quick))
            rows.append(row)
            console.print(*row.cells(), sep=" | ")
            if not told.quick:
                keep(rows)
    console.print(reports.table(rows, COLUMNS))


if __name__ == "__main__":
    main()
