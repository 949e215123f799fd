"""How many runs, and seconds, each method takes to a relative error of 1e-3, on integrands with known values.

python benchmarks/expectations.py            # some ten minutes; rewrites benchmarks/results/expectations.*
python benchmarks/expectations.py --quick    # three integrands, to 1e-2
"""

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import reports
from integrands import Integrand, integrands
from rich.console import Console
from rich.progress import track
from scipy import integrate
from scipy.stats import qmc

import variate as vt
from variate.estimates import Antithetic, LatinHypercube, Lattice, Scores, Sobol

METHODS: dict[str, Any] = {
    "as chosen": None,
    "independent": (),
    "Antithetic": Antithetic(),
    "LatinHypercube": LatinHypercube(),
    "Scores": Scores(),
    "Antithetic, Scores": (Antithetic(), Scores()),
    "Sobol": Sobol(),
    "Lattice": Lattice(),
}
LIMIT = 20_000_000
PILOT = 5 * 1024  # runs that a choice takes before
COLUMNS = ("integrand", "method", "runs", "seconds", "runs of independent ones over these", "off by", "note")


class Found(NamedTuple):
    """What a method took; `off`: by how many standard errors it missed the truth, more than five being wrong."""

    program: str
    method: str
    runs: int | None = None
    seconds: float | None = None
    off: float | None = None
    note: str = ""
    gain: float | None = None

    @property
    def ok(self) -> bool | None:
        return None if self.off is None else bool(self.off <= 5)

    def cells(self) -> list[str]:
        numbers = [f"{self.runs:,}" if self.runs else "", *(_short(x) for x in (self.seconds, self.gain, self.off))]
        return [self.program, self.method, *numbers, self.note]


def _short(x: float | None) -> str:
    return "" if x is None else f"{x:,.0f}" if x >= 1000 else f"{x:.2g}"


def ours(name: str, integrand: Integrand, label: str, method: Any, relative: float) -> Found:
    """Seconds are those of a second call, which compiles nothing."""
    until = vt.StdErr(relative=relative)
    run = vt.expect(integrand.program, method=method, until=until, max_samples=LIMIT, block_size=2048)
    try:
        run(jax.random.key(0))
    except ValueError as error:
        return Found(name, label, note=f"cannot: {str(error).split(':')[-1].strip()}")
    start = time.perf_counter()
    found = jax.block_until_ready(run(jax.random.key(1)))
    seconds = time.perf_counter() - start
    off = abs(float(found.value) - integrand.truth) / float(found.stderr)
    if not found.converged:
        return Found(name, label, None, seconds, off, f"not within {LIMIT:,} runs")
    chosen = method is None
    runs = int(found.num_samples) + PILOT * chosen
    return Found(name, label, runs, seconds, off, f"by {found.method or 'independent runs'}" if chosen else "")


def qmc_quad(name: str, integrand: Integrand, relative: float) -> Found:
    """SciPy's, its points doubled until the error that it states is small enough."""
    label = "SciPy: qmc_quad"
    if integrand.on_cube is None:
        return Found(name, label, note="no function of the cube")
    f, d = integrand.on_cube, integrand.dimension
    points, runs, start = 64, 0, time.perf_counter()
    while points <= 2**19:
        options = {"n_estimates": 16, "n_points": points, "qrng": qmc.Sobol(d, seed=points)}
        found = integrate.qmc_quad(lambda x: f(np.atleast_2d(x.T)), np.zeros(d), np.ones(d), **options)
        runs += 16 * points
        if found.standard_error < relative * abs(found.integral):
            off = float(abs(found.integral - integrand.truth) / found.standard_error)
            return Found(name, label, runs, time.perf_counter() - start, off)
        points *= 2
    return Found(name, label, note=f"not within {runs:,} runs")


def rows(quick: bool) -> list[Found]:
    relative, found = (1e-2 if quick else 1e-3), []
    problems = integrands()
    for name in track(list(problems)[: 3 if quick else None], "integrands"):
        each = [ours(name, problems[name], label, method, relative) for label, method in METHODS.items()]
        plain = each[list(METHODS).index("independent")].runs
        each.append(qmc_quad(name, problems[name], relative))
        found += [row._replace(gain=plain / row.runs if plain and row.runs else None) for row in each]
        jax.clear_caches()
    return found


def summary(found: list[Found]) -> str:
    """How near the choice is to the best method, and where it needs a tenth of the runs of independent ones."""
    near, tenfold, without, problems = [], 0, 0, list(dict.fromkeys(row.program for row in found))
    for name in problems:
        own = {row.method: row.runs for row in found if row.program == name and row.method in METHODS and row.runs}
        if "as chosen" in own:
            best = min(runs for method, runs in own.items() if method != "as chosen")
            near.append((own["as chosen"] - PILOT) / best)
            plain = own.get("independent", LIMIT)
            tenfold += plain >= 10 * own["as chosen"]
            without += plain >= 10 * (own["as chosen"] - PILOT)
    good = sum(ratio <= 1.5 for ratio in near)
    return (
        f"Of {len(problems)} integrands the choice took, its pilot of {PILOT:,} runs left out, at most 1.5 times the "
        f"runs of the best method on {good}, at worst {max(near):.2g} times. On {tenfold} it took a tenth of the runs "
        f"of independent ones or less, pilot included ({without} without it)."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    found = rows(options.quick)
    Console(width=140).print(reports.table(found, COLUMNS), summary(found))
    if not options.quick:
        words = f"A second call's seconds, block size 2,048, in double precision. {summary(found)}"
        path = Path(__file__).parent / "results" / "expectations"
        section = reports.Section("Runs to a relative error of 1e-3", COLUMNS, found)
        reports.write_sections([section], path, "Expectations to a tolerance", words)


if __name__ == "__main__":
    main()
