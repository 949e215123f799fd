"""Mixtures on which nothing here was chosen: our formulas, teleported starts and fits, beside diffusers' schedulers.

python benchmarks/diffusion_held_out.py                          # hours; adds to results/diffusion_held_out.*
python benchmarks/diffusion_held_out.py --only 2-D --budgets 5   # some problems and numbers of evaluations
python benchmarks/diffusion_held_out.py --quick                  # a minute: that everything runs

Needs `pip install '.[bench]'`.
"""

import argparse
import json
from collections.abc import Callable
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import reports
from diffusion import DRAWS, Found, Row, of_ours, of_peers
from diffusion_problems import PROCESS, Problem
from rich.console import Console

from variate.diffusion import (
    DEIS,
    DPMSolver,
    DPMSolverPP,
    GaussianMixture,
    Process,
    UniPC,
    sample,
    teleported,
    uniform_log_snr,
)

BUDGETS, SCALES = (5, 6, 8, 10, 15, 20), (1.0, 3.0)
STARTS, FLOORS, KNOWN = (0.8, 0.7, 0.6), (0.003, 0.01, 0.03, 0.06), 2_000
RESULTS = Path(__file__).parent / "results" / "diffusion_held_out"
COLUMNS = (
    *("problem", "guidance", "evaluations", "diffusers", "by formula", "teleported", "fitted"),
    *("ratio", "medians", "ratio", "ok"),
)
WORDS = f"""Three mixtures that were drawn at random once, on which no solver, schedule or fit was chosen: 12 modes in
the plane, of standard deviations from 0.07 to 0.2, 5 full covariances in 8 dimensions and 6 in 32; guidance is to the
first 4, 2 and 3 of the components. The distance is as in `diffusion.md`: root mean square, a coordinate, of {DRAWS:,}
draws from the exact ends of the flow that starts where each of them started, the best of each kind. Of diffusers' grids
those called leading start later, where the data are a twenty-fifth of the noise at five evaluations, and their ends are
those of that start. Teleported: by formula too, from where normal data of the same mean and covariance, as found in
{KNOWN:,} draws of the conditional law, lead the noise of the horizon by time {", ".join(map(str, STARTS))}, which takes
no evaluation, and from the ends for the noise of the horizon; the times were chosen on the first two problems. Fitted:
from the best by formula, along the way, and then to the ends. The ratio is of the best of ours to the best of theirs;
NO: theirs is nearer by root mean square or by median."""


def mixture(seed: int, count: int, dimension: int, condition: int) -> Problem:
    """Random weights, means and covariances; the condition is the first few of the components."""
    rng = np.random.default_rng(seed)
    weights, means = rng.dirichlet(np.full(count, 3.0)), rng.normal(size=(count, dimension))
    if dimension == 2:
        covariances = rng.uniform(0.005, 0.04, size=count)
    else:
        half = rng.normal(size=(count, dimension, dimension)) / np.sqrt(dimension)
        covariances = 0.1 * half @ np.swapaxes(half, 1, 2) + 0.01 * np.eye(dimension)

    def some(first: int) -> Callable[[Process], GaussianMixture]:
        return lambda process: GaussianMixture(process, weights[:first], means[:first], covariances[:first])

    return Problem(some(condition), some(count), (dimension,))


PROBLEMS = {
    "12 modes, 2-D": mixture(101, 12, 2, 4),
    "5 normals, 8-D": mixture(102, 5, 8, 2),
    "6 normals, 32-D": mixture(103, 6, 32, 3),
}


class Beside(NamedTuple):
    """A row with four kinds of samplers: theirs, by formula, teleported and fitted."""

    row: Row

    @property
    def program(self) -> str:
        return self.row.program

    @property
    def ok(self) -> bool | None:
        return self.row.ok

    def record(self) -> dict[str, Any]:
        return self.row.record()

    def cells(self) -> list[str]:
        row = self.row
        shown = [f"{one.rms:.2g} {one.name}" for one in row.best["rms"]]
        medians = " / ".join(f"{one.median:.2g}" for one in row.best["median"])
        ratios = [f"{row.ratio(which):.2g}" for which in ("rms", "median")]
        about = [row.program, f"{row.scale:g}", f"{row.evaluations}"]
        return [*about, *shown, ratios[0], medians, ratios[1], "yes" if row.ok else "NO"]


def moved(problem: Problem, scale: float, draws: np.ndarray, budget: int) -> list[Found]:
    """By formula, from teleported starts."""
    law: Any = problem.model(PROCESS)
    known = np.asarray(jax.vmap(law.draw)(jax.random.split(jax.random.key(9), KNOWN)))
    model, level = problem.guided(PROCESS, scale), PROCESS.level(jnp.asarray(1.0))
    noise = jnp.asarray(draws * float(level.sigma))
    exact = problem.ends(scale, np.asarray(noise) / float(level.alpha), float(level.sigma / level.alpha))
    solvers = {"UniPC-2": UniPC(2), "UniPC-3": UniPC(3), "DPM-Solver++(3M)": DPMSolverPP(3), "DEIS-3": DEIS(3)}
    solvers |= {f"DPM-Solver({order}M)": DPMSolver(order) for order in (2, 3)}
    found = []
    for first in STARTS:
        start = teleported(PROCESS, noise, known.mean(0), np.cov(known.T), [1.0, first]).astype(jnp.float32)
        for floor, (name, solver) in product(FLOORS, solvers.items()):
            times = np.append(uniform_log_snr(PROCESS, budget - 1, start=first, end=floor), 0.0)
            run = sample(jax.random.key(0), model, solver, times, start.shape, start=start, dtype=jnp.float32)
            found.append(Found.of(f"{name}, {first:g} to {floor:g}", np.asarray(run.values), exact))
    return found


def measured(name: str, scale: float, budget: int, quick: bool) -> Beside:
    problem = PROBLEMS[name]
    draws = np.random.default_rng(1).normal(size=(20 if quick else DRAWS, *problem.shape))
    ours = of_ours(problem, scale, draws, budget, quick)
    each = of_peers(problem, scale, draws, budget), next(ours), moved(problem, scale, draws, budget), next(ours)
    return Beside(Row.of(name, scale, budget, *each))


def kept() -> dict[tuple[str, float, int], Beside]:
    """The rows that there are, so that a run that was stopped goes on."""
    if not RESULTS.with_suffix(".json").exists():
        return {}
    sections = json.loads(RESULTS.with_suffix(".json").read_text())["sections"]
    rows = [Row.read(record) for records in sections.values() for record in records]
    return {row[:3]: Beside(row) for row in rows}


def keep(one: Beside) -> None:
    rows = kept() | {one.row[:3]: one}
    ordered = [rows[key] for key in sorted(rows, key=lambda key: (list(PROBLEMS).index(key[0]), *key[1:]))]
    section = reports.Section("Distance from the exact end", COLUMNS, ordered)
    title = "Samplers of diffusion models, on mixtures held out"
    reports.write_sections([section], RESULTS, title, WORDS, diffusers=version("diffusers"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", default=[""])
    parser.add_argument("--budgets", nargs="*", type=int, default=BUDGETS)
    told = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    console = Console(width=240)
    names = [name for name in PROBLEMS if any(part in name for part in told.only)]
    for budget, name, scale in product(told.budgets[:1] if told.quick else told.budgets, names, SCALES):
        if (name, scale, budget) in kept() and not told.quick:
            continue
        one = measured(name, scale, budget, told.quick)
        console.print(*one.cells(), sep=" | ")
        if not told.quick:
            keep(one)


if __name__ == "__main__":
    main()
