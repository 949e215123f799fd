"""A process of two functions of your own."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from variate.checks import check_positive, check_takes, describe

from .base import Process, exact_levels

Rate = Callable[[Float[Array, "..."]], Float[Array, "..."]]
GRID = 1001  # times at which the functions are looked at


class Interpolant(Process):
    r"""$x_t = \alpha(t)\, x_0 + \sigma(t)\, \epsilon$ with $\alpha$ and $\sigma$ of your own.

    `Interpolant(lambda t: jnp.cos(jnp.pi / 2 * t), lambda t: jnp.sin(jnp.pi / 2 * t))` say. Both are written with
    `jax.numpy` and take arrays of times; if they have parameters, they are pytrees (Equinox modules, say).

    Raises:
        TypeError: what is no function of a time.
        ValueError: functions with $\alpha(0) \ne 1$ or $\sigma(0) \ne 0$, that are negative, or whose ratio
            $\alpha / \sigma$ does not fall, as seen at 1001 times.

    Source: Albergo, Boffi and Vanden-Eijnden (2023), Stochastic interpolants: a unifying framework for flows and
    diffusions, section 4, with one end normal and time the other way round.
    """

    data: Rate | Any  # alpha
    noise: Rate | Any  # sigma
    horizon: float = 1.0
    cutoff: float = 1e-3

    def __check_init__(self) -> None:
        for name, rate in (("data", self.data), ("noise", self.noise)):
            if not callable(rate):
                raise TypeError(f"{name} must be a function of a time, got {describe(rate)}")
            check_takes(name, rate, (None,), "a time")
        check_positive("horizon", self.horizon)
        check_positive("cutoff", self.cutoff)
        if not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(self)):
            check_levels(self)

    def alpha(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.asarray(self.data(t))

    def sigma(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.asarray(self.noise(t))


def check_levels(process: Process) -> None:
    """Raise unless noise takes over from data, at a grid of times."""
    times = np.linspace(0.0, process.horizon, GRID)
    _, alpha, sigma = exact_levels(process, times)
    if alpha.shape != times.shape or sigma.shape != times.shape:
        raise ValueError(
            f"alpha and sigma must be functions from times to numbers, one for each of {GRID}, "
            f"got arrays of shapes {alpha.shape} and {sigma.shape}"
        )
    if not (abs(alpha[0] - 1) <= 1e-6 and abs(sigma[0]) <= 1e-6):
        raise ValueError(f"alpha(0) must be 1 and sigma(0) must be 0, got {alpha[0]:.6g} and {sigma[0]:.6g}")
    if not (np.all(alpha[:-1] > 0) and alpha[-1] >= -1e-12 and np.all(sigma[1:] > 0)):
        raise ValueError(f"alpha and sigma must be positive between time 0 and the horizon {process.horizon}")
    rising = np.diff(alpha[1:] / sigma[1:]) >= 0
    if np.any(rising):
        raise ValueError(f"alpha / sigma must fall with time, and does not at time {times[1:-1][rising][0]:.4g}")
