"""SA-Solver: stochastic Adams methods, with as much fresh noise at each time as one likes."""

from collections.abc import Callable

import equinox as eqx
import numpy as np

from variate.checks import check_number, check_positive_int, check_takes

from ...processes.base import Level, Process
from ..base import Linear, data
from .multistep import Step, data_step, multistep


class SASolver(eqx.Module):
    r"""The reverse-time diffusion with $\tau$ times the noise of the process, by Adams methods.

    $x_t = \frac{\sigma_t}{\sigma_s} e^{-\tau^2 h} x_s + \alpha_t (1 + \tau^2) \int_{\lambda_s}^{\lambda_t}
    e^{(1 + \tau^2)(\lambda - \lambda_t)} d(\lambda)\, d\lambda + \sigma_t \sqrt{1 - e^{-2 \tau^2 h}}\, z$.

    d is the polynomial in $\lambda$ through predictions of the data: `order` earlier ones for a first try, and then,
    from the same point with the same noise, the one at its end and those before it, `corrector` in all. $\tau(s)$ is
    how much noise there is at which time: with 0 the probability flow, with 1 the reverse of the process; every
    choice has the same law at every time. Where there is noise, the error of means and covariances is of order two at
    most, and along the flow it is of the greater of `order` and `corrector`. Steps look back less at the start and at
    the end, as those of `DPMSolverPP`.

    Choose it where there are 20 evaluations or more, and noise in the middle times is wanted that the last ones are
    too short to get rid of.

    Raises:
        TypeError: a $\tau$ that is neither a number nor a function.
        ValueError: an order other than 1, 2 or 3, a negative $\tau$, or a corrector of other than 0 to 4 predictions.

    Source: Xue, Yi, Luo, Zhang, Sun, Li and Ma (2023), SA-Solver: stochastic Adams solver for fast sampling of
    diffusion models, NeurIPS 36, algorithm 1.
    """

    tau: float | Callable[[float], float] = eqx.field(static=True, default=1.0)  # a number, or a function of the time
    order: int = eqx.field(static=True, default=3)  # how many predictions a first try looks back on
    corrector: int = eqx.field(static=True, default=3)  # of how many predictions a step is made again; 0 for none
    growth: Callable[[float], float] | None = eqx.field(
        static=True, default=None
    )  # B of `UniPC`; None: exact integrals

    def __check_init__(self) -> None:
        check_positive_int("order", self.order, 3)
        if self.corrector != 0:
            check_positive_int("corrector", self.corrector, 4)
        if self.growth is not None:
            check_takes("growth", self.growth, (None,), "the step h")
        if callable(self.tau):
            check_takes("tau", self.tau, (None,), "the time")
        else:
            self._at(0.0)

    def _at(self, time: float) -> float:
        tau = check_number("tau", self.tau(time) if callable(self.tau) else self.tau)
        if tau < 0:
            raise ValueError(f"tau must not be negative, got {tau} at time {time}")
        return tau

    def plan(self, process: Process, times: np.ndarray) -> Linear:
        def step(s: Level, t: Level) -> Step:
            return data_step(self._at(s.time), self.growth)(s, t)

        return multistep(process, times, data, self.order, step, self.corrector)
