"""DPM-Solver++(2M): a line through two predictions of the data, integrated exactly with the decay of the noise."""

import math

import equinox as eqx
import numpy as np

from ..processes.base import Process
from .base import Combination, Evaluation, Linear, data, half_log_snr, linear, steps


class DPMSolverPP(eqx.Module):
    r"""$x_t = (\sigma_t / \sigma_s)\, x_s - \alpha_t (e^{-h} - 1)\, ((1 + \frac1{2r}) d_s - \frac1{2r} d_q)$.

    $h = \lambda_t - \lambda_s$, $r h = \lambda_s - \lambda_q$, and $d$ are predictions of the data at s and at q, the
    time before it; of order two. The first step, and the last one if it ends where there is no noise, are of order one.

    Choose it as the simple solver that is hard to beat at 10 to 20 evaluations.

    Source: Lu, Zhou, Bao, Chen, Li and Zhu (2022), DPM-Solver++: fast solver for guided sampling of diffusion
    probabilistic models, algorithm 2.
    """

    def plan(self, process: Process, times: np.ndarray) -> Linear:
        evaluations, before = [], math.inf
        for s, t in steps(process, times):
            h = half_log_snr(t) - half_log_snr(s)
            weight = -t.alpha * math.expm1(-h)
            back = 0.5 * h / before if math.isfinite(h) else 0.0
            evaluations.append(
                Evaluation(s.time, Combination(t.sigma / s.sigma, [weight * (1 + back), -weight * back]))
            )
            before = h
        return linear(process, data, evaluations)
