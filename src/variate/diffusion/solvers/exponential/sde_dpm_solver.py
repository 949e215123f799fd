"""SDE-DPM-Solver(1, 2M): the reverse-time diffusion itself, with predictions of the noise and exact noise."""

import math

import equinox as eqx
import numpy as np

from variate.checks import check_positive_int

from ...processes.base import Process
from ..base import Linear, noise
from .multistep import multistep, noise_step


class SDEDPMSolver(eqx.Module):
    r"""$x_t = \frac{\alpha_t}{\alpha_s} x_s - 2 \sigma_t (e^h - 1)\, \hat\epsilon + \sigma_t \sqrt{e^{2h} - 1}\, z$.

    $\hat\epsilon$ is $\epsilon_s$ for order one, and $(1 + \frac1{2r})\, \epsilon_s - \frac1{2r} \epsilon_q$ for order
    two, with h, r and q as in `DPMSolverPP`: the order of the error of means and covariances. The last step follows the
    flow if it ends where there is no noise. On `MeanReverting` these are the solvers of Li et al. for noise.

    Choose it over `SDEDPMSolverPP` where a network predicts the noise so well that steps are short. The wrong choice
    for long steps: the noise that goes in is then many times what is left at their end.

    Raises:
        ValueError: an order other than 1 or 2; times that begin where there is no signal.

    Sources: Lu, Zhou, Bao, Chen, Li and Zhu (2022), DPM-Solver++: fast solver for guided sampling of diffusion
    probabilistic models, SDE-DPM-Solver-1 and SDE-DPM-Solver-2M; Li, Fang, Zhao, Lu, Yang and Xu (2025), MRS: a fast
    sampler for mean reverting diffusion based on ODE and SDE solvers, ICLR.
    """

    order: int = eqx.field(static=True, default=2)

    def __check_init__(self) -> None:
        check_positive_int("order", self.order, 2)

    def plan(self, process: Process, times: np.ndarray) -> Linear:
        return multistep(process, times, noise, self.order, noise_step(1.0, math.expm1))
