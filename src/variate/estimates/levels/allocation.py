"""How many runs each of several programs should have that go up and down together."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

FEWEST = 30  # runs of any kind, below which their variance is a guess


class Pilot(NamedTuple):
    """What is known of programs, with a column for each number of the result."""

    variances: Float[np.ndarray, " m"]  # of the first
    squares: Float[np.ndarray, "programs m"]  # of correlations with the first
    slopes: Float[np.ndarray, "programs m"]  # of the first regressed on the others
    costs: Float[np.ndarray, " programs"]

    @classmethod
    def of(cls, rows: Float[np.ndarray, "n programs m"], costs: Float[np.ndarray, " programs"]) -> "Pilot":
        deviations = rows - rows.mean(axis=0)
        variances, products = np.mean(deviations**2, axis=0), np.mean(deviations * deviations[:, :1], axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = np.nan_to_num(products / variances, posinf=0.0, neginf=0.0)
            squares = np.nan_to_num(slopes * products / variances[0], posinf=0.0)
        # Programs that agree on all of the pilot may differ in what it has not seen.
        squares[1:] = np.minimum(squares[1:], 1 - 1 / len(rows) ** 2)
        return cls(variances[0], squares, slopes, costs)


class Plan(NamedTuple):
    """Which programs run, from the first on by falling correlation, and how often for each run of the first."""

    order: tuple[int, ...]
    ratios: Float[np.ndarray, " used"]

    def cost(self, pilot: Pilot) -> float:
        return float(np.sum(pilot.costs[list(self.order)] * self.ratios))

    def variance(self, pilot: Pilot) -> float:
        r"""Of a run of the first with its share of the others: $\sigma_1^2 (1 - \sum_i (1/r_{i-1} - 1/r_i) \rho_i^2)$.

        Of the number whose variance is largest.
        """
        left = -np.diff(1 / self.ratios) @ pilot.squares[list(self.order[1:])]
        return float(np.max(pilot.variances * (1 - left)))

    def counts(self, first: float) -> Int[np.ndarray, " used"]:
        """The runs of each, of which those before are part, so that none adds fewer than tell its variance."""
        counts: list[int] = []
        for ratio in self.ratios:
            # Where a pilot was not finite nothing will do; the result says so.
            wanted = int(np.ceil(np.nan_to_num(ratio * first, posinf=0.0)))
            counts.append(max(wanted, FEWEST + (counts[-1] if counts else 0)))
        return np.array(counts)


def plans(pilot: Pilot) -> Iterator[Plan]:
    """What is best for each number of the result, by each selection of programs whose order allows it."""
    others = range(1, len(pilot.costs))
    for chosen in itertools.chain.from_iterable(
        itertools.combinations(others, size) for size in range(len(others) + 1)
    ):
        for column in pilot.squares.T:
            order = [0, *sorted(chosen, key=lambda i: -column[i])]
            falls = -np.diff([1.0, *column[order[1:]], 0.0])
            ratios = np.sqrt(pilot.costs[0] * falls / (pilot.costs[order] * falls[0]))
            if np.all(np.diff(ratios) > 0):
                yield Plan(tuple(order), ratios)


def segments(
    plan: Plan, counts: Int[np.ndarray, " used"], pilot: Pilot
) -> Iterator[tuple[Float[np.ndarray, "running m"], int, int]]:
    """The runs that the same programs take part in: what to add their results with, how many, and which is the first.

    The sum over segments of their means is the estimate.
    """
    before = 0
    for first, count in enumerate(counts):
        size = int(count) - before
        shares = [size / counts[i] - (size / counts[i - 1] if i > first else 0) for i in range(first, len(counts))]
        slopes = np.where(np.array(plan.order)[:, None] == 0, 1.0, pilot.slopes[list(plan.order)])
        yield slopes[first:] * np.array(shares)[:, None], size, first
        before = int(count)


def afforded(plan: Plan, pilot: Pilot, budget: float) -> Int[np.ndarray, " used"]:
    """The runs for what the pilot has left of a budget."""
    first, costs = max(budget, 0.0) / plan.cost(pilot), pilot.costs[list(plan.order)]
    while first > 1 and plan.counts(first) @ costs > budget:
        first *= 0.99
    counts = plan.counts(first)
    if (least := counts @ costs) > budget:
        raise ValueError(f"budget must be {least:.6g} at least beside what the pilot costs, got {budget:.6g} beside it")
    return counts
