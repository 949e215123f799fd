"""How many of the 95% intervals cover the known value, for every method that states one and every integrand.

python benchmarks/intervals.py                # an hour or two; rewrites benchmarks/results/coverage.*
python benchmarks/intervals.py --only evidence  # some integrands anew, beside what is there
python benchmarks/intervals.py --methods Sobol    # of all integrands some methods anew
python benchmarks/intervals.py --quick        # three integrands, few keys
"""

import argparse
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import reports
from integrands import Integrand, integrands
from jax import Array
from rich.console import Console
from rich.progress import track
from scipy import stats

import variate as vt
from variate.estimates import (
    Antithetic,
    Best,
    Betting,
    ControlVariates,
    EmpiricalBernstein,
    Importance,
    LatinHypercube,
    Lattice,
    Moments,
    Scores,
    Sobol,
    Stratified,
)
from variate.estimates.folding import of_sets
from variate.estimates.intervals.base import Bounded
from variate.estimates.sampling import opened, sampler

KEYS, SAMPLES, RARE = 1_000, 2_048, 16_384
LOW, HIGH = 0.935, 0.965
CHOSEN = ("Genz discontinuous, 2", "borehole")
CHOSEN_SAMPLES = 4_096
LOOKS = [2**k for k in range(10, 15)]  # of confidence sequences
FEW = [2**k for k in range(4, 11)]  # points of each of 16 sets after a block of 256 runs, two, four, ...
BOUNDED = ("product peak", "corner peak", "gaussian", "Genz continuous", "four branches")  # by 0 and 1
RESULTS = Path(__file__).parent / "results" / "coverage"
TITLES = "A number of runs fixed in advance", "Looked at whenever there are twice as many"
COLUMNS = ("integrand", "method", "runs", "keys", "covered", "99.9%", "bound", "error over stated", "ok", "note")
WORDS = f"""Shares of {KEYS:,} keys whose 95% interval has the known value in it, and the exact binomial interval of
99.9% for the share. ok is NO where that interval is wholly outside of the bound: {LOW:.1%} to {HIGH:.1%} for a number
of runs that is fixed in advance, 95% or more for intervals that hold at once at all looks at which `until` may stop.
`error over stated` is the root mean square of the errors over that of the standard errors. Means of few runs of a
skewed result, a rare event above all, are not normal yet; the number of runs is the same for all but the failure of
four branches, so that the table shows that as it is. The choice, whose pilot is run in Python, is on some of them."""


class Row(NamedTuple):
    """Of one method on one integrand."""

    program: str
    method: str
    runs: int
    keys: int
    covered: int = 0
    low: float = 0.0
    high: float = 1.0
    least: float = LOW
    most: float = HIGH
    spread: float | None = None
    note: str = ""

    @property
    def ok(self) -> bool | None:
        return None if self.note else not (self.high < self.least or self.low > self.most)

    def cells(self) -> list[str]:
        bound = f"{100 * self.least:g}% or more" if self.most >= 1 else f"{100 * self.least:g} to {100 * self.most:g}%"
        share = f"{100 * self.covered / max(self.keys, 1):.1f}%", f"{100 * self.low:.1f}–{100 * self.high:.1f}%"
        share = ("", "") if self.note else share
        spread = "" if self.spread is None else f"{self.spread:.2f}"
        ok = {True: "yes", False: "NO", None: ""}[self.ok]
        return [self.program, self.method, f"{self.runs:,}", f"{self.keys:,}", *share, bound, spread, ok, self.note]


def counted(row: Row, inside: np.ndarray) -> Row:
    found: Any = stats.binomtest(int(inside.sum()), inside.size).proportion_ci(0.999, "exact")
    return row._replace(covered=int(inside.sum()), low=float(found.low), high=float(found.high), keys=inside.size)


def methods(integrand: Integrand) -> Iterator[tuple[str, Any]]:
    d = integrand.dimension
    yield "independent", ()
    yield "Antithetic", Antithetic()
    yield "LatinHypercube", LatinHypercube()
    if d <= 8:
        yield "Stratified", Stratified({1: 64, 2: 8, 3: 4}.get(d, 2))
    yield "Sobol", Sobol()
    yield "Lattice", Lattice()
    yield "Scores", Scores()
    mean = float(sum(law.mean() for law in integrand.laws))
    total = lambda draws: sum(jnp.sum(leaf) for leaf in draws.values())  # noqa: E731
    yield "ControlVariates", ControlVariates(total, mean)


def proposals(name: str) -> dict[str, Any]:
    """Where there is something to draw from that is better, or as good."""
    if name == "evidence of a mixture":
        return {"x": dist.Normal(jnp.array([1.0, 0.8]), 2.5)}  # from 3 / sqrt(2) on weights have a variance
    if name == "failure of four branches":
        return {"x": dist.Normal(jnp.zeros(2), 2.0)}
    if name == "call on a price":
        return {"z": dist.Normal(jnp.array([0.8]), 1.0)}
    if name == "call on a mean of 12 prices":
        return {"z": dist.Normal(jnp.full(12, 0.25), 1.0)}
    return {}


def weighted(name: str) -> Iterator[tuple[str, Any]]:
    if given := proposals(name):
        yield "Importance", Importance(given)
        yield "Importance, self-normalised", Importance(given, self_normalized=True)


def fixed(name: str, integrand: Integrand, label: str, method: Any, keys: Array) -> Row:
    """Of a number of runs fixed in advance, compiled once for all keys."""
    runs = RARE if "four branches" in name else SAMPLES
    run = vt.expect(integrand.program, method=method, num_samples=runs, block_size=runs)

    def one(key: Array) -> tuple[Array, ...]:
        found = run(key)
        return (*found.interval(0.95), found.value, found.stderr)

    try:
        found = jax.jit(lambda keys: jax.lax.map(one, keys))(keys)
    except ValueError as error:
        return Row(name, label, runs, 0, note=f"cannot: {str(error).split(':')[-1].strip()}")
    return judged(Row(name, label, runs, len(keys)), integrand, *found)


def judged(row: Row, integrand: Integrand, *found: Any) -> Row:
    low, high, value, stderr = (np.asarray(x, float) for x in found)
    off = float(np.sqrt(np.mean((value - integrand.truth) ** 2)))
    if off < 1e-12 * abs(integrand.truth):
        return row._replace(note="exact, but for rounding")
    row = row._replace(spread=off / float(np.sqrt(np.mean(stderr**2))))
    return counted(row, (low <= integrand.truth) & (integrand.truth <= high))


def chosen(name: str, integrand: Integrand, keys: Array) -> Row:
    """By a pilot, which is run in Python, key after key."""
    run = vt.expect(integrand.program, method=Best(), num_samples=CHOSEN_SAMPLES, block_size=CHOSEN_SAMPLES)
    found = [run(key) for key in keys]
    numbers = [(*each.interval(0.95), each.value, each.stderr) for each in found]
    return judged(Row(name, "as chosen", CHOSEN_SAMPLES, len(keys)), integrand, *zip(*numbers, strict=True))


def always(name: str, label: str, runs: int, inside: Callable[[Array], Array], keys: Array) -> Row:
    """`inside`: whether the intervals at all looks cover."""
    found = np.asarray(jax.jit(lambda keys: jax.lax.map(inside, keys))(keys))
    return counted(Row(name, label, runs, len(keys), least=0.95, most=1.0), found)


def looked_at(integrand: Integrand, design: Any, rule: vt.StdErr, key: Array) -> Array:
    """Whether the intervals of sets of points that grow cover whenever `rule` looks."""
    call = opened(integrand.program, key, ())
    of = sampler(vt.estimates.base.Methods(design), call.static, 16 * FEW[-1], key, call.numbers, False)
    assert of.sets is not None

    def one(key: Array) -> Array:
        made = of.sets.randomize(key)
        return jax.vmap(lambda i: of.row(key, of.sets.point(made, i))[0])(jnp.arange(FEW[-1]))

    rows, inside = jax.vmap(one)(jax.random.split(key, 16)), []
    for look, size in enumerate(FEW):
        if 16 * size >= rule.min_samples:  # at others it does not stop
            found = of_sets(Moments, jnp.mean(rows[:, :size], axis=1))
            inside.append(covers(integrand, rule.assess_sets(found, 15, jnp.asarray(2**look))))
    return jnp.all(jnp.stack(inside))


def covers(integrand: Integrand, found: vt.Estimate) -> Array:
    low, high = found.interval(0.95)
    return (low <= integrand.truth) & (integrand.truth <= high)


def sequences(name: str, integrand: Integrand, keys: Array, again: Callable[[str, str], bool]) -> Iterator[Row]:
    """Looked at when there are twice as many runs again."""
    rule = vt.StdErr(1.0)

    def of_runs(key: Array) -> Array:
        rows = jax.vmap(integrand.program)(jax.random.split(key, LOOKS[-1]))
        return jnp.all(jnp.stack([covers(integrand, rule.assess(Moments.of_rows(rows, n).read())) for n in LOOKS]))

    if again(name, label := "StdErr, independent"):
        yield always(name, label, LOOKS[-1], of_runs, keys)
    for design in (Sobol(), Lattice()):
        if again(name, label := f"StdErr, {type(design).__name__}"):
            yield always(name, label, 16 * FEW[-1], functools.partial(looked_at, integrand, design, rule), keys)
    if any(word in name for word in BOUNDED):
        for interval in (Betting(0, 1), EmpiricalBernstein(0, 1)):
            if not again(name, type(interval).__name__):
                continue

            def of_bounds(key: Array, interval: Any = interval) -> Array:
                rows = jax.vmap(integrand.program)(jax.random.split(key, 4096)).astype(float)
                fold, inside, done = Bounded.of(interval, None, rows[0]), [], 0
                for n in (2**k for k in range(5, 13)):
                    fold, done = fold.add_rows(rows[done:n]), n
                    inside.append(covers(integrand, fold.read()))
                return jnp.all(jnp.stack(inside))

            yield always(name, type(interval).__name__, 4096, of_bounds, keys[: len(keys) // 2])


def kept(again: Callable[[str, str], bool]) -> tuple[list[Row], ...]:
    """The rows that there are of integrands and methods that are not measured again."""
    found = json.loads(RESULTS.with_suffix(".json").read_text())["sections"]
    rows = [[Row(**{k: v for k, v in each.items() if k != "ok"}) for each in found[title]] for title in TITLES]
    return tuple([row for row in some if not again(row.program, row.method)] for some in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--methods", nargs="*", default=[])
    told = parser.parse_args()

    def again(name: str, label: str) -> bool:
        of_names = not told.only or any(part in name for part in told.only)
        return of_names and (not told.methods or any(label.startswith(part) for part in told.methods))

    quick = told.quick
    jax.config.update("jax_enable_x64", True)
    sections, problems = [], integrands()
    names = [name for name in problems if not told.only or any(part in name for part in told.only)]
    one, all_looks = kept(again) if told.only or told.methods else ([], [])
    keys = jax.random.split(jax.random.key(2024), 100 if quick else KEYS)
    for name in track(names[: 3 if quick else None], "integrands"):
        integrand = problems[name]
        for label, method in (*methods(integrand), *weighted(name)):
            if again(name, label):
                one.append(fixed(name, integrand, label, method, keys))
        if name.startswith(CHOSEN) and again(name, "as chosen"):
            one.append(chosen(name, integrand, keys[:20] if quick else keys))
        all_looks += sequences(name, integrand, keys, again)
        print([row.cells() for row in (*one, *all_looks) if row.program == name and not row.ok], flush=True)
        jax.clear_caches()
        for rows in (one, all_looks):
            rows.sort(key=lambda row: list(problems).index(row.program))
        sections = [reports.Section(title, COLUMNS, rows) for title, rows in zip(TITLES, (one, all_looks), strict=True)]
        if not quick:  # as they come: this takes long
            words = f"{WORDS}\n\n{summary(one, all_looks)}"
            reports.write_sections(sections, RESULTS, "How often intervals cover", words)
    for section in sections:
        Console(width=170).print(reports.table(section.rows, COLUMNS))
    return int(not quick and any(row.ok is False for row in (*one, *all_looks)))


def summary(one: list[Row], all_looks: list[Row]) -> str:
    found = []
    for what, rows in (("fixed in advance", one), ("at all looks", all_looks)):
        said = [row for row in rows if row.ok is not None]
        bad = sum(row.ok is False for row in said)
        shares = [row.covered / row.keys for row in said]
        found.append(
            f"Of {len(said)} rows {what}, {bad} are outside of the bound; the least share is {100 * min(shares):.1f}%, "
            f"the median {100 * np.median(shares):.1f}%."
        )
    return " ".join(found)


if __name__ == "__main__":
    raise SystemExit(main())
