"""DEIS: predictions of the noise along a polynomial in time, integrated exactly with the signal."""

import math
from collections.abc import Sequence

import equinox as eqx
import numpy as np

from variate.checks import check_positive_int

from ...processes.base import Level, Process
from ..base import Linear, check_signal, half_log_snr, noise, steps
from .multistep import Step, multistep, noise_step
from .weights import decay, lagrange, points


class DEIS(eqx.Module):
    r"""$x_t = (\alpha_t / \alpha_s)\, x_s + \alpha_t \int_{\rho_s}^{\rho_t} \epsilon d\rho$, $\rho = \sigma / \alpha$.

    $\epsilon$ is the polynomial in time through as many predictions of the noise as `order`, the newest at s. With
    `in_rho` it is one in $\rho$, whose integral is the Adams method's; the one in $\log \rho$ is `DPMSolver`. The first
    steps look back less, and so do the last ones where `DPMSolverPP`'s do.

    Choose it with times that are equal or nearly equal steps of time. The wrong choice where a step is much longer than
    the one before: polynomials extrapolate badly.

    Raises:
        ValueError: an order other than 1, 2 or 3; times that begin where there is no signal.

    Source: Zhang and Chen (2023), Fast sampling of diffusion models with exponential integrator, ICLR: tAB-DEIS, and
    with `in_rho` the method called rhoAB-DEIS there. An order here is one more than theirs: it counts predictions.
    """

    order: int = eqx.field(static=True, default=3)
    in_rho: bool = eqx.field(static=True, default=False)  # polynomials in the ratio of noise to signal, not in time

    def __check_init__(self) -> None:
        check_positive_int("order", self.order, 3)

    def plan(self, process: Process, times: np.ndarray) -> Linear:
        check_signal(process, times)
        looked = {s: points(half_log_snr(s), half_log_snr(t)) for s, t in steps(process, times) if t.sigma > 0}
        if self.in_rho:
            along = {s: np.exp(-at) for s, at in looked.items()}
        else:  # of all steps at once, since a time is found by bisection
            along = dict(zip(looked, process.time_of(np.reshape([*looked.values()], (len(looked), -1))), strict=True))

        def step(s: Level, t: Level) -> Step:
            first = noise_step()(s, t)

            def weigh(levels: Sequence[Level]) -> np.ndarray:
                if len(levels) == 1:
                    return first.weigh(levels)
                nodes = [math.exp(-half_log_snr(one)) if self.in_rho else one.time for one in levels]
                integrals = lagrange(nodes, along[s]) @ decay(half_log_snr(s), half_log_snr(t), -1.0)
                return -t.alpha * s.sigma / s.alpha * integrals

            return first._replace(weigh=weigh)

        return multistep(process, times, noise, self.order, step)
