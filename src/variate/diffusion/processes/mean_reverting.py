"""The process that leads data to a degraded version of themselves, and noise."""

from typing import Any

import numpy as np
from jaxtyping import Array, Float

from variate.checks import check_positive

from .base import Process, check_process, exact_levels
from .cosine import CosineVP


class MeanReverting(Process):
    r"""$x_t - \mu = e^{-\theta_t} (x_0 - \mu) + \lambda \sqrt{1 - e^{-2 \theta_t}}\, \epsilon$, for data less $\mu$.

    $dx = \theta_t'\, (\mu - x)\, dt + \lambda \sqrt{2 \theta_t'}\, dw$ leads from a clean image $x_0$, say, to its
    degraded version $\mu$ with stationary noise. Relative to $\mu$ it is an ordinary process, which is this one: a
    network that is given $x_t$ becomes `NoisePrediction(process, lambda y, t: network(y + mu, t))`, and $\mu$ is added
    to the draws. $e^{-\theta_t}$ is the $\alpha$ of a variance-preserving process. All solvers serve: `DPMSolver` and
    `DPMSolverPP`, and `SDEDPMSolver` and `SDEDPMSolverPP` with fresh noise, are then the MR sampler.

    Raises:
        TypeError, ValueError: a process that is not variance-preserving, a noise that is not positive.

    Sources: Luo, Gustafsson, Zhao, Sjölund and Schön (2023), Image restoration with mean-reverting stochastic
    differential equations, ICML, eqs. 3 and 6; Li, Fang, Zhao, Lu, Yang and Xu (2025), MRS: a fast sampler for mean
    reverting diffusion based on ODE and SDE solvers, ICLR.
    """

    noise: float | Float[Array, ""] = 0.1  # lambda: its standard deviation at last
    process: Process = CosineVP()

    def __check_init__(self) -> None:
        check_positive("noise", self.noise)
        check_process(self.process)
        at = exact_levels(self.process, np.linspace(0, self.process.horizon, 11))
        if not np.allclose(at.alpha**2 + at.sigma**2, 1, atol=1e-6):
            raise ValueError(f"process must be variance-preserving, CosineVP() say, got {self.process}")

    @property
    def horizon(self) -> float:
        return self.process.horizon

    @property
    def cutoff(self) -> float:
        return self.process.cutoff

    def alpha(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.process.alpha(t)

    def sigma(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.noise * self.process.sigma(t)

    def diffusion(self, t: Any) -> Any:
        return self.noise * self.process.diffusion(t)
