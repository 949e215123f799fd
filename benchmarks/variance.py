"""Variance x time of a gradient: every rule that serves, what is chosen and tuned, and other libraries' estimators.

python benchmarks/variance.py            # some fifteen minutes; rewrites benchmarks/results/variance.*
python benchmarks/variance.py --quick    # some ten, nearly all compiling: that everything runs and is right
python benchmarks/variance.py --python PATH    # an interpreter that has TFP and GenJAX, with a JAX that they run on
"""

import argparse
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

# Settled when JAX and PyTorch are imported; on two cores XLA would still pass work from one to the other.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["OMP_NUM_THREADS"] = "1"

import jax
import numpy as np
import reports
from peers_variance import SAMPLES, Found, elsewhere, in_few_words, measured, of_rows, others
from peers_variance_hand import by_hand
from problems import Problem, flat, problems
from reports import Row
from rich.console import Console
from variance_rows import COLUMNS, HAND, OURS, Estimator, Truth, is_exact, label, standing

import variate as vt
from variate import trees
from variate.gradients import LeaveOneOut, NoBaseline, Score
from variate.gradients.staged import derive
from variate.gradients.tuning import tune


class Effort(NamedTuple):
    """Replicates, runs that a trial of `tune` may take, replicates of a long run, and of the ratios of variances."""

    replicates: int
    budget: int
    long: int
    sharp: int


FULL, QUICK = Effort(256, 2048, 8192, 1024), Effort(32, 256, 512, 64)


def caller(gradient: Callable[[Any, Any], jax.Array], problem: Problem, salt: int) -> Callable[[int], np.ndarray]:
    compiled, keys = jax.jit(gradient), list(jax.random.split(jax.random.key(salt), FULL.replicates + 1))
    params = jax.tree.map(jax.numpy.asarray, problem.params)
    return lambda seed: np.asarray(compiled(keys[seed], params))


def ours(problem: Problem, rules: dict[str, Any], samples: int = SAMPLES) -> Callable[[Any, Any], jax.Array]:
    estimate = vt.grad(problem.program, num_samples=samples, rules=rules, stderr=False)
    return lambda key, params: flat(estimate(key, params).value)


def several(gradient: Callable[[Any, Any], jax.Array], problem: Problem, count: int, salt: int) -> Found:
    """Many gradients in one compiled loop: their variance, and their time without dispatch."""
    keys = jax.random.split(jax.random.key(salt), count)
    loop = jax.jit(lambda keys, params: jax.lax.map(lambda key: gradient(key, params), keys))
    rows, times = np.asarray(loop(keys, problem.params), np.float64), []
    for _ in range(3):
        start = time.process_time()
        jax.block_until_ready(loop(keys, problem.params))
        times.append(time.process_time() - start)
    return of_rows(rows, min(times) / count)


def names_of(rules: dict[str, Any]) -> str:
    names = [label(rule) for rule in rules.values()]
    return names[0] if len(set(names)) == 1 else ", ".join(names)


class Study:
    """All that is measured of one problem."""

    def __init__(self, problem: Problem, effort: Effort):
        self.problem, self.effort = problem, effort
        self.rows: list[Estimator] = []
        gradient = problem.truth()
        if gradient is None:
            found = several(by_hand(problem, SAMPLES, parts=True), problem, effort.long, 3)
            self.truth = Truth(found.mean, found.errors)
        else:
            self.truth = Truth(gradient, np.zeros_like(gradient))

    def add(self, name: str, found: Found | str, note: str = "") -> Estimator:
        if isinstance(found, str):
            row = Estimator(self.problem.name, name, None, failed=found, note=note)
        else:
            exact, off = is_exact(found, self.truth), self.truth.off(found)
            row = Estimator(self.problem.name, name, found, off, note=note, exact=exact)
        self.rows.append(row)
        return row

    def measure(self, name: str, gradient: Callable[[int], np.ndarray], note: str = "") -> Estimator:
        try:
            return self.add(name, measured(gradient, self.effort.replicates), note)
        except Exception as error:  # whatever a peer raises is its row
            return self.add(name, in_few_words(error), note)

    def measure_ours(self) -> None:
        measured_rules: list[tuple[dict[str, Any], Estimator]] = []
        for salt, rules in enumerate([{}, *self.problem.assignments()]):
            gradient = caller(ours(self.problem, rules), self.problem, 10 + salt)
            name = f"{OURS}: {names_of(rules)}" if rules else f"{OURS}: as chosen, {self.chosen()}"
            row = self.measure(name, gradient)
            if row.found is not None:
                measured_rules.append((rules, row))
            elif len(set(rules.values())) > 1:  # a combination that is refused
                self.rows.remove(row)
            if row.exact:
                self.measure(f"{name}, 1 sample", caller(ours(self.problem, rules, 1), self.problem, 5))
        self.default = measured_rules[0][1]
        self.best_rules, self.best = min(measured_rules, key=lambda pair: standing(pair[1]))
        self.tune(measured_rules)
        # Of the combinations only the best is a row.
        kept = 1 + len(self.problem.rules)
        dropped = [row for _, row in measured_rules[kept:] if row is not self.best]
        self.rows = [row for row in self.rows if not any(row is each for each in dropped)]

    def chosen(self) -> str:
        numbers, static = trees.split((self.problem.program, (self.problem.params,)))
        request = vt.value_and_grad(self.problem.program, num_samples=SAMPLES).request
        rules = derive(request, static, jax.random.key(0), numbers).plan.rules.values()
        return ", ".join(dict.fromkeys(label(rule) for rule in rules if rule is not None))

    def tune(self, before: list[tuple[dict[str, Any], Estimator]]) -> None:
        candidates = self.problem.mixed or self.problem.rules
        search = tune(
            self.problem.program, candidates=candidates, budget=self.effort.budget, num_samples=SAMPLES, progress=False
        )
        self.tuned_rules = rules = search(jax.random.key(4), self.problem.params).rules
        whole = {name: rules.get(name) for name in self.problem.draws} if rules else {}
        name = f"{OURS}: as tuned, {names_of(rules)}" if rules else f"{OURS}: as tuned, as chosen"
        found = next((row.found for known, row in before if known == whole), None)
        if found is None:
            self.tuned = self.measure(name, caller(ours(self.problem, rules), self.problem, 6))
        else:
            self.tuned = self.add(name, found, note="measured above")

    def measure_peers(self) -> None:
        self.measure(f"{HAND}: whole cost, leave-one-out", caller(by_hand(self.problem, SAMPLES), self.problem, 7))
        if self.problem.exact is None:
            parts = by_hand(self.problem, SAMPLES, parts=True)
            self.measure(f"{HAND}: each picture's cost, leave-one-out", caller(parts, self.problem, 8))
        params = [np.asarray(leaf) for leaf in jax.tree.leaves(self.problem.params)]
        for name, gradient in others(self.problem.name, params, self.problem.data):
            if isinstance(gradient, str):
                self.add(name, gradient)
            else:
                self.measure(name, gradient)

    def finish(self) -> list[Estimator]:
        """The rows, the best first."""
        best = min((row.found.product for row in self.rows if row.found and row.counts), default=0.0)
        rows = [row._replace(best=best) for row in self.rows]
        return sorted(rows, key=lambda row: (row.found is None, not row.ok, *standing(row)))


def relation(problem: str, what: str, ours: Found, peer: Found, bound: float | None, times: bool = True) -> Row:
    """Ours beside a peer's, in variance x time or in variance; its interval is that of the two variances."""
    a, b = (1e3 * ours.product, 1e3 * peer.product) if times else (ours.variance, peer.variance)
    width = 1.96 * np.hypot(ours.relative, peer.relative)
    return Row(problem, what, a, b, "", a / b, a / b / (1 + width), a / b * (1 + width), bound)


def lowest(study: Study) -> Iterator[Row]:
    """(a): beside libraries, of what samples; and whether they are exact where nothing of ours is."""
    rows, name = [row for row in study.rows if row.found and row.ok], study.problem.name
    mine, theirs = [row for row in rows if row.ours], [row for row in rows if not row.ours]
    libraries = [row for row in theirs if not row.name.startswith(HAND)]
    best = min((row for row in mine if row.counts), key=standing)
    for others_, who in ((libraries, "libraries"), ([r for r in theirs if r not in libraries], "JAX by hand")):
        noisy = [row for row in others_ if row.counts]
        if noisy:
            peer = min(noisy, key=standing)
            bound = 1.0 if who == "libraries" else None
            yield relation(name, f"(a) ours beside {peer.name}", best.found, peer.found, bound)
    exact = [row for row in libraries if row.exact]
    if exact:
        peer, own = min(exact, key=standing), min(mine, key=standing)
        if own.exact:
            seconds = own.found.seconds, peer.found.seconds
            what = f"(a) exact: ours beside {peer.name}"
            yield Row(name, what, *(1e3 * x for x in seconds), "ms", seconds[0] / seconds[1], bound=1.0)
        else:
            yield Row(name, f"(a) exact where no rule of ours is: {peer.name}", 1.0, None, "", bound=0.0)


def tuned(study: Study) -> Iterator[Row]:
    """(b): beside the best of all that was measured; where that is another, also as `tune` takes time."""
    mine, best, name = study.tuned.found, study.best.found, study.problem.name
    assert mine is not None
    assert best is not None
    what = f"(b) tuned beside the best, {study.best.name.removeprefix(OURS + ': ')}"
    if study.best.exact and study.tuned.exact:
        yield Row(name, what, 1e3 * mine.seconds, 1e3 * best.seconds, "ms", mine.seconds / best.seconds, bound=1.3)
        return
    yield relation(name, what, mine, best, 1.3)
    if mine.product > 1.3 * best.product:
        pair = [
            several(ours(study.problem, rules), study.problem, study.effort.sharp, 24)
            for rules in (study.tuned_rules, study.best_rules)
        ]
        yield relation(name, "(b) the same two in a compiled loop, without dispatch", *pair, None)


def credit(study: Study, most: float) -> Row:
    """(c): leave-one-out on both sides."""
    problem, count = study.problem, study.effort.sharp
    rules = dict.fromkeys(problem.draws, Score(LeaveOneOut()))
    mine = several(ours(problem, rules), problem, count, 20)
    whole = several(by_hand(problem, SAMPLES), problem, count, 21)
    return relation(problem.name, "(c) variance with credit, beside the whole cost's", mine, whole, most, False)


def safe(study: Study, samples: int) -> Row:
    """(d): what is chosen by default, beside the plain score."""
    problem, count = study.problem, study.effort.sharp
    chosen = several(ours(problem, {}, samples), problem, count, 22)
    plain = dict.fromkeys(problem.draws, Score(NoBaseline()))
    peer = several(ours(problem, plain, samples), problem, count, 23)
    what = f"(d) variance by default, beside Score(NoBaseline), {samples} samples"
    return relation(problem.name, what, chosen, peer, 1.0, False)


CREDIT = {"walk of 100 coins": 1 / 3, "200 coins apart": 1 / 50}
WORDS = (
    "Variance of a gradient of 16 samples, summed over its coordinates, with its standard error; milliseconds of one "
    "thread that a gradient takes, the fastest of several batches of calls, dispatch included; their product, and the "
    "ratio to the least of those that sample and are right. `off by`: of how many standard errors one number would be "
    "off, were it as unlikely as the worst coordinate of the mean; more than 5 is wrong. What is exact varies by "
    "rounding alone, and is compared by its time."
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run: writes nothing and judges no bound")
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has TFP and GenJAX")
    options = parser.parse_args()
    effort = QUICK if options.quick else FULL
    warnings.filterwarnings("ignore")  # of peers
    # A peer that goes through all outcomes would take what memory there is.
    resource.setrlimit(resource.RLIMIT_DATA, (8 << 30, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    console = Console(width=None if sys.stdout.isatty() else 220)
    studies, checks, start = [Study(problem, effort) for problem in problems()], [], time.perf_counter()

    def say(what: str) -> None:
        console.print(f"{time.perf_counter() - start:5.0f} s  {what}", style="dim")

    arrays = {
        f"{number}/{kind}/{i}": np.asarray(leaf)
        for number, study in enumerate(studies)
        for kind, tree in (("params", study.problem.params), ("data", study.problem.data))
        for i, leaf in enumerate(jax.tree.leaves(tree))
    }
    about: dict[str, str] = {}
    for number, name, found in elsewhere(options.python, arrays, effort.replicates, about):
        studies[number].add(name, found)
    say("TFP and GenJAX")
    for study in studies:
        study.measure_ours()
        say(f"{study.problem.name}: rules")
        study.measure_peers()
        say(f"{study.problem.name}: peers")
    for study in studies:
        checks += [*lowest(study), *tuned(study)]
        checks += [credit(study, CREDIT[study.problem.name])] if study.problem.name in CREDIT else []
        checks += [safe(study, samples) for samples in (4, SAMPLES)]
    say("bounds")
    rows = [row for study in studies for row in study.finish()]
    sections = [reports.Section("Estimators", COLUMNS, rows), reports.Section("Bounds", reports.COLUMNS, checks)]
    for section in sections:
        console.print(reports.table(section.rows, section.columns))
    wrong = [row for row in rows if row.ours and (row.failed or not row.ok)]
    for row in wrong:
        console.print(
            f"{row.program}, {row.name}: {row.failed or f'off by {row.off:.1f} standard errors'}", style="red"
        )
    if not options.quick:
        path = Path(__file__).parent / "results" / "variance"
        reports.write_sections(sections, path, "Variance x time of a gradient", WORDS, **about)
    return int(bool(wrong) or (not options.quick and any(row.ok is False for row in checks)))


if __name__ == "__main__":
    sys.exit(main())
