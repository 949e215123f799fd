"""Restarts: noise added back, and the way down from it solved again."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import equinox as eqx
import numpy as np

from variate.checks import describe

from ..processes.base import Process, exact_levels
from ..schedules.base import check_times
from .base import Combination, Evaluation, Linear, Solver, Terms, check_solver, linear, noise


class Restart(eqx.Module):
    r"""Solves; at a time t that it reaches it adds noise up to a time s, $x_s = a x_t + b z$, and solves again.

    $a$ and $b$ are those of the process between t and s, so a draw that had the law of time t has it again, and what
    was off in it shrinks the more, the higher s is. Each schedule of `again` falls from such an s to such a t, and is
    solved by itself; give it K times for K restarts. Those that end at the same time are solved in turn.

    Choose it where fresh noise is wanted against the errors of a model or of long steps, with the accuracy of a solver
    of the flow between. The wrong choice for an exact model and enough evaluations: a restart then only costs them.

    Args:
        solver: of the flow, between the restarts; one whose stages are linear, `Heun()` say.
        again: schedules, each of which ends at one of the times that are solved for, after the first.

    Raises:
        TypeError, ValueError: a solver that is none or not linear, schedules that do not fall or end elsewhere.

    Source: Xu, Deng, Cheng, Tian, Liu and Jaakkola (2023), Restart sampling for improving generative processes,
    NeurIPS 36, section 3.1.
    """

    solver: Solver
    again: tuple[tuple[float, ...], ...] = eqx.field(static=True)

    def __init__(self, solver: Solver | Any, again: Iterable[Any]) -> None:
        check_solver("solver", solver)
        self.solver = solver
        try:
            self.again = tuple(tuple(map(float, times)) for times in again)
        except (TypeError, ValueError):
            raise TypeError(f"again must be a list of schedules, each of falling times, got {again!r}") from None

    def plan(self, process: Process, times: np.ndarray) -> Linear:
        pieces, rest, before = [], times, math.inf
        for once in sorted((check_times(each, process) for each in self.again), key=lambda each: -each[-1]):
            at = np.flatnonzero(np.isclose(times, once[-1], rtol=1e-9, atol=0.0))
            if len(at) != 1 or at[0] == 0:
                raise ValueError(f"again must end at one of the times after the first, {times}, got {once}")
            if rest[0] > times[at[0]]:
                pieces.append(rest[: len(rest) - len(times) + at[0] + 1])
                rest = times[at[0] :]
            pieces.append(once)
        if len(rest) > 1:
            pieces.append(rest)
        evaluations: list[Evaluation] = []
        kept = noise
        for piece in pieces:
            plan = self.solver.plan(process, piece)
            if not isinstance(plan, Linear):
                raise TypeError(f"solver must have linear stages to be restarted, got {describe(self.solver)}")
            if evaluations and piece[0] > before:
                evaluations[-1] = _noised(evaluations[-1], process, before, piece[0])
            evaluations += _evaluations(plan)
            before, kept = piece[-1], plan.kept
        return linear(process, kept, evaluations)


def _noised(last: Evaluation, process: Process, low: float, high: float) -> Evaluation:
    """With the noise that the process adds between two times after what the evaluation leads to."""
    at = exact_levels(process, [low, high])
    if at.alpha[0] <= 0:
        raise ValueError(f"noise can only be added where some of the data is left, not at time {low}")
    a = float(at.alpha[1] / at.alpha[0])
    x, b = last.x, math.sqrt(at.sigma[1] ** 2 - (a * at.sigma[0]) ** 2)
    fresh = math.hypot(a * x.noise, b)
    return replace(last, x=Combination(a * x.x, [a * part for part in x.history], a * x.anchor, fresh))


def _evaluations(plan: Linear) -> list[Evaluation]:
    """What a plan was made of."""

    def part(terms: Terms, i: int) -> Combination:
        columns = (terms.x, *terms.history, terms.anchor, terms.noise)
        x, *history, anchor, fresh = (0.0 if column is None else float(column[i]) for column in columns)
        return Combination(x, history, anchor, fresh)

    def anchor(i: int) -> Combination | None:
        return None if plan.anchor is None else part(plan.anchor, i)

    return [Evaluation(float(time), part(plan.x, i), anchor(i)) for i, time in enumerate(plan.level.time)]
