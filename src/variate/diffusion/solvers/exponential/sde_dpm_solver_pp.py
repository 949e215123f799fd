"""SDE-DPM-Solver++(1, 2M): the reverse-time diffusion itself, with predictions of the data and exact noise."""

import math

import equinox as eqx
import numpy as np

from variate.checks import check_positive_int

from ...processes.base import Process
from ..base import Linear, data
from .multistep import data_step, multistep


class SDEDPMSolverPP(eqx.Module):
    r"""$x_t = \frac{\sigma_t}{\sigma_s} e^{-h} x_s + \alpha_t (1 - e^{-2h}) \hat d + \sigma_t \sqrt{1 - e^{-2h}} z$.

    $\hat d$ is $d_s$ for order one, which is ancestral sampling, and $(1 + \frac1{2r}) d_s - \frac1{2r} d_q$ for order
    two, with h, r and q as in `DPMSolverPP`: the order of the error of means and covariances. The last step ends with
    what the model predicts if it ends where there is no noise.

    Choose it where a network is imperfect and there are 20 evaluations or more: fresh noise forgets old errors.

    Raises:
        ValueError: an order other than 1 or 2. On this equation noise ends every gain of a third one.

    Source: Lu, Zhou, Bao, Chen, Li and Zhu (2022), DPM-Solver++: fast solver for guided sampling of diffusion
    probabilistic models, SDE-DPM-Solver++1 and SDE-DPM-Solver++(2M).
    """

    order: int = eqx.field(static=True, default=2)

    def __check_init__(self) -> None:
        check_positive_int("order", self.order, 2)

    def plan(self, process: Process, times: np.ndarray) -> Linear:
        return multistep(process, times, data, self.order, data_step(1.0, math.expm1))
