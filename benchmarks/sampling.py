"""Whether samplers find the moments of nine posteriors of real data, and what a draw that counts for one costs.

python benchmarks/sampling.py                       # long; rewrites benchmarks/results/sampling.*
python benchmarks/sampling.py --only gp schools     # some posteriors
python benchmarks/sampling.py --samplers Variate    # some samplers
python benchmarks/sampling.py --skip diamonds       # without that on which peers take longest
python benchmarks/sampling.py --quick               # minutes: that everything runs

Needs `pip install '.[bench]'` and the data beside the project (`posteriors/base.py`).
"""

import argparse
import math
import os
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

# On one core seconds are seconds: on two, threads that wait for each other were counted with those that work. Before
# what makes as many threads as it finds cores.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import jax
import numpy as np
import posteriors
import pytensor
import reports
from arviz_stats.base import array_stats
from jax.experimental.compilation_cache import compilation_cache
from posteriors import Moments, Posterior
from rich.console import Console
from samplers import SAMPLERS, Plan, Run, Sampler
from scipy import special

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
KEY = jax.random.key(0)
SMALL = 8  # coordinates that emcee is tried on
DEFAULTS = ("NumPyro NUTS", "BlackJAX NUTS", "nutpie", "nutpie, Numba")
PEERS = ("blackjax", "nutpie", "numba", "pymc", "emcee", "arviz-stats")
RHAT, ESS, ALARM = 1.01, 400, 1e-4
MOST_RUNS, ENOUGH = 5, 10.0  # runs, and seconds of them

WORDS = f"""`worst mean` and `worst sd` are the largest distances from the known moments, in standard errors: those of
dependent draws, together with those of the reference where it is itself of draws. `ESS` is the least bulk effective
sample size of a number, and R-hat the largest, for all samplers by the same functions of ArviZ. `each` is the number of
gradients of the kept draws over that size (of densities for emcee, whose walkers are taken for chains). Seconds are the
processor's, of one core, warm-up included. Each row is the median by ESS/s of up to five runs, one
where that takes ten seconds. `to {ESS}` has the seconds from nothing compiled to an effective size of {ESS}, all
included, and `again` the same where JAX and Numba find on disk what an earlier process has compiled: ours is told to
stop there, the others are told how many draws that takes. nutpie has the log density as a function of JAX, or as a
model of PyMC that Numba compiles, whose `compiling` is with what it had on disk. NO: a sampler that by R-hat (below
{RHAT}) and ESS (at least {ESS}) has converged is off by more than chance makes one row in {1 / ALARM:,.0f}."""


class Row(NamedTuple):
    program: str
    sampler: str
    mean: float  # in standard errors, the worst
    sd: float
    numbers: int  # of which those are the worst
    ess: float
    rhat: float
    divergent: int
    each: float | None
    compiling: float
    seconds: float
    reaching: float | None = None  # seconds
    again: float | None = None

    @property
    def converged(self) -> bool:
        return bool(self.rhat < RHAT and self.ess >= ESS)

    @property
    def ok(self) -> bool:
        """Not off while it says that it is not; a number that is NaN is off."""
        limit = -special.ndtri(ALARM / (4 * self.numbers))
        return not self.converged or bool(max(self.mean, self.sd) < limit)

    def cells(self) -> list[str]:
        each = "" if self.each is None else f"{self.each:.3g}"
        enough = ["" if x is None else f"{x:.1f}" for x in (self.reaching, self.again)]
        costs = [each, f"{self.compiling:.1f}", f"{self.seconds:.1f}", f"{self.ess / self.seconds:,.0f}", *enough]
        said = ["yes" if self.converged else "no", "yes" if self.ok else "NO"]
        found = [f"{self.mean:.1f}", f"{self.sd:.1f}", f"{self.ess:,.0f}", f"{self.rhat:.3f}", f"{self.divergent:,}"]
        return [self.program, self.sampler, *found, *costs, *said]


COLUMNS = (
    *("posterior", "sampler", "worst mean", "worst sd", "ESS", "R-hat", "divergent", "each"),
    *("compiling, s", "sampling, s", "ESS/s", f"to {ESS}, s", "again, s", "converged", "ok"),
)


def effective(x: np.ndarray, method: str) -> float:
    return float(array_stats.ess(x, chain_axis=0, draw_axis=1, method=method))


def distances(x: np.ndarray, moments: Moments) -> tuple[float, float]:
    r"""Of mean and standard deviation from what is known, in standard errors.

    Those of s are $\mathrm{sd}[(x - m)^2] / 2 s \sqrt n$, by the delta method, n the effective size for $(x - m)^2$.
    """
    square = (x - x.mean()) ** 2
    sd = math.sqrt(square.mean())
    wide = square.std() / (2 * sd)
    mean_error = math.hypot(sd / math.sqrt(effective(x, "mean")), moments.sd / math.sqrt(moments.draws))
    sd_error = math.hypot(wide / math.sqrt(effective(square, "mean")), wide / math.sqrt(moments.draws))
    return abs(x.mean() - moments.mean) / mean_error, abs(sd - moments.sd) / sd_error


def judged(posterior: Posterior, run: Run) -> dict[str, Any]:
    """What a table says of draws, but for their time; a number that never changes has neither size nor R-hat."""
    named = posterior.named(run.values)
    away = np.array([distances(named[name], moments) for name, moments in posterior.moments.items()])
    ess = np.min([effective(x, "bulk") for x in named.values()])
    rhat = np.max([array_stats.rhat(x, chain_axis=0, draw_axis=1) for x in named.values()])
    each = None if run.evaluations is None else run.evaluations / ess
    worst = {"mean": float(away[:, 0].max()), "sd": float(away[:, 1].max()), "numbers": len(named)}
    return {**worst, "ess": float(ess), "rhat": float(rhat), "divergent": run.divergent, "each": each}


def row(name: str, sampler: str, posterior: Posterior, make: Sampler, plan: Plan) -> Row:
    """The first run has to be compiled; of up to five more, as many as ten seconds have room for, it is the median."""
    start, times, rows = time.process_time(), [], []
    run = make(posterior, plan)
    making = time.process_time() - start
    for key in jax.random.split(KEY, 1 + MOST_RUNS):
        start = time.process_time()
        found = jax.block_until_ready(run(key))
        times.append(time.process_time() - start)
        if len(times) > 1:
            compiling = making + max(0.0, times[0] - times[1])
            rows.append(Row(name, sampler, **judged(posterior, found), compiling=compiling, seconds=times[-1]))
        if rows and sum(times[1:]) > ENOUGH:
            break
    median = sorted(rows, key=lambda row: row.ess / row.seconds)[len(rows) // 2]
    enough = plan._replace(draws=math.ceil(plan.draws * ESS / median.ess), ess=ESS)
    if enough.draws > 10 * plan.draws:
        return median
    first, again = reached(posterior, make, enough)
    return median._replace(reaching=first, again=again)


def reached(posterior: Posterior, make: Sampler, plan: Plan) -> list[float]:
    """Seconds to so many draws from nothing compiled, and with what that has left on disk."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        compilation_cache.reset_cache()  # or JAX would look where it did before
        for kept in (False, True):
            jax.clear_caches()
            pytensor.config.numba__cache = kept
            start = time.process_time()
            jax.block_until_ready(make(posterior, plan)(jax.random.fold_in(KEY, 1)))
            times.append(time.process_time() - start)
        jax.config.update("jax_compilation_cache_dir", None)
        compilation_cache.reset_cache()
    return times


class Beside(NamedTuple):
    """Ours beside the best peer as it comes, and the best of all: effective draws a second, and the times to enough."""

    program: str
    defaults: float
    best: float
    reaching: float | None  # of the best of all
    again: float | None
    ok: None = None

    def cells(self) -> list[str]:
        return [self.program, *("" if x is None else f"{x:.2f}" for x in self[1:5])]


def beside(rows: list[Row]) -> list[Beside]:
    """For each posterior, and their geometric means."""
    found = []
    for program in dict.fromkeys(row.program for row in rows):
        rates = {row.sampler: row.ess / row.seconds for row in rows if row.program == program}
        ours = rates.pop("Variate")
        fast = ours / max(rates[name] for name in DEFAULTS), ours / max(rates.values())
        found.append(Beside(program, *fast, *(sooner(rows, program, name) for name in ("reaching", "again"))))
    columns = zip(*(row[1:5] for row in found), strict=True)
    means = (float(np.exp(np.mean(np.log([x for x in column if x])))) for column in columns)
    return [*found, Beside("geometric mean", *means)]


def sooner(rows: list[Row], program: str, name: str) -> float | None:
    """How many times as long the best peer takes."""
    times = {row.sampler: getattr(row, name) for row in rows if row.program == program}
    mine, theirs = times.pop("Variate"), [x for x in times.values() if x is not None]
    return min(theirs) / mine if mine and theirs else None


def size(posterior: Posterior) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(posterior.target.start(KEY)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short chains; writes nothing")
    parser.add_argument("--only", nargs="*", help="parts of the names of posteriors; writes nothing")
    parser.add_argument("--skip", nargs="*", default=(), help="parts of the names of posteriors to leave out, said so")
    parser.add_argument("--samplers", nargs="*", help="beginnings of the names of samplers; writes nothing")
    wanted = parser.parse_args()
    if not posteriors.found():
        print("the data are not here: see benchmarks/posteriors/base.py")
        return 1
    plan, rows, console = Plan(100, 100) if wanted.quick else Plan(), [], Console(width=170)
    for name, make in posteriors.TABLE.items():
        if wanted.only and not any(part in name for part in wanted.only):
            continue
        if any(part in name for part in wanted.skip):
            continue
        posterior = make()
        for sampler, prepare in SAMPLERS.items():
            if wanted.samplers and not sampler.startswith(tuple(wanted.samplers)):
                continue
            if sampler == "emcee" and size(posterior) > SMALL:
                continue
            rows.append(row(name.partition("-")[2], sampler, posterior, prepare, plan))
            console.print(*rows[-1].cells(), sep="  ")
            jax.clear_caches()
    console.print(reports.table(rows, COLUMNS))
    if not (wanted.quick or wanted.only or wanted.samplers):
        left = f", without {', '.join(wanted.skip)}" if wanted.skip else ""
        section = reports.Section(f"{len({row.program for row in rows})} posteriors{left}", COLUMNS, rows)
        path = Path(__file__).parent / "results" / "sampling"
        columns = ("posterior", "as it comes", "at its best", f"time to {ESS}", "again")
        ratios = reports.Section("Beside the best peer", columns, beside(rows))
        reports.write_sections([section, ratios], path, "Samplers", WORDS, **{name: version(name) for name in PEERS})
    return int(not all(row.ok for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
