"""What multistep solvers share: how many predictions a step looks back on, and a predictor with its corrector."""

import math
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import NamedTuple

import numpy as np

from ...processes.base import Level, Process
from ..base import (
    Combination,
    Evaluation,
    Kept,
    Linear,
    both,
    check_signal,
    data,
    half_log_snr,
    linear_at,
    noise,
    steps,
)
from .weights import weights

FEW = 15  # steps: where there are fewer, the last ones had better not extrapolate far


class Step(NamedTuple):
    r"""From s to t: $x_t = a x_s + \sum_j w_j m_j + b z$, for predictions m at some levels.

    Both a and each of the w may be arrays, of a number for each coordinate.
    """

    carry: float | np.ndarray  # a
    weigh: Callable[[Sequence[Level]], np.ndarray]  # w, of the levels
    noise: float = 0.0  # b


def data_step(tau: float = 0.0, growth: Callable[[float], float] | None = None) -> Callable[[Level, Level], Step]:
    r"""Predictions of the data, integrated with the decay of the noise, a part of which is fresh.

    $x_t = \frac{\sigma_t}{\sigma_s} e^{-\tau^2 h} x_s + \alpha_t (1 + \tau^2)
    \int e^{(1 + \tau^2)(\lambda - \lambda_t)} d(\lambda)\, d\lambda + \sigma_t \sqrt{1 - e^{-2 \tau^2 h}}\, z$.
    """

    def of(s: Level, t: Level) -> Step:
        start, end = half_log_snr(s), half_log_snr(t)
        decay = tau**2 * (end - start) if tau else 0.0

        def weigh(levels: Sequence[Level]) -> np.ndarray:
            return t.alpha * weights([half_log_snr(one) for one in levels], start, end, 1 + tau**2, growth)

        return Step(t.sigma / s.sigma * math.exp(-decay), weigh, t.sigma * math.sqrt(-math.expm1(-2 * decay)))

    return of


def noise_step(tau: float = 0.0, growth: Callable[[float], float] | None = None) -> Callable[[Level, Level], Step]:
    r"""Predictions of the noise, integrated with the signal; a part of the noise is fresh, where some is left.

    $x_t = \frac{\alpha_t}{\alpha_s} x_s - (1 + \tau^2)\, \alpha_t \int e^{-\lambda} \epsilon\, d\lambda + \tau \sigma_t
    \sqrt{e^{2h} - 1}\, z$.
    """

    def of(s: Level, t: Level) -> Step:
        start, end, part = half_log_snr(s), half_log_snr(t), tau if t.sigma > 0 else 0.0
        carry = t.alpha / s.alpha

        def weigh(levels: Sequence[Level]) -> np.ndarray:
            nodes = [half_log_snr(one) for one in levels]
            return -(1 + part**2) * carry * s.sigma * weights(nodes, start, end, -1.0, growth)

        return Step(carry, weigh, part * math.sqrt((carry * s.sigma) ** 2 - t.sigma**2))

    return of


class Choice(NamedTuple):
    """How one step is made."""

    kept: Kept  # `data` or `noise`, of which the weights are
    step: Callable[[Level, Level], Step]
    order: int  # how many predictions it looks back on, at most
    corrector: int = 0  # of how many predictions, at most, it is made once more when the one at its end is there


def multistep(
    process: Process,
    times: np.ndarray,
    kept: Kept,
    order: int,
    step: Callable[[Level, Level], Step],
    corrector: int = 0,
) -> Linear:
    """The plan of steps each of which looks back on up to `order` predictions, fewer where the end is near."""
    if kept is noise:
        check_signal(process, times)
    pairs = steps(process, times)
    left = left_of(pairs, order)
    return mixed(pairs, [Choice(kept, step, min(order, n), corrector and min(corrector, n + 1)) for n in left])


def left_of(pairs: Sequence[tuple[Level, Level]], order: int) -> list[int]:
    """How many steps are left, from each one on, where the last ones had better not look back far; else the order."""
    lowered = len(pairs) < FEW or _leaps(pairs)
    return [len(pairs) - i if lowered else order for i in range(len(pairs))]


def mixed(pairs: Sequence[tuple[Level, Level]], choices: Sequence[Choice]) -> Linear:
    """The plan of steps each of which is made in its own way.

    With a corrector, the step is made once more when the prediction at its end is there, of that one and those before
    it, `corrector` in all: from the same point and with the same noise, so it differs by predictions alone.
    """
    kinds = [kind for kind in (data, noise) if any(choice.kept is kind for choice in choices)]
    evaluations, mended, most = [], None, max(max(choice[2:]) for choice in choices)
    for i, ((s, t), choice) in enumerate(zip(pairs, choices, strict=True)):
        made, levels = choice.step(s, t), [pairs[j][0] for j in range(i, max(i - most, -1), -1)]
        ahead = made.weigh(levels[: _reach(levels, t, choice.order)])
        weights = {choice.kept: ahead}
        if mended is not None:
            kind, change = mended[0], made.carry * mended[1]
            weights[kind] = _sum(change, weights[kind]) if kind in weights else change
        by_turns = chain(*zip_longest(*(weights.get(kind, ()) for kind in kinds), fillvalue=0.0))
        evaluations.append(Evaluation(s.time, Combination(made.carry, list(by_turns), noise=made.noise)))
        mended = None
        if choice.corrector and i + 1 < len(pairs) and math.isfinite(half_log_snr(s)):
            behind = [t, *levels]
            again = made.weigh(behind[: _reach(behind, t, choice.corrector)])
            mended = choice.kept, _sum(again, -np.concatenate([np.zeros_like(ahead[:1]), ahead]))
    level = Level(*map(np.array, zip(*(s for s, _ in pairs), strict=True)))
    return linear_at(level, kinds[0] if len(kinds) == 1 else both, evaluations)


def _leaps(pairs: Sequence[tuple[Level, Level]]) -> bool:
    """Whether the last step is more than twice as long as the one before: to no noise it is infinitely long."""
    before, last = (half_log_snr(t) - half_log_snr(s) for s, t in pairs[-2:])
    return last > 2 * before


def _reach(levels: Sequence[Level], end: Level, most: int) -> int:
    """How many of the levels, the newest first, a polynomial may go through: one where the step is infinitely long."""
    if not (math.isfinite(half_log_snr(end)) and math.isfinite(half_log_snr(levels[0]))):
        return 1
    return min(most, sum(math.isfinite(half_log_snr(level)) for level in levels))


def _sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of two arrays, the shorter of which ends in zeros."""
    short, long = sorted((a, b), key=len)
    return long + np.pad(short, [(0, len(long) - len(short)), *[(0, 0)] * (short.ndim - 1)])
