"""A process of two functions of your own."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from variate.checks import check_takes

from ..checks import asked
from .base import Process, check_levels

Rate = Callable[[Float[Array, "..."]], Float[Array, "..."]]


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
            check_takes(name, rate, (None,), "a time")
            jax.eval_shape(partial(asked, name, rate), jnp.zeros(()))
        check_levels(self)

    def alpha(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.asarray(self.data(t))

    def sigma(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.asarray(self.noise(t))
