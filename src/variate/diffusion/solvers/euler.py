"""Euler's method on the velocity: a straight step in the process's own time."""

import equinox as eqx
import numpy as np

from ..processes.base import Process, exact_slopes
from .base import Combination, Evaluation, Linear, data, linear, steps


class Euler(eqx.Module):
    r"""$x_t = x_s + (t - s)(\alpha'(s)\, \hat x_0 + \sigma'(s)\, \hat\epsilon)$ from time s to t < s.

    The probability flow is $dx / dt = v(x, t)$, and this is its simplest method; of order one. On `Flow` and `EDM`,
    where signal and noise are straight in time, it is `DDIM`. On other processes it depends on how fast their time
    runs, as `DDIM` does not, which is then the better choice.

    Source: Liu, Gong and Liu (2023), Flow straight and fast, ICLR, section 2.1; for other processes Song,
    Sohl-Dickstein, Kingma, Kumar, Ermon and Poole (2021), Score-based generative modeling through stochastic
    differential equations, ICLR, eq. 13.
    """

    def plan(self, process: Process, times: np.ndarray) -> Linear:
        slopes = exact_slopes(process, times[:-1])
        evaluations = []
        for (s, t), alpha, sigma in zip(steps(process, times), slopes.alpha, slopes.sigma, strict=True):
            pull = (t.time - s.time) * float(sigma) / s.sigma  # the noise is what the data leave of x
            update = Combination(1 + pull, [(t.time - s.time) * float(alpha) - pull * s.alpha])
            evaluations.append(Evaluation(s.time, update))
        return linear(process, data, evaluations)
