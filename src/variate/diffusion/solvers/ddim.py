"""DDIM: from one level of noise to the next as if the predicted data were the truth, with some of the noise fresh."""

import equinox as eqx
import numpy as np

from variate.checks import check_number

from ..processes.base import Process
from .base import Combination, Evaluation, Linear, data, linear, steps


class DDIM(eqx.Module):
    r"""$x_t = \alpha_t \hat x_0 + \sqrt{\sigma_t^2 - \tau^2}\, \hat\epsilon + \tau z$ from time s to t < s.

    It is of order one. $\tau = \eta\, \sigma_t \sqrt{1 - (\alpha_s \sigma_t / \alpha_t \sigma_s)^2}$ is the standard
    deviation of fresh noise: with $\eta = 0$ none, and the probability flow is solved; with $\eta = 1$ all that the
    process puts in between t and s, and the chain is the ancestral one.

    Choose it as what others are compared with, and where a model is so bad that a higher order has nothing to go on.

    Raises:
        ValueError: $\eta$ outside its range.

    Source: Song, Meng and Ermon (2021), Denoising diffusion implicit models, ICLR, eqs. 12 and 16.
    """

    eta: float = eqx.field(static=True, default=0.0)  # from 0 to 1

    def __check_init__(self) -> None:
        if not 0 <= check_number("eta", self.eta) <= 1:
            raise ValueError(f"eta must be from 0 to 1, got {self.eta}")

    def plan(self, process: Process, times: np.ndarray) -> Linear:
        evaluations = []
        for s, t in steps(process, times):
            fresh = self.eta * t.sigma * np.sqrt(1 - (s.alpha * t.sigma / (t.alpha * s.sigma)) ** 2)
            old = np.sqrt(t.sigma**2 - fresh**2) / s.sigma
            evaluations.append(Evaluation(s.time, Combination(old, [t.alpha - old * s.alpha], noise=fresh)))
        return linear(process, data, evaluations)
