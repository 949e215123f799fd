"""What multistep solvers share: how many predictions a step looks back on, and a predictor with its corrector."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array

from ...denoisers.base import Prediction
from ...processes.base import Level, Process
from ..base import Combination, Evaluation, Linear, check_signal, half_log_snr, linear, noise, steps
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


def multistep(
    process: Process,
    times: np.ndarray,
    kept: Callable[[Prediction], Array],
    order: int,
    step: Callable[[Level, Level], Step],
    corrector: int = 0,
) -> Linear:
    """The plan of steps each of which looks back on up to `order` predictions.

    With a corrector, the step is made once more when the prediction at its end is there, of that one and those before
    it, `corrector` in all: from the same point and with the same noise, so it differs by predictions alone.
    """
    if kept is noise:
        check_signal(process, times)
    pairs = steps(process, times)
    lowered = len(pairs) < FEW or _leaps(pairs)
    evaluations, mended, most = [], None, max(order, corrector)
    for i, (s, t) in enumerate(pairs):
        left = len(pairs) - i if lowered else order
        made, levels = step(s, t), [pairs[j][0] for j in range(i, max(i - most, -1), -1)]
        ahead = made.weigh(levels[: _reach(levels, t, min(order, left))])
        history = ahead if mended is None else _sum(made.carry * mended, ahead)
        evaluations.append(Evaluation(s.time, Combination(made.carry, list(history), noise=made.noise)))
        mended = None
        if corrector and i + 1 < len(pairs) and math.isfinite(half_log_snr(s)):
            behind = [t, *levels]
            reach = _reach(behind, t, min(corrector, left + 1))
            mended = _sum(made.weigh(behind[:reach]), -np.concatenate([np.zeros_like(ahead[:1]), ahead]))
    return linear(process, kept, evaluations)


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
