"""DPM-Solver++(1M, 2M, 3M): a polynomial through predictions of the data, integrated with the decay of the noise."""

import math

import equinox as eqx
import numpy as np

from variate.checks import check_positive_int

from ...processes.base import Process
from ..base import Linear, data
from .multistep import data_step, multistep


class DPMSolverPP(eqx.Module):
    r"""$x_t = (\sigma_t / \sigma_s)\, x_s + \sigma_t \int_{\lambda_s}^{\lambda_t} e^\lambda d(\lambda)\, d\lambda$.

    d is the polynomial in $\lambda$ through as many predictions of the data as `order`, the newest at s. Of order two
    that is $x_t = (\sigma_t / \sigma_s)\, x_s - \alpha_t (e^{-h} - 1)\, ((1 + \frac1{2r}) d_s - \frac1{2r} d_q)$, where
    $h = \lambda_t - \lambda_s$, $r h = \lambda_s - \lambda_q$, and q is the time before s: the integral of
    $\lambda - \lambda_s$ is taken as the source does, which is right to the same order. The first steps look back on
    what there is, and the last ones look back less where the last is more than twice as long in $\lambda$ as the one
    before, to no noise say, or where there are fewer than 15 steps: a polynomial does not extrapolate far.
    Being of order one, the first step would leave a solver of order three with order two, were not predictions nearly
    constant where there is hardly any signal.

    Choose it as the simple solver that is hard to beat at 10 to 20 evaluations.

    Raises:
        ValueError: an order other than 1, 2 or 3.

    Source: Lu, Zhou, Bao, Chen, Li and Zhu (2022), DPM-Solver++: fast solver for guided sampling of diffusion
    probabilistic models, algorithm 2. Programs of order three that are about take half of the second
    derivative, and are of order two.
    """

    order: int = eqx.field(static=True, default=2)

    def __check_init__(self) -> None:
        check_positive_int("order", self.order, 3)

    def plan(self, process: Process, times: np.ndarray) -> Linear:
        return multistep(process, times, data, self.order, data_step(growth=math.expm1))
