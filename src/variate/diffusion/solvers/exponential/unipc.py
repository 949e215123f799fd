"""UniPC: each step predicted, and corrected for free by the evaluation that the next one needs anyway."""

import math
from collections.abc import Callable

import equinox as eqx
import numpy as np

from variate.checks import check_number, check_positive_int, check_takes

from ...processes.base import Process
from ..base import Linear, data, noise
from .multistep import data_step, multistep, noise_step


class UniPC(eqx.Module):
    r"""A step of `DPMSolverPP` or `DPMSolver`, made once more of p + 1 predictions when the one at its end is there.

    The model is asked at the predicted point only, and that prediction is kept for the steps to come, so a step takes
    one evaluation; the last step is not corrected. Of order p + 1. Where two predictions are combined, the integral of
    $\lambda - \lambda_s$ is taken as $\frac12 h B(h)$, by the source's choice of B: $B_2(h) = e^h - 1$ by default, and
    `lambda h: h` for $B_1$. With more than two of them the integrals are exact, and B cancels. Steps look back less at
    the start and at the end, as those of `DPMSolverPP`.

    Choose it for five to ten evaluations. The wrong choice where a network is bad: what is corrected with is asked at a
    point that is a step ahead.

    Raises:
        TypeError: a B that is no function.
        ValueError: an order other than 1, 2 or 3; times that begin where there is no signal, for predicted noise.

    Source: Zhao, Bai, Rao, Zhou and Lu (2023), UniPC: a unified predictor-corrector framework for fast sampling of
    diffusion models, NeurIPS 36, UniP and UniC.
    """

    order: int = eqx.field(static=True, default=2)  # p, how many predictions a step looks back on
    growth: Callable[[float], float] = eqx.field(static=True, default=math.expm1)  # B
    of_noise: bool = eqx.field(static=True, default=False)  # predictions of the noise in place of the data

    def __check_init__(self) -> None:
        check_positive_int("order", self.order, 3)
        check_takes("growth", self.growth, (None,), "the step h")

    def plan(self, process: Process, times: np.ndarray) -> Linear:
        def growth(h: float) -> float:
            return check_number("growth(h)", self.growth(h))

        kept, step = (noise, noise_step) if self.of_noise else (data, data_step)
        return multistep(process, times, kept, self.order, step(growth=growth), corrector=self.order + 1)
