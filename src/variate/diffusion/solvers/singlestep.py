"""Exponential Runge-Kutta steps: the decay of x exactly, and through predictions within a step."""

from collections.abc import Iterator

import numpy as np

from ..processes.base import Level, Process, exact_levels
from .base import Combination, Evaluation, check_signal, half_log_snr, steps

FRACTIONS = {2: (1 / 2,), 3: (1 / 3, 2 / 3)}  # of a step of lambda, at which the model is asked within it


def check_order(name: str, order: int) -> None:
    if order not in FRACTIONS:
        raise ValueError(f"the order of {name} must be 2 or 3, got {order!r}: of order 1 it is DDIM()")


def swapped(level: Level) -> Level:
    r"""The flow reads the same with data for noise, $\alpha$ for $\sigma$ and $-\lambda$ for $\lambda$."""
    return Level(level.time, level.sigma, level.alpha)


def singlestep(process: Process, times: np.ndarray, order: int, of_data: bool) -> list[Evaluation]:
    """As many evaluations a step as the order; one, and of order one, where an end is all data or all noise."""
    pairs = steps(process, times)
    if not of_data:
        check_signal(process, times)
    middles = iter(_within(process, pairs, FRACTIONS[order]))
    evaluations = []
    for s, t in pairs:
        levels = [s, *(next(middles) for _ in FRACTIONS[order]), t] if _inside(s, t) else [s, t]
        evaluations += step(*map(swapped, levels) if of_data else levels)
    return evaluations


def _inside(s: Level, t: Level) -> bool:
    return s.alpha > 0 and t.sigma > 0


def _within(process: Process, pairs: list[tuple[Level, Level]], fractions: tuple[float, ...]) -> Iterator[Level]:
    """The levels at these fractions of every step, all found at once."""
    ends = [(half_log_snr(s), half_log_snr(t)) for s, t in pairs if _inside(s, t)]
    wanted = [first + part * (last - first) for first, last in ends for part in fractions]
    levels = exact_levels(process, process.time_of(wanted))
    return (Level(*map(float, level)) for level in zip(*levels, strict=True))


def step(s: Level, *others: Level) -> Iterator[Evaluation]:
    r"""The evaluations of a step from s to the last level, for predictions of the noise.

    The step of order one is $x_t = (\alpha_t / \alpha_s)\, x_s + c_t\, \epsilon_s$, and $h_t = \lambda_t - \lambda_s$.
    """
    *middles, t = others

    def scale(at: Level) -> float:
        return at.alpha / s.alpha

    def first(at: Level) -> float:
        return at.sigma - scale(at) * s.sigma

    def second(at: Level) -> float:
        """What the slope of the prediction, from s on and over the length of the step, is worth there."""
        h = half_log_snr(at) - half_log_snr(s)
        return -at.sigma * (np.expm1(h) / h - 1)

    here = others[0]
    yield Evaluation(s.time, Combination(scale(here), [first(here)]), Combination(1.0) if middles else None)
    if len(middles) == 1:
        yield Evaluation(middles[0].time, Combination(history=[first(t)], anchor=scale(t)))
    elif middles:
        low, high = middles
        bend = 2 * second(high)  # the slope is seen over a half of the way to `high`
        yield Evaluation(low.time, Combination(history=[bend, first(high) - bend], anchor=scale(high)))
        bend = 1.5 * second(t)  # and over two thirds of the step
        yield Evaluation(high.time, Combination(history=[bend, 0.0, first(t) - bend], anchor=scale(t)))
