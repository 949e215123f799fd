"""The variance-preserving process with a rate that grows linearly in time."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from variate.checks import check_positive

from .base import Process, as_time


class VariancePreserving(Process):
    r"""$\alpha^2 + \sigma^2 = 1$ with $\log \alpha(t) = -\frac14 t^2 (\beta_1 - \beta_0) - \frac12 t \beta_0$.

    It is the limit of the discrete chains that are trained with `beta` rising linearly from $\beta_0 / N$ to
    $\beta_1 / N$ over N steps, at $t = n / N$. Data should have a standard deviation of about one.

    Source: Song, Sohl-Dickstein, Kingma, Kumar, Ermon and Poole (2021), Score-based generative modeling through
    stochastic differential equations, ICLR, appendix C, for the rates that are the defaults.
    """

    beta_min: float | Float[Array, ""] = 0.1  # the rate at time 0
    beta_max: float | Float[Array, ""] = 20.0  # the rate at time 1
    horizon: float = 1.0
    cutoff: float = 1e-3

    def __check_init__(self) -> None:
        check_positive("beta_min", self.beta_min)
        check_positive("beta_max", self.beta_max)

    def _log_alpha(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        return -0.25 * t**2 * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min

    def alpha(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.exp(self._log_alpha(t))

    def sigma(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.sqrt(-jnp.expm1(2 * self._log_alpha(t)))

    def diffusion(self, t: Any) -> Any:
        return jnp.sqrt(self.beta_min + as_time(t) * (self.beta_max - self.beta_min))
