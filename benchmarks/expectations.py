"""How many runs, and seconds, each method takes to a relative error of 1e-3, on integrands with known values.

python benchmarks/expectations.py            # half an hour; rewrites benchmarks/results/expectations.*
python benchmarks/expectations.py --quick    # three integrands, to 1e-2
"""

import argparse
import collections
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import expectations_peers as peers
import jax
import jax.numpy as jnp
import numpy as np
import reports
from integrands import Integrand, flow, integrands
from rich.console import Console
from rich.progress import track

import variate as vt
from variate.estimates import Antithetic, LatinHypercube, Lattice, Scores, Sobol, choice

CHOICE, BLOCK = "as chosen", 2_048
METHODS: dict[str, Any] = {
    CHOICE: None,
    "independent": (),
    "Antithetic": Antithetic(),
    "LatinHypercube": LatinHypercube(),
    "Scores": Scores(),
    "Antithetic, Scores": (Antithetic(), Scores()),
    "Sobol": Sobol(),
    "Lattice": Lattice(),
}
LIMIT = 20_000_000
KEYS, FEWEST, PATIENCE = 9, 3, 8.0  # keys of a row, and of one that takes more seconds than this
COLUMNS = ("integrand", "method", "runs", "pilot", "seconds", "runs of independent ones over these", "off by", "note")
BY_HAND = "by hand: SciPy's Sobol"
WORDS = f"""To a relative error of 1e-3, block size {BLOCK:,}, in double precision. Each row is of {KEYS} keys, of fewer
where these take more than {PATIENCE:g} s: `runs`, `pilot` (those that a choice takes before, not in `runs`) and seconds
of a call that compiles nothing are medians, a call that does not get there in {LIMIT:,} runs being one of more than all
others; `off by` is the most standard errors by which one missed the truth. SciPy's `qmc_quad` begins anew with twice
the points until its error is small enough; the loop by hand goes on with its {peers.REPLICATES} scrambles until
Student's interval is, with no allowance for looking again and again, which ours makes. Chaospy states no error: it is
the runs from which on the KNOWN value is met, at that size and the {peers.STAYS} next, so those of a user who knows the
answer."""


SEEDS = 30
INDICES_WORDS = f"""Sobol' indices: every input alone and with all others, by evaluations of the function, as root mean
squares of errors over all of them and {SEEDS} keys. SALib takes scrambled Sobol' points, and its intervals are of the
bootstrap, which takes them for independent."""
PILOTS: list[int] = []  # runs of those since the list was cleared


def _count_pilots() -> None:
    run = choice.Pilot.run

    def counted(self: Any, designs: tuple[Any, ...], size: int, *rest: Any) -> Any:
        PILOTS.append(len(designs) * size)
        return run(self, designs, size, *rest)

    choice.Pilot.run = counted


class Found(NamedTuple):
    """What a method took; `off`: by how many standard errors it missed the truth, more than five being wrong."""

    program: str
    method: str
    runs: float | None = None
    seconds: float | None = None
    off: float | None = None
    note: str = ""
    gain: float | None = None
    pilot: int = 0

    @property
    def ok(self) -> bool | None:
        return None if self.off is None else bool(self.off <= 5)

    def cells(self) -> list[str]:
        numbers = [f"{self.runs:,.0f}" if self.runs else "", f"{self.pilot:,}" if self.pilot else ""]
        numbers += [_short(x) for x in (self.seconds, self.gain, self.off)]
        return [self.program, self.method, *numbers, self.note]


def _short(x: float | None) -> str:
    return "" if x is None else f"{x:,.0f}" if x >= 1000 else f"{x:.2g}"


def repeated(name: str, label: str, call: Callable[[int], peers.Taken], note: str = "") -> Found:
    """The medians over keys."""
    taken: list[peers.Taken] = []
    start = time.perf_counter()
    while len(taken) < KEYS and (len(taken) < FEWEST or time.perf_counter() - start < PATIENCE):
        taken.append(call(len(taken)))
    runs = float(np.median([one.runs or np.inf for one in taken]))
    notes = [note, f"{len(taken)} keys" if len(taken) < KEYS else ""]
    found = Found(name, label, runs, float(np.median([one.seconds for one in taken])))
    if not np.isfinite(runs):
        found, notes = found._replace(runs=None), [*notes, "not within the limit"]
    off = [one.off for one in taken if one.off is not None]
    return found._replace(off=max(off) if off else None, note=", ".join(filter(None, notes)))


class Ours:
    """One of our methods on an integrand."""

    def __init__(self, integrand: Integrand, method: Any, relative: float):
        until = vt.StdErr(relative=relative)
        self.run = vt.expect(integrand.program, method=method, until=until, max_samples=LIMIT, block_size=BLOCK)
        self.truth, self.found, self.pilots = integrand.truth, [], []

    def __call__(self, seed: int) -> peers.Taken:
        PILOTS.clear()
        start = time.perf_counter()
        found = jax.block_until_ready(self.run(jax.random.key(1 + seed)))
        seconds = time.perf_counter() - start
        self.found.append(found.method or "independent runs")
        self.pilots.append(sum(PILOTS))
        stderr = float(found.stderr)
        off = abs(float(found.value) - self.truth) / max(stderr, 1e-12 * abs(self.truth))  # what rounding leaves
        return peers.Taken(int(found.num_samples) if found.converged else None, seconds, off)


def ours(name: str, integrand: Integrand, label: str, method: Any, relative: float) -> Found:
    of = Ours(integrand, method, relative)
    try:
        for seed in range(KEYS if method is None else 1):  # compiles every method that is chosen
            of(seed)
    except ValueError as error:
        return Found(name, label, note=f"cannot: {str(error).split(':')[-1].strip()}")
    of.found.clear()
    of.pilots.clear()
    row = repeated(name, label, of)
    if method is not None:
        return row
    chosen = ", ".join(f"{which} {count}" for which, count in collections.Counter(of.found).most_common())
    return row._replace(note=", ".join(filter(None, (f"by {chosen}", row.note))), pilot=int(np.median(of.pilots)))


def others(name: str, integrand: Integrand, relative: float) -> list[Found]:
    found = [
        repeated(name, "SciPy: qmc_quad", lambda seed: peers.qmc_quad(integrand, relative, seed)),
        repeated(name, BY_HAND, lambda seed: peers.by_hand(integrand, relative, seed)),
    ]
    for label, way in (("Gauss rule", peers.quadrature), ("Sobol' points", peers.low_discrepancy)):
        try:
            taken, how = way(integrand, relative)
        except ValueError as error:
            found.append(Found(name, f"chaospy: {label}", note=f"cannot: {error}"))
            continue
        note = how if taken.runs else f"{how}, not within {peers.MOST_NODES:,} nodes or {peers.SECONDS:g} s"
        found.append(Found(name, f"chaospy: {label}", taken.runs, taken.seconds, note=note.removeprefix(", ")))
    return found


def rows(quick: bool) -> list[Found]:
    relative, found = (1e-2 if quick else 1e-3), []
    problems = integrands()
    for name in track(list(problems)[: 3 if quick else None], "integrands"):
        each = [ours(name, problems[name], label, method, relative) for label, method in METHODS.items()]
        plain = each[list(METHODS).index("independent")].runs
        each += others(name, problems[name], relative)
        found += [row._replace(gain=plain / row.runs if plain and row.runs else None) for row in each]
        jax.clear_caches()
    return found


def indices(quick: bool) -> list[peers.Indices]:
    of = {
        "Ishigami": lambda x: jnp.sin(x[0]) + 7 * jnp.sin(x[1]) ** 2 + 0.1 * x[2] ** 4 * jnp.sin(x[0]),
        "borehole": lambda x: flow(*x, jnp),
    }
    pairs, problems = [1024] if quick else [1024, 8192], integrands()
    return [
        row for name, f in of.items() for row in peers.indices(name, problems[name], f, pairs, 3 if quick else SEEDS)
    ]


def summary(found: list[Found]) -> str:
    """How near the choice is to the best method, and where it needs a tenth of the runs of independent ones."""
    near, by_hand, tenfold, without = {}, [], 0, 0
    problems = list(dict.fromkeys(row.program for row in found))
    for name in problems:
        runs = {row.method: row.runs for row in found if row.program == name and row.runs}
        chosen = next(row for row in found if row.program == name and row.method == CHOICE)
        if chosen.runs:
            best = min(taken for method, taken in runs.items() if method in METHODS and method != CHOICE)
            near[name] = chosen.runs / best
            if BY_HAND in runs:
                by_hand.append(chosen.runs / runs[BY_HAND])
            plain = runs.get("independent", LIMIT)
            tenfold += plain >= 10 * (chosen.runs + chosen.pilot)
            without += plain >= 10 * chosen.runs
    good = sum(ratio <= 1.5 for ratio in near.values())
    worse = ", ".join(f"{name} ({ratio:.2g})" for name, ratio in near.items() if ratio > 1.5) or "none"
    return (
        f"Of {len(problems)} integrands the choice took, its pilot left out, at most 1.5 times the runs of the best "
        f"method here on {good}; of those where it got there it took more on: {worse}. On {tenfold} it took a tenth of "
        f"the runs of independent ones or less, pilot included ({without} without it). It took "
        f"{np.exp(np.mean(np.log(by_hand))):.2f} times the runs of the loop by hand (geometric mean of {len(by_hand)}, "
        f"{min(by_hand):.2g} to {max(by_hand):.2g})."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    _count_pilots()
    found, shares = rows(options.quick), indices(options.quick)
    screen = Console(width=160)
    screen.print(reports.table(found, COLUMNS), summary(found), reports.table(shares, peers.INDICES))
    if not options.quick:
        path = Path(__file__).parent / "results" / "expectations"
        sections = [
            reports.Section("Runs to a relative error of 1e-3", COLUMNS, found),
            reports.Section("Sobol' indices", peers.INDICES, shares),
        ]
        words = f"{WORDS}\n\n{summary(found)}\n\n{INDICES_WORDS}"
        reports.write_sections(sections, path, "Expectations to a tolerance", words)


if __name__ == "__main__":
    main()
