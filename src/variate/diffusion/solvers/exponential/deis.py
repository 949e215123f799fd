"""DEIS: predictions of the noise along a polynomial in time, integrated exactly with the signal."""

import math
from collections.abc import Callable, Iterable, Sequence

import equinox as eqx
import numpy as np

from variate.checks import check_positive_int

from ...processes.base import Level, Process
from ..base import Linear, check_signal, half_log_snr, noise, steps
from .multistep import Step, multistep, noise_step
from .weights import POINTS, decay, lagrange, points


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
        step = rho_step if self.in_rho else time_step(process.time_of)
        return multistep(process, times, noise, self.order, step(steps(process, times)))


Pairs = Iterable[tuple[Level, Level]]
Stepper = Callable[[Level, Level], Step]


def time_step(time_of: Callable[[np.ndarray], np.ndarray]) -> Callable[[Pairs], Stepper]:
    r"""Steps by polynomials in time, which is known by $\lambda$."""
    return lambda pairs: _polynomial_step(pairs, lambda level: level.time, time_of)


def rho_step(pairs: Pairs) -> Stepper:
    r"""Steps by polynomials in $\rho$."""
    return _polynomial_step(pairs, lambda level: math.exp(-half_log_snr(level)), lambda lambdas: np.exp(-lambdas))


def _polynomial_step(
    pairs: Pairs, node: Callable[[Level], float], along: Callable[[np.ndarray], np.ndarray]
) -> Stepper:
    """Steps each of which leads from and to a pair that is known: what they need is found of all at once."""
    looked = {(s, t): points(half_log_snr(s), half_log_snr(t)) for s, t in pairs if s.alpha > 0 < t.sigma}
    found = dict(zip(looked, along(np.reshape([*looked.values()], (len(looked), len(POINTS)))), strict=True))

    def step(s: Level, t: Level) -> Step:
        first = noise_step()(s, t)

        def weigh(levels: Sequence[Level]) -> np.ndarray:
            if len(levels) == 1:
                return first.weigh(levels)
            nodes = [node(level) for level in levels]
            integrals = lagrange(nodes, found[s, t]) @ decay(half_log_snr(s), half_log_snr(t), -1.0)
            return -t.alpha * s.sigma / s.alpha * integrals

        return first._replace(weigh=weigh)

    return step
