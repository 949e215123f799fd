"""How near samplers of diffusion models come to the end of the probability flow, for each evaluation of the model.

python benchmarks/diffusion.py                          # hours; adds to benchmarks/results/diffusion.*
python benchmarks/diffusion.py --only 25 --budgets 5 10 # some problems and numbers of evaluations
python benchmarks/diffusion.py --anew                   # also what is there already
python benchmarks/diffusion.py --quick                  # minutes: that everything runs

Needs `pip install '.[bench]'`. Problems are in `diffusion_problems.py`, diffusers' schedulers in `diffusion_peers.py`.
"""

import argparse
import json
import math
from collections.abc import Iterator
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import diffusion_peers
import jax
import jax.numpy as jnp
import numpy as np
import reports
from diffusion_problems import PROBLEMS, PROCESS, Problem, grids
from rich.console import Console

from variate.diffusion import (
    DDIM,
    DEIS,
    DPMSolver,
    DPMSolverPP,
    DPMSolverPPSinglestep,
    DPMSolverSinglestep,
    Heun,
    Level,
    UniPC,
    fit,
    sample,
    search,
)

BUDGETS, SCALES, DRAWS, FITTED, SEARCHED = (5, 6, 8, 10, 15, 20, 50), (1.0, 3.0, 7.5), 1_000, 512, 256
NUMBERS = ("rms", "median", "sliced")
SLICES, GROUPS, ROUNDING = 64, 20, 1e-5
COLUMNS = (
    *("problem", "guidance", "evaluations", "diffusers", "by formula", "fitted", "ratio"),
    *("medians", "ratio", "sliced Wasserstein", "ok"),
)
RESULTS = Path(__file__).parent / "results" / "diffusion"

WORDS = f"""Root mean square distance, a coordinate, of {DRAWS:,} draws from the exact ends of the probability flow that
starts where each of them started, in the units of the data: of the best of all of diffusers' schedulers that solve it,
on all the grids of times that they offer; of the best of ours by formula; and of ours with coefficients and times that
`fit` learned, at 20 evaluations or fewer, from other trajectories of the model, {FITTED // 2} in two dimensions and 128
in more; it starts from the best by formula, and where that comes no nearer than theirs, from up to three others, and
then from what `search` found, which counts by itself too. The ratio is of the best of ours to the best of theirs, and
so for medians over the draws. The sliced Wasserstein distance is between the draws and the exact ends, with its
standard error. Each best is chosen for its own number, theirs too; numbers below {ROUNDING:g} are those of rounding.
NO: theirs is nearer, at 20 evaluations or fewer."""


class Found(NamedTuple):
    """How far a sampler's draws are from where they should be."""

    name: str
    rms: float
    median: float
    sliced: float
    error: float  # of the sliced distance

    @classmethod
    def of(cls, name: str, ends: np.ndarray, exact: np.ndarray) -> "Found":
        each = np.mean((np.asarray(ends, np.float64) - exact) ** 2, axis=1)
        far = [float(np.sqrt(which(each))) for which in (np.mean, np.median)]
        return cls(name, *(x if math.isfinite(x) else math.inf for x in (*far, *sliced(ends, exact))))


def sliced(ends: np.ndarray, exact: np.ndarray) -> tuple[float, float]:
    """The sliced Wasserstein distance (of order 2, a coordinate) and its standard error, by a jackknife over groups.

    Both sets of draws start from the same noise, so a solver without error is at zero and not at the distance of two
    sets of draws of one law. `diffusion_measures.py` has another, by quantiles, for draws that have no ends of their
    own to be compared with, and are fewer than those of the law.
    """
    if not np.all(np.isfinite(ends)):
        return math.inf, math.inf
    dimension = exact.shape[1]
    directions = np.random.default_rng(0).normal(size=(dimension, SLICES))
    directions /= np.linalg.norm(directions, axis=0)
    orders = [np.argsort(x @ directions, axis=0) for x in (ends, exact)]
    ranked = [np.take_along_axis(x @ directions, order, axis=0) for x, order in zip((ends, exact), orders, strict=True)]

    def distance(left_out: int) -> float:
        some = [x.T[left_out != order.T % GROUPS].reshape(SLICES, -1) for x, order in zip(ranked, orders, strict=True)]
        return float(np.sqrt(np.mean((some[0] - some[1]) ** 2)))

    without = np.array([distance(group) for group in range(GROUPS)])
    error = np.sqrt((GROUPS - 1) * np.mean((without - np.mean(without)) ** 2))
    return distance(-1), float(error)


class Row(NamedTuple):
    """Of one problem and number of evaluations: theirs, ours by formula and ours fitted, the best by each number."""

    program: str
    scale: float
    evaluations: int
    best: dict[str, list[Found]]

    @classmethod
    def of(cls, program: str, scale: float, evaluations: int, *each: list[Found]) -> "Row":
        best = {which: [min(some, key=attrgetter(which)) for some in each if some] for which in NUMBERS}
        return cls(program, scale, evaluations, best)

    @classmethod
    def read(cls, record: dict[str, Any]) -> "Row":
        best = {which: [Found(**one) for one in some] for which, some in record["best"].items()}
        return cls(record["problem"], record["guidance"], record["evaluations"], best)

    def record(self) -> dict[str, Any]:
        best = {which: [one._asdict() for one in some] for which, some in self.best.items()}
        return {"problem": self.program, "guidance": self.scale, "evaluations": self.evaluations, "best": best}

    def ratio(self, which: str) -> float:
        """Of the best of ours to the best of theirs, where numbers are no less than the error of the exact ends."""
        theirs, *ours = (max(getattr(one, which), ROUNDING) for one in self.best[which])
        return min(ours) / theirs

    @property
    def ok(self) -> bool | None:
        return None if self.evaluations > 20 else all(self._nearer(which) for which in ("rms", "median"))

    def _nearer(self, which: str) -> bool:
        theirs = getattr(self.best[which][0], which)
        return self.ratio(which) < 1 or theirs <= ROUNDING

    def cells(self) -> list[str]:
        shown = [f"{one.rms:.2g} {one.name}" for one in self.best["rms"]] + [""] * (3 - len(self.best["rms"]))
        medians = " / ".join(_small(one.median) for one in self.best["median"])
        slices = " / ".join(f"{_small(one.sliced)} ± {one.error:.1g}" for one in self.best["sliced"])
        ok = {True: "yes", False: "NO", None: ""}[self.ok]
        ratios = [f"{self.ratio(which):.2g}" for which in ("rms", "median")]
        about = [self.program, f"{self.scale:g}", f"{self.evaluations}"]
        return [*about, *shown, ratios[0], medians, ratios[1], slices, ok]


def _small(number: float) -> str:
    return f"{number:.2g}" if number > ROUNDING else f"< {ROUNDING:g}"


def solvers() -> dict[str, tuple[Any, int]]:
    """Each by a name, with its evaluations a step."""
    each: dict[str, tuple[Any, int]] = {"Heun": (Heun(), 2), "DDIM": (DDIM(), 1)}
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


def of_ours(problem: Problem, scale: float, draws: np.ndarray, budget: int, quick: bool) -> Iterator[list[Found]]:
    """By formula; then, as long as more is asked for, fitted from one formula more."""
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
    yield [one for one, _, _ in formulas]
    shape = (16 if quick else max(FITTED // problem.shape[0], 128), *problem.shape)
    by = {which: sorted(formulas, key=lambda one: getattr(one[0], which)) for which in ("rms", "median")}
    tried: set[str] = set()

    def fitted(name: str, solver: Any, times: np.ndarray) -> list[Found]:
        tried.add(name)
        along = fit(jax.random.key(1), model, solver, times, shape, forgiven=1e6, along=True)
        made = fit(jax.random.key(2), model, along, times, shape)
        names = f"{name}, along", f"{name}, along, then to the ends"
        return [Found.of(name, ends(one, times), exact) for name, one in zip(names, (along, made), strict=True)]

    for best, solver, times in (by["rms"][0], by["median"][0], *by["rms"][1:3]):
        if best.name not in tried:
            yield fitted(best.name, solver, times)
    few = (16 if quick else SEARCHED, *problem.shape)
    solver = search(jax.random.key(3), model, budget, few, candidates=200 if quick else 1_500, forgiven=1e6)
    times = np.asarray(solver.times)
    yield [Found.of("searched", ends(solver, times), exact)]
    yield fitted("searched", solver, times)


def measured(name: str, scale: float, budget: int, quick: bool) -> Row:
    problem = PROBLEMS[name]()
    draws = np.random.default_rng(1).normal(size=(20 if quick else DRAWS, *problem.shape))
    theirs = of_peers(problem, scale, draws, budget)
    found: Iterator[list[Found]] = of_ours(problem, scale, draws, budget, quick)
    ours, fitted = next(found), []
    row = Row.of(name, scale, budget, theirs, ours, fitted)
    if budget <= 20:
        for made in found:
            fitted += made
            row = Row.of(name, scale, budget, theirs, ours, fitted)
            if row.ok:
                break
    return row


def kept() -> list[Row]:
    """The rows that there are, so that a run that was stopped goes on and a part can be run anew."""
    if not RESULTS.with_suffix(".json").exists():
        return []
    sections = json.loads(RESULTS.with_suffix(".json").read_text())["sections"]
    return [Row.read(record) for records in sections.values() for record in records]


def keep(rows: list[Row]) -> None:
    def place(row: Row) -> tuple[int, float, int]:
        return list(PROBLEMS).index(row.program), row.scale, row.evaluations

    section = reports.Section("Distance from the exact end", COLUMNS, sorted(rows, key=place))
    reports.write_sections([section], RESULTS, "Samplers of diffusion models", WORDS, diffusers=version("diffusers"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--anew", action="store_true", help="also the rows that there are")
    parser.add_argument("--only", nargs="*", default=[""])
    parser.add_argument("--budgets", nargs="*", type=int, default=BUDGETS)
    parser.add_argument("--guidance", nargs="*", type=float, default=SCALES)
    told = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    console, rows = Console(width=240), []
    names = [name for name in PROBLEMS if any(part in name for part in told.only)]
    scales: list[float] = told.guidance[:1] if told.quick else told.guidance
    for scale, name in [(scale, name) for scale in scales for name in names]:
        for budget in told.budgets[:1] if told.quick else told.budgets:
            there = {} if told.quick else {row[:3]: row for row in kept()}
            if (name, scale, budget) in there and not told.anew:
                continue
            row = measured(name, scale, budget, told.quick)
            rows.append(row)
            console.print(*row.cells(), sep=" | ")
            if not told.quick:
                keep([*({row[:3]: row for row in kept()} | {row[:3]: row}).values()])
    console.print(reports.table(rows, COLUMNS))


if __name__ == "__main__":
    main()
