"""Heun's method on the probability flow: a step, and then its mean with what is found at its end."""

import equinox as eqx
import numpy as np

from ..processes.base import Process
from .base import Combination, Evaluation, Linear, check_signal, linear, noise, steps


class Heun(eqx.Module):
    r"""$y_t = y_s + \frac12 (\rho_t - \rho_s)(\epsilon_s + \epsilon_t)$ for $y = x / \alpha$, $\rho = \sigma / \alpha$.

    In these variables the probability flow is $dy / d\rho = \epsilon(y, \rho)$ whatever the process, and the method is
    of order two. $\epsilon_t$ is predicted where Euler's step leads, so a step takes two evaluations; the last one
    takes one if it ends where there is no noise. The wrong choice for few evaluations: a multistep solver has the same
    order for one evaluation a step.

    Raises:
        ValueError: times that start where nothing is left of the data.

    Source: Karras, Aittala, Aila and Laine (2022), Elucidating the design space of diffusion-based generative models,
    NeurIPS 35, algorithm 1.
    """

    def plan(self, process: Process, times: np.ndarray) -> Linear:
        check_signal(process, times)
        evaluations = []
        for s, t in steps(process, times):
            scale, h = t.alpha / s.alpha, t.sigma - t.alpha * s.sigma / s.alpha  # of x, and of the noise
            half = Combination(scale, [0.5 * h])
            evaluations.append(Evaluation(s.time, Combination(scale, [h]), anchor=half))
            if t.sigma > 0:
                evaluations.append(Evaluation(t.time, Combination(0.0, [0.5 * h], anchor=1.0)))
        return linear(process, noise, evaluations)
