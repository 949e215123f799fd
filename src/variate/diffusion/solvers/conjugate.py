"""The conjugate integrator of one rate: Euler's method after a change of variables that grows or decays in time."""

import math

import equinox as eqx
import numpy as np

from variate.checks import check_number

from ..processes.base import Level, Process, exact_levels
from .base import Combination, Evaluation, Linear, check_signal, linear, noise, steps
from .exponential.weights import MASSES, POINTS


class ConjugateDDIM(eqx.Module):
    r"""$z_t = (1 + \lambda (t - s))\, z_s + (\Phi_t - \Phi_s)\, \epsilon_s$ for $z = e^{\lambda t} x / \alpha$.

    $\Phi_t - \Phi_s = \int_s^t e^{\lambda u} \rho'(u)\, du$ with $\rho = \sigma / \alpha$. What the change of variables
    adds to the flow, $\lambda z$, is stepped by Euler's method, and the noise is integrated with it exactly. With
    $\lambda = 0$ that is `DDIM`; as that, it is of order one.

    Choose it for few evaluations, with a rate that was found by trying some: of either sign, of a size well below one
    over the longest step. The wrong choice where little is left of the data at the start, as on `Flow`: what Euler's
    method loses of x there is divided by $\alpha$; and where a multistep solver may look back.

    Raises:
        TypeError, ValueError: a rate that is no finite number, times that start where nothing is left of the data.

    Source: Pandey, Rudolph and Mandt (2024), Efficient integrators for diffusion generative models, ICLR, where it is
    called lambda-DDIM; on processes of the data alone.
    """

    rate: float = eqx.field(static=True)  # lambda, per unit of time

    def __check_init__(self) -> None:
        check_number("rate", self.rate)

    def plan(self, process: Process, times: np.ndarray) -> Linear:
        check_signal(process, times)
        evaluations = []
        for s, t in steps(process, times):
            grown = self.rate * (s.time - t.time)
            carry = t.alpha / s.alpha * math.exp(grown) * (1 - grown)
            evaluations.append(Evaluation(s.time, Combination(carry, [t.alpha * self._noise(process, s, t)])))
        return linear(process, noise, evaluations)

    def _noise(self, process: Process, s: Level, t: Level) -> float:
        r"""$e^{-\lambda t} (\Phi_t - \Phi_s)$, by parts."""
        step = s.time - t.time
        # Closer points at both ends: at one the noise may start like a root, at the other hardly any data be left.
        past, masses = step * POINTS**2 * (3 - 2 * POINTS), step * MASSES * 6 * POINTS * (1 - POINTS)
        at = exact_levels(process, t.time + past)
        integral = np.sum(masses * np.exp(self.rate * past) * at.sigma / at.alpha)
        return t.sigma / t.alpha - math.exp(self.rate * step) * s.sigma / s.alpha + self.rate * float(integral)
