"""DDIM accelerated: a line through two predictions of the noise, in the share of the data in the variance."""

import math

import equinox as eqx
import numpy as np

from ..processes.base import Level, Process
from .base import Combination, Evaluation, Linear, check_signal, linear, noise, steps


class AcceleratedDDIM(eqx.Module):
    r"""$y_t = y_s + (\gamma_t - \gamma_s)\, \epsilon_s + c\, (\epsilon_q - \epsilon_s)$.

    $y = x / \alpha$, $\gamma = \sigma / \alpha$, $\epsilon_q$ was predicted a step before, and noise is taken to be
    linear in $a = 1 / (1 + \gamma^2)$, which is $\alpha^2$ where $\alpha^2 + \sigma^2 = 1$, so that $c =
    \int_{\gamma_s}^{\gamma_t} \frac{a - a_s}{a_q - a_s}\, d\gamma = \frac{(\arctan \gamma_t - a_s \gamma_t) - (\arctan
    \gamma_s - a_s \gamma_s)}{a_q - a_s}$. On the authors' schedule of times the law drawn is proved to near the data's
    with the square of the number of steps, without smoothness or log-concavity of it. Of order two for one evaluation
    a step; the first step is of order one.

    Choose it for the guarantee. In few steps it is much like `DPMSolverPP`, which works with predictions of the data.

    Raises:
        ValueError: times that start where nothing is left of the data.

    Source: Li, Huang, Efimov, Wei, Chi and Chen (2024), Accelerating convergence of score-based diffusion models,
    provably, ICML; in the form of the authors' implementation.
    """

    def plan(self, process: Process, times: np.ndarray) -> Linear:
        check_signal(process, times)
        evaluations, before = [], None
        for s, t in steps(process, times):
            bend = 0.0 if before is None else t.alpha * _bend(before, s, t)
            straight = t.sigma - t.alpha * s.sigma / s.alpha
            history = [straight - bend, bend] if before is not None else [straight]
            evaluations.append(Evaluation(s.time, Combination(t.alpha / s.alpha, history)))
            before = s
        return linear(process, noise, evaluations)


def _bend(q: Level, s: Level, t: Level) -> float:
    def share(at: Level) -> float:
        return at.alpha**2 / (at.alpha**2 + at.sigma**2)

    def integral(at: Level) -> float:
        return math.atan2(at.sigma, at.alpha) - share(s) * at.sigma / at.alpha

    return (integral(t) - integral(s)) / (share(q) - share(s))
