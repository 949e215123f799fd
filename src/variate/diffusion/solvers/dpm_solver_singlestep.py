"""DPM-Solver: single steps of order two or three on predictions of the noise, with the decay of the data exact."""

import equinox as eqx
import numpy as np

from ..processes.base import Process
from .base import Linear, linear, noise
from .singlestep import check_order, singlestep


class DPMSolverSinglestep(eqx.Module):
    r"""$x_t = (\alpha_t / \alpha_s)\, x_s - \alpha_t \int_s^t e^{-\lambda} \epsilon\, d\lambda$ by a line or a curve.

    With $h = \lambda_t - \lambda_s$, order two asks again at $\lambda_s + h / 2$ and takes $x_t = (\alpha_t / \alpha_s)
    x_s - \sigma_t (e^h - 1)\, \epsilon_{1/2}$. Order three asks at thirds of $h$ and takes $x_t = (\alpha_t / \alpha_s)
    x_s - \sigma_t (e^h - 1)\, \epsilon_s - \frac32 \sigma_t (\frac{e^h - 1}{h} - 1)(\epsilon_{2/3} - \epsilon_s)$. A
    step takes as many evaluations as the order, so times for n evaluations are n / order + 1. One that ends where there
    is no noise takes one, and is of order one.

    The wrong choice where predictions of the data are bounded or guided strongly (`DPMSolverPPSinglestep`), and for
    fewer than about ten evaluations, of which a multistep solver makes more steps.

    Raises:
        ValueError: another order, or times that start where nothing is left of the data.

    Source: Lu, Zhou, Bao, Chen, Li and Zhu (2022), DPM-Solver: a fast ODE solver for diffusion probabilistic model
    sampling in around 10 steps, NeurIPS 35, algorithms 1 and 2.
    """

    order: int = eqx.field(static=True, default=2)  # 2 or 3

    def __check_init__(self) -> None:
        check_order("DPMSolverSinglestep", self.order)

    def plan(self, process: Process, times: np.ndarray) -> Linear:
        return linear(process, noise, singlestep(process, times, self.order, of_data=False))
