"""ER-SDE: reverse-time diffusions with noise of one's own choice, and predictions of the data along a polynomial."""

import math
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from variate.checks import check_positive_int, check_takes

from ...processes.base import Level, Process
from ..base import Linear, data, half_log_snr
from .multistep import Step, multistep
from .weights import MASSES, lagrange, points


def moderate(rho: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""$\rho (e^{\rho^{0.3}} + 10)$: more noise at early times than at late ones, which the source found best."""
    return rho * (jnp.exp(rho**0.3) + 10)


class ERSDE(eqx.Module):
    r"""A reverse-time diffusion on $y = x / \alpha$ and $\rho = \sigma / \alpha$, with noise of a scale $\phi(\rho)$.

    $y_t = \frac{\phi_t}{\phi_s} y_s + \phi_t \int_{\rho_t}^{\rho_s} \frac{\phi'(\rho)}{\phi(\rho)^2} d(\rho)\, d\rho +
    \sqrt{\rho_t^2 - \rho_s^2 \phi_t^2 / \phi_s^2}\, z$.

    d is the polynomial in $\rho$ through as many predictions of the data as `order`, the newest at s, and $\phi$ says
    how much of the noise is fresh: none with $\phi(\rho) = \rho$, which is the probability flow, and all that the
    process puts in with $\rho^2$. Every choice has the same law at every time. Where there is noise, the error of means
    and covariances is of order two at most. Steps look back less at the start and at the end, as in `DPMSolverPP`.

    Choose it where there are 20 evaluations or more, instead of `SDEDPMSolverPP`, which is $\phi(\rho) = \rho^2$ with a
    polynomial in $\log \rho$.

    Raises:
        TypeError: a scale that is no function.
        ValueError: an order other than 1, 2 or 3, or a scale that does not grow at least as fast as $\rho$.

    Source: Cui, Zhang, Lu and Liao (2023), Elucidating the solution space of extended reverse-time SDE for diffusion
    models, arXiv:2309.06169, ER-SDE-Solver-1 to -3. Their program takes the slope for order three between the last two
    predictions; here it is that of the polynomial at s.
    """

    order: int = eqx.field(static=True, default=3)
    scale: Callable[[Float[Array, "..."]], Float[Array, "..."]] = eqx.field(static=True, default=moderate)  # phi

    def __check_init__(self) -> None:
        check_positive_int("order", self.order, 3)
        check_takes("scale", self.scale, (None,), "the ratio of noise to signal")

    def _log_scale(self, rho: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r"""$\log \phi$ and its slope against $\log \rho$."""
        with jax.ensure_compile_time_eval(), jax.enable_x64(True):
            at = jnp.asarray(np.asarray(rho, np.float64))
            value, slope = jax.jvp(lambda x: jnp.log(self.scale(x)), (at,), (at,))
            return np.asarray(value), np.asarray(slope)

    def plan(self, process: Process, times: np.ndarray) -> Linear:
        def step(s: Level, t: Level) -> Step:
            start, end = half_log_snr(s), half_log_snr(t)
            if not (math.isfinite(start) and math.isfinite(end)):
                return Step(0.0, lambda levels: np.array([t.alpha]), t.sigma)
            at = np.exp(-np.concatenate([[start, end], points(start, end)]))
            logs, slopes = self._log_scale(at)
            ratio = np.exp(logs[1] - logs[0])
            kept = s.alpha * t.sigma / (t.alpha * s.sigma)
            if not ratio <= kept * (1 + 1e-12):
                raise ValueError(f"scale must grow at least as fast as its argument from {at[1]} to {at[0]}")
            masses = (end - start) * MASSES * slopes[2:] * np.exp(logs[1] - logs[2:])

            def weigh(levels: Sequence[Level]) -> np.ndarray:
                return t.alpha * lagrange([one.sigma / one.alpha for one in levels], at[2:]) @ masses

            fresh = 1 - (ratio / kept) ** 2
            fresh = t.sigma * math.sqrt(fresh) if fresh > 1e-12 else 0.0  # what rounding leaves is no noise
            return Step(t.alpha / s.alpha * ratio, weigh, fresh)

        return multistep(process, times, data, self.order, step)
