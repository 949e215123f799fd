"""DPM-Solver in several steps: a polynomial through predictions of the noise, integrated exactly with the signal."""

import math

import equinox as eqx
import numpy as np

from variate.checks import check_positive_int

from ...processes.base import Process
from ..base import Linear, noise
from .multistep import multistep, noise_step


class DPMSolver(eqx.Module):
    r"""$x_t = (\alpha_t / \alpha_s)\, x_s - \alpha_t \int_{\lambda_s}^{\lambda_t} e^{-\lambda} \epsilon\, d\lambda$.

    $\epsilon$ is the polynomial in $\lambda$ through as many predictions of the noise as `order`, the newest at s; of
    order two with $\frac12 h (e^h - 1)$ for the integral of $e^{\lambda_t - \lambda} (\lambda - \lambda_s)$. The first
    and the last steps look back less, as those of `DPMSolverPP`. Programs that are about call it DEIS in $\log \rho$.

    Choose it where a network that predicts noise is good everywhere; under strong guidance, and where the last steps
    are long, `DPMSolverPP` errs less.

    Raises:
        ValueError: an order other than 1, 2 or 3; times that begin where there is no signal.

    Source: Lu, Zhou, Bao, Chen, Li and Zhu (2022), DPM-Solver, NeurIPS 35, proposition 3.1, with earlier
    predictions for the derivatives, as in their DPM-Solver++.
    """

    order: int = eqx.field(static=True, default=2)

    def __check_init__(self) -> None:
        check_positive_int("order", self.order, 3)

    def plan(self, process: Process, times: np.ndarray) -> Linear:
        return multistep(process, times, noise, self.order, noise_step(growth=math.expm1))
