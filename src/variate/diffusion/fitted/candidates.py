"""What a search of solvers is among: for each step a formula, an order and a corrector, and the times of all."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline

from ..processes.base import Level, Process, exact_levels
from ..schedules import cosine, edm, uniform, uniform_log_snr
from ..solvers.base import Kept, Linear, both, data, noise, pairs_of, steps
from ..solvers.exponential.deis import Pairs, Stepper, rho_step, time_step
from ..solvers.exponential.multistep import Choice, data_step, left_of, mixed, noise_step
from .trajectories import LEAST_RATIO

ORDERS, CORRECTORS = (1, 2, 3), (0, 1, 2, 3, 4)
DEEP = 2 * max(CORRECTORS)  # columns of a history that any of them may need
FLOORS = (0.02, 0.045, 0.11)  # ratios of noise to data at which schedules end before they go to zero
CLOSEST = 1e-3  # of the logarithms of neighbouring times
FINE = 4_000  # values of lambda at which times are looked up
CROSSED, BENT = 0.3, 0.3  # shares of the children of two parents, and of those whose times are bent as a whole
WIDTHS = 0.01, 0.5  # the least and the largest changes of logarithms of steps

TimeOf = Callable[[np.ndarray], np.ndarray]


class Formula(NamedTuple):
    """What is predicted, and how the integral of a polynomial through predictions is taken."""

    kept: Kept
    stepper: Callable[[TimeOf], Callable[[Pairs], Stepper]]


def _in_lambda(kept: Kept, step: Stepper) -> Formula:
    return Formula(kept, lambda _: lambda _: step)


def _linearly(h: float) -> float:
    """B_1 of `UniPC`."""
    return h


FORMULAS = {
    "data": _in_lambda(data, data_step()),
    "data, B1": _in_lambda(data, data_step(growth=_linearly)),
    "data, B2": _in_lambda(data, data_step(growth=math.expm1)),
    "noise": _in_lambda(noise, noise_step()),
    "noise, B1": _in_lambda(noise, noise_step(growth=_linearly)),
    "noise, B2": _in_lambda(noise, noise_step(growth=math.expm1)),
    "noise, in time": Formula(noise, time_step),
    "noise, in rho": Formula(noise, lambda _: rho_step),
}
NAMED = (  # formulas, orders and correctors of solvers that have a name, the simplest first
    *(("data, B2", order, 0) for order in (2, 3, 1)),  # DPM-Solver++
    *(("data, B2", order, order + 1) for order in ORDERS),  # UniPC
    *(("noise, B2", order, 0) for order in (2, 3)),  # DPM-Solver
    *(("noise, B2", order, order + 1) for order in ORDERS),  # UniPC of the noise
    *((name, order, 0) for name in ("noise, in time", "noise, in rho") for order in (2, 3)),  # DEIS
)


class Made(NamedTuple):
    """How one step of a searched solver is made."""

    formula: str
    order: int  # how many predictions it looks back on, at most
    corrector: int  # of how many, at most, it is made once more when the one at its end is there; 0: it is not


class Candidate(NamedTuple):
    """A solver with its times."""

    steps: tuple[Made, ...]
    times: np.ndarray


def plans(process: Process, candidates: Sequence[Candidate], time_of: TimeOf) -> list[Linear]:
    """Of several candidates at once, since what formulas have to know of all the steps is found together."""
    levels = exact_levels(process, np.stack([candidate.times for candidate in candidates]))
    pairs = [pairs_of(Level(*rows)) for rows in zip(*levels, strict=True)]
    by_formula: dict[str, list[tuple[Level, Level]]] = {}
    for candidate, some in zip(candidates, pairs, strict=True):
        for made, pair in zip(candidate.steps, some, strict=True):
            by_formula.setdefault(made.formula, []).append(pair)
    steppers = {name: FORMULAS[name].stepper(time_of)(some) for name, some in by_formula.items()}

    def choice(made: Made) -> Choice:
        return Choice(FORMULAS[made.formula].kept, steppers[made.formula], made.order, made.corrector)

    return [mixed(some, [choice(made) for made in one.steps]) for one, some in zip(candidates, pairs, strict=True)]


def table(plan: Linear) -> Float[np.ndarray, "evaluations columns"]:
    """A plan's numbers, as if it kept both predictions, whatever it keeps: so all of one length share a program."""
    zeros = np.zeros(len(plan.level.time))
    history = [zeros] * DEEP
    first, every = (0, 1) if plan.kept is both else (int(plan.kept is noise), 2)
    for age, weights in enumerate(plan.x.history):
        history[first + every * age] = zeros if weights is None else np.asarray(weights)
    return np.stack([*plan.level, zeros if plan.x.x is None else plan.x.x, *history], axis=1)


class Space:
    """All candidates with so many evaluations between two times."""

    def __init__(self, process: Process, evaluations: int, start: float, end: float) -> None:
        self.process, self.evaluations, self.start, self.end = process, evaluations, start, end
        level = exact_levels(process, [start, end])
        self.blind = level.alpha[0] <= 0  # whether nothing is left of the data at the start
        self.begun = start * (1 - LEAST_RATIO) if self.blind else start
        self.floor = end if level.sigma[1] > 0 else float(process.time_of(-np.log(LEAST_RATIO)))
        at = exact_levels(process, [self.begun, self.floor])
        first, last = np.log(at.alpha) - np.log(at.sigma)
        lambdas = np.linspace(first, last, FINE)
        self.time_of = CubicSpline(lambdas, process.time_of(lambdas))  # near enough to choose by

    def starts(self) -> Iterator[Candidate]:
        """Solvers that have a name, on the usual grids."""
        schedules = [(times, steps(self.process, times)) for times in self.grids()]
        for formula, order, corrector in NAMED:
            for times, pairs in schedules:
                left = left_of(pairs, order)
                made = [Made(formula, min(order, n), corrector and min(corrector, n + 1)) for n in left]
                yield self._legal(Candidate(tuple(made), times))

    def grids(self) -> Iterator[np.ndarray]:
        process, count, start, end = self.process, self.evaluations, self.start, self.end
        inner = [uniform(process, count, start, end), cosine(process, count, start, end)]
        if self.floor == end:
            inner = [uniform_log_snr(process, count, self.begun, end), edm(process, count + 1, self.begun, end), *inner]
        elif count > 1:
            floors = [time for time in process.time_of(-np.log(FLOORS)) if end < time < self.begun]
            inner = [edm(process, count, self.begun, floor) for floor in floors] + inner
            inner = [np.append(uniform_log_snr(process, count - 1, self.begun, floor), end) for floor in floors] + inner
        for times in inner:
            yield np.concatenate([[start], times[1:count], [end]])

    def bred(self, generator: np.random.Generator, parents: Sequence[Candidate]) -> Candidate:
        """A change of one of some candidates, or of what is between two of them."""
        one, other = (parents[i] for i in generator.integers(len(parents), size=2))
        made, logs = [*one.steps], self._logs(one)
        if generator.random() < CROSSED:
            chosen = generator.integers(2, size=len(made))
            made = [pair[i] for pair, i in zip(zip(made, other.steps, strict=True), chosen, strict=True)]
            logs = logs + generator.choice([0.0, 0.5, 1.0]) * (self._logs(other) - logs)
        rate = generator.choice([0.0, 1.0, 2.0]) / len(made)

        def changed(some: Sequence[Any], before: Any) -> Any:
            return some[int(generator.integers(len(some)))] if generator.random() < rate else before

        made = [
            Made(
                changed([*FORMULAS], one.formula),
                changed(ORDERS, one.order),
                changed(CORRECTORS, one.corrector),
            )
            for one in made
        ]
        width = math.exp(generator.uniform(*np.log(WIDTHS)))
        some = generator.random(len(logs)) < generator.choice([0.0, 1.5 / len(made), 0.5, 1.0])
        change = some * generator.normal(size=len(logs))
        if generator.random() < BENT:
            change = change + generator.normal() + generator.normal() * np.linspace(-1, 1, len(logs))
        return self._legal(Candidate(tuple(made), self._times(logs + width * change)))

    def _logs(self, candidate: Candidate) -> Float[np.ndarray, " steps"]:
        """The logarithms of steps in the logarithm of time, without one that leads to zero."""
        return np.log(-np.diff(np.log(candidate.times[candidate.times > 0])))

    def _times(self, logs: Float[np.ndarray, " steps"]) -> np.ndarray:
        """What has such steps, on a scale on which they end where they should, or no lower than makes a difference."""
        lengths = np.maximum(np.exp(logs), CLOSEST)
        whole = math.log(self.start / (self.end or self.floor))
        if self.end > 0 or lengths.sum() > whole:
            lengths = lengths * whole / lengths.sum()
        inner = self.start * np.exp(-np.cumsum(lengths))
        return np.concatenate([[self.start], inner[:-1] if self.end > 0 else inner, [self.end]])

    def _legal(self, candidate: Candidate) -> Candidate:
        """As its plan is: with no more predictions than there are, and none of the noise where nothing else is left."""
        made, last = [], self.evaluations - 1
        for i, one in enumerate(candidate.steps):
            order = 1 if i == last and self.floor != self.end else min(one.order, i + 1)
            made.append(Made(one.formula, order, 0 if i == last else min(one.corrector, i + 2)))
        if self.blind:
            first = made[0] if FORMULAS[made[0].formula].kept is data else made[0]._replace(formula="data, B2")
            made[0] = first._replace(corrector=0)
        return Candidate(tuple(made), candidate.times)
