"""The ancestral chain of DDPM: what came before, drawn given what there is and what is predicted."""

import math

import equinox as eqx
import numpy as np

from variate.checks import check_number

from ..processes.base import Process
from .base import Combination, Evaluation, Linear, data, linear, steps


class Ancestral(eqx.Module):
    r"""$x_t = \frac{a \sigma_t^2}{\sigma_s^2} x_s + \frac{\alpha_t b^2}{\sigma_s^2} \hat x_0 + \tau z$ from s to t.

    $x_s = a x_t + b z$ is what the process does between t and s, and the mean that of $x_t$ given $x_s$ and the data.
    The variance is $\tau^2 = b^2 (\alpha_t^2 v + \sigma_t^2) / (\alpha_s^2 v + \sigma_s^2)$, where $v$ is the square of
    `data_std`: right, however large the steps, for normal data of that standard deviation in each coordinate. With 0
    it is the posterior variance, which leaves out that the data are not known, and the chain is `DDIM(1)`; with 1 on a
    variance-preserving process it is DDPM's larger one, $\tau = b$. Other data have other variances, between the two
    if none of their standard deviations is above 1, and both are right in the limit of many steps.

    Choose it for its fresh noise, which forgets errors of early steps, where there are hundreds of evaluations. With
    few of them the flow is far better solved without noise.

    Raises:
        ValueError: a `data_std` that is negative.

    Source: Ho, Jain and Abbeel (2020), Denoising diffusion probabilistic models, NeurIPS 33, eq. 7 and section 3.2.
    """

    data_std: float = eqx.field(static=True, default=0.0)

    def __check_init__(self) -> None:
        if check_number("data_std", self.data_std) < 0:
            raise ValueError(f"data_std must not be negative, got {self.data_std}")

    def plan(self, process: Process, times: np.ndarray) -> Linear:
        evaluations = []
        for s, t in steps(process, times):
            a = s.alpha / t.alpha
            kept = a * (t.sigma / s.sigma) ** 2
            fresh = 1 - (a * t.sigma / s.sigma) ** 2  # b^2 / sigma_s^2
            spread_s, spread_t = (math.hypot(at.alpha * self.data_std, at.sigma) for at in (s, t))
            noise = s.sigma * math.sqrt(fresh) * spread_t / spread_s
            evaluations.append(Evaluation(s.time, Combination(kept, [t.alpha * fresh], noise=noise)))
        return linear(process, data, evaluations)
