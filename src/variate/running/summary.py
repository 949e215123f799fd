"""The table of what draws tell of each number, and the verdict: what is in doubt, and what to try."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from variate.trees import place

from .measures import (
    FEWEST,
    Constants,
    alone,
    apart,
    effective,
    error_between,
    exactly,
    moments,
    named,
    outermost_acceptance,
    rank_rhat,
    rhat_by_chance,
    standard_error,
)

# Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Bayesian Analysis 16(2), sections 4 and 6.
_RHAT, _ESS = 1.01, 100
# Of four chains ten are then beyond the quantile of 5%. The smaller of two estimates is asked: of 400 draws that do not
# depend on each other it is 330, and a rule that stops at 400 is not to be doubted for it.
_ESS_TAILS = 50
_OWN = 50  # of a walker by itself: of fewer one that is stuck looks like one that is slow
_TAILS = 0.05, 0.95
LOST = 1e-3  # of the steps
_BFMI = 0.3  # below which Betancourt (2016, arXiv:1604.00695) saw chains fail, as in Stan
_BARE = "the draws"  # what doubts call an array without a name
# Where steps are refused chains stay when they come there, and seldom come. Chosen after a look at runs; on other keys
# all 15 of 36 runs of narrow bananas that were more than 4 errors off are in doubt by this, none of 72 of six
# posteriors on which NUTS is right, and 2 of 24 of a seventh.
_REFUSED, _ACCEPTED = 4.4, 0.7
# Of the draws of a chain in one place. With 100 effective draws it is twenty times as long as a chain stays on average,
# and where each move is as likely as the last a chain stays that long with probability exp(-20).
_HELD = 0.1


class Doubt(NamedTuple):
    """What there is against draws, and what may help."""

    words: str
    remedy: str


class StepsTold(NamedTuple):
    """What doubts ask of the steps: which diverged, of each chain how far its energy goes, who steps together."""

    divergent: np.ndarray
    bfmi: np.ndarray  # NaN where there is no energy
    walkers: int  # so many chains in a row are one ensemble
    history: bool  # a step depends on all before it
    constants: Constants  # of the numbers
    acceptance: np.ndarray | None  # means over paths, of kernels that follow some


class Row(NamedTuple):
    """What draws tell of one number."""

    name: str
    mean: float
    sd: float
    error: float  # the standard error of the mean; NaN where a chain stands still, as are the last three
    low: float  # quantiles: 5%,
    median: float  # 50%
    high: float  # and 95%
    bulk: float  # effective draws of the middle
    tail: float  # and of the quantiles of 5% and 95%, the smaller one
    rhat: float


@dataclasses.dataclass(frozen=True)
class Summary:
    """A row for each number, and the doubts there are; prints as an aligned table with the verdict below."""

    rows: tuple[Row, ...]
    doubts: tuple[Doubt, ...]

    def __str__(self) -> str:
        head = ("", "mean", "sd", "error", "5%", "50%", "95%", "bulk ESS", "tail ESS", "R-hat")
        cells = [head, *[_cells(row) for row in self.rows]]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join([c[0].ljust(widths[0]), *map(str.rjust, c[1:], widths[1:])]).rstrip() for c in cells]
        return "\n".join([*lines, "", *self._verdict()])

    __repr__ = __str__

    def _verdict(self) -> Iterator[str]:
        if not self.doubts:
            yield "Nothing is found that speaks against these draws."
        for doubt in self.doubts:
            yield f"In doubt: {doubt.words}."
            yield f"    Try: {doubt.remedy}."


def _cells(row: Row) -> tuple[str, ...]:
    return (row.name, *[f"{x:.4g}" for x in row[1:7]], f"{row.bulk:.0f}", f"{row.tail:.0f}", f"{row.rhat:.3f}")


class _Measured(NamedTuple):
    """One array of numbers, and what rows and doubts both ask of it."""

    x: np.ndarray
    error: np.ndarray | np.floating
    bulk: np.ndarray
    tail: np.ndarray
    rhat: np.ndarray


def _measured(found: PyTree[np.ndarray], steps: StepsTold) -> list[_Measured]:
    walkers = steps.walkers

    def measured(name: str, x: np.ndarray) -> _Measured:
        bulk, tail = effective(x, "bulk", walkers=walkers), effective(x, "tail", _TAILS, walkers)
        rhat = rank_rhat(x, len(x) // walkers if walkers > 1 else None)
        error = error_between(x) if steps.history else standard_error(x, walkers)
        exact = {"": steps.constants.get(name, ())}
        pairs = ((error, 0.0), (bulk, np.inf), (tail, np.inf), (rhat, 1.0))
        return _Measured(x, *[exactly(measured, exact, value) for measured, value in pairs])

    return [measured(name, x) for name, x in named(found, "").items()]


def summary_of(found: PyTree[np.ndarray], values: PyTree, steps: StepsTold, ended: str | None) -> Summary:
    measured = _measured(found, steps)
    doubts = _doubts(named(found, _BARE), measured, values, steps)
    if ended is not None:
        doubts.append(Doubt(f"the run was {ended}" if ended == "interrupted" else f"the run {ended}", _GO_ON))
    some = [(name, one) for name, one in zip(named(found, "x"), measured, strict=True) if one.x.size]
    rows = [row for name, one in some for row in _rows(name, one)]
    return Summary(tuple(rows), tuple(doubts))


def _rows(name: str, of: _Measured) -> Iterator[Row]:
    x, error, *measured = of
    quantiles = np.quantile(x, [0.05, 0.5, 0.95], axis=(0, 1))
    columns = np.array([*moments(x), error, *quantiles, *measured])
    for index in np.ndindex(x.shape[2:]):
        yield Row(name + place(index), *map(float, columns[:, *index]))


def doubts_of(found: PyTree[np.ndarray], values: PyTree, steps: StepsTold) -> list[Doubt]:
    """Of f of the draws, the draws themselves, and their steps."""
    return _doubts(named(found, _BARE), _measured(found, steps), values, steps)


def _doubts(names: Iterable[str], measured: list[_Measured], values: PyTree, steps: StepsTold) -> list[Doubt]:
    divergent, walkers = steps.divergent, steps.walkers

    def who(chain: int | np.integer) -> str:
        return f"chain {chain}" if walkers == 1 else f"walker {chain % walkers} of ensemble {chain // walkers}"

    one, many = ("chain", "chains") if walkers == 1 else ("walker", "ensembles")
    enough, beyond = (least * len(divergent) // walkers for least in (_ESS, _ESS_TAILS))
    doubts = []
    if divergent.shape[1] < FEWEST:
        words = f"there are {divergent.shape[1]} draws of each chain, and of fewer than {FEWEST} nothing can be told"
        return [Doubt(words, _FEW)]
    for name, (x, _, bulk, tails, rhats) in zip(names, measured, strict=True):
        if not x.size:
            continue
        ess, tail, rhat = np.min(bulk), np.min(tails), np.max(rhats)
        if np.isnan(ess):
            doubts.append(Doubt(f"a {one} stands still in {name}", _STUCK))
        elif rhat >= _RHAT and np.any(rhats >= by_chance(x, walkers)):
            doubts.append(Doubt(f"{many} disagree on {name}: R-hat is {rhat:.3f}", _APART))
        elif ess < enough:
            doubts.append(Doubt(f"only {ess:.0f} effective draws of {name}, {enough} are wanted", _FEW))
        elif (own := np.min(alone(x, walkers))) < _OWN:
            doubts.append(Doubt(f"only {own:.0f} effective draws of {name} by each walker, {_OWN} are wanted", _SLOW))
        elif len(odd := apart(x, own)):
            doubts += [Doubt(f"{who(chain)} is not where the others are in {name}", _APART) for chain in odd]
        elif not tail >= beyond:
            doubts.append(Doubt(f"only {tail:.0f} effective draws in the tails of {name}, {beyond} are wanted", _FEW))
    held, draws = longest_stay(values), divergent.shape[1]
    if not any(doubt.remedy == _STUCK for doubt in doubts):
        for chain in np.flatnonzero(held > _HELD * max(draws, _ESS)):
            doubts.append(Doubt(f"{who(chain)} stands still for {held[chain]} of its {draws} draws", _STUCK))
    lost = int(np.sum(divergent))
    if lost > LOST * divergent.size:
        words = f"{lost} of {divergent.size} steps diverged: the target is too steep for them somewhere"
        doubts.append(Doubt(words, _STEEP))
    doubts += _refused_far_out(names, measured, steps)
    slow = np.flatnonzero(steps.bfmi < _BFMI)
    if slow.size:
        least = f"E-BFMI is {np.nanmin(steps.bfmi):.2f}, and below {_BFMI} in {slow.size} of {len(steps.bfmi)} chains"
        doubts.append(Doubt(f"{least}: the energy walks at random, and tails are hardly reached", _HEAVY))
    return doubts


def _refused_far_out(names: Iterable[str], measured: list[_Measured], steps: StepsTold) -> Iterator[Doubt]:
    """Of the number from whose outermost draws steps are accepted least."""
    if steps.acceptance is None:
        return
    known = [(name, x) for name, (x, *_) in zip(names, measured, strict=True) if x.size and np.all(np.isfinite(x))]
    least, name = min(((outermost_acceptance(x, steps.acceptance), name) for name, x in known), default=(1.0, ""))
    mean = float(np.mean(steps.acceptance))
    if least < _ACCEPTED and 1 - least > _REFUSED * (1 - mean):
        words = f"steps from the outermost draws of {name} are accepted with probability {least:.2f}, {mean:.2f} in all"
        yield Doubt(f"{words}: chains seldom go there, and no error bar knows it", _STEEP)


def by_chance(x: np.ndarray, walkers: int) -> np.ndarray | float:
    """How large R-hat is of chains that agree; what there is for chains alone is not known for ensembles."""
    return np.maximum(rhat_by_chance(x), _RHAT) if walkers == 1 else _RHAT


def longest_stay(values: PyTree) -> np.ndarray:
    """How many draws each chain stays in one place, at most; whole numbers repeat by themselves and do not count."""
    real = [np.asarray(x) for x in jax.tree.leaves(values) if np.issubdtype(np.asarray(x).dtype, np.inexact)]
    if not real:
        return np.zeros(len(jax.tree.leaves(values)[0]), int)
    moved = np.any([np.any(np.diff(x, axis=1) != 0, axis=tuple(range(2, x.ndim))) for x in real], axis=0)
    first = np.pad(moved, ((0, 0), (1, 0)), constant_values=True)  # draws that are not where the one before was
    now = np.arange(first.shape[1])
    return np.max(now - np.maximum.accumulate(np.where(first, now, 0), axis=1), axis=1) + 1


_STUCK = "other starts, shorter steps or a longer warm-up; a number that takes few values can be left out by f"
_APART = "another parametrization, in which it is easy to get from one part to the other; a longer warm-up; more draws"
_FEW = "more draws, by num_samples or until; another parametrization; a kernel that follows the gradient"
_SLOW = "more draws, for a walker that is stuck would look like these; a kernel that is no ensemble"
_STEEP = "another parametrization; shorter steps, by vt.mcmc.NUTS(acceptance=0.95); a tighter prior"
_HEAVY = "another parametrization, of lighter tails and without a funnel; a tighter prior; many more draws"
_GO_ON = "more draws, by num_samples, or a rule that asks for less; with a checkpoint the same run goes on"
