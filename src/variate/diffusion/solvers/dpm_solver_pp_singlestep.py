"""DPM-Solver++ in single steps: of order two or three on predictions of the data, with the decay of the noise exact."""

import equinox as eqx
import numpy as np

from ..processes.base import Process
from .base import Linear, data, linear
from .singlestep import check_order, singlestep


class DPMSolverPPSinglestep(eqx.Module):
    r"""$x_t = (\sigma_t / \sigma_s)\, x_s + \sigma_t \int_s^t e^\lambda d\, d\lambda$ by a line or a curve.

    With $h = \lambda_t - \lambda_s$, order two asks for the data again at $\lambda_s + h / 2$ and takes $x_t =
    (\sigma_t / \sigma_s) x_s - \alpha_t (e^{-h} - 1)\, d_{1/2}$. Order three asks at thirds of $h$ and takes $x_t =
    (\sigma_t / \sigma_s) x_s - \alpha_t (e^{-h} - 1)\, d_s + \frac32 \alpha_t (\frac{e^{-h} - 1}{h} + 1)(d_{2/3} -
    d_s)$. A step takes as many evaluations as the order, so times for n evaluations are n / order + 1. One that ends
    where there is no noise, or starts where nothing is left of the data, takes one, and is of order one.

    Choose it over `DPMSolverPP` where a model changes so fast that what is predicted a step before misleads. At the
    same number of evaluations its steps are two or three times as long.

    Raises:
        ValueError: another order.

    Source: Lu, Zhou, Bao, Chen, Li and Zhu (2022), DPM-Solver++: fast solver for guided sampling of diffusion
    probabilistic models, algorithm 1; of order three, the authors' implementation.
    """

    order: int = eqx.field(static=True, default=2)  # 2 or 3

    def __check_init__(self) -> None:
        check_order("DPMSolverPPSinglestep", self.order)

    def plan(self, process: Process, times: np.ndarray) -> Linear:
        return linear(process, data, singlestep(process, times, self.order, of_data=True))
