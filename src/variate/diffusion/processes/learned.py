"""The variance-preserving process whose levels of noise are learnt."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from variate.checks import check_key, check_number, check_positive, check_positive_int

from .base import Process


class LearnedVP(Process):
    r"""$\sigma^2(t) = \mathrm{sigmoid}\, \gamma(t)$ and $\alpha^2 + \sigma^2 = 1$, with $\gamma$ a rising network.

    $\gamma(t) = \gamma_0 + (\gamma_1 - \gamma_0)\, n(t)$ for $t > 0$, where $n$ rises from 0 to 1 and has parameters:
    $n \propto t + \sum_k w_k\, \mathrm{sigmoid}(a_k t + b_k)$ less what it is at 0, with positive $w_k$ and $a_k$. At
    time 0 there is no noise. It is a pytree whose leaves are what is trained, by the variance of a loss that does not
    depend on the levels in between, say.

    Args:
        key: of the first parameters.
        gamma_min: $\gamma_0$, minus the log of the ratio of signal to noise just after time 0.
        gamma_max: $\gamma_1$, the same at time 1.
        width: how many units the network has.

    Raises:
        TypeError, ValueError: `gamma_min` not less than `gamma_max`, no units.

    Source: Kingma, Salimans, Poole and Ho (2021), Variational diffusion models, NeurIPS 34, section 3.2 and appendix
    H, with one layer.
    """

    gamma_min: Float[Array, ""]
    gamma_max: Float[Array, ""]
    log_weights: Float[Array, " k"]
    log_slopes: Float[Array, " k"]
    biases: Float[Array, " k"]
    horizon: float
    cutoff: float

    def __init__(
        self,
        key: Key[Array, ""] | Any,
        gamma_min: float | Float[Array, ""] = -13.3,
        gamma_max: float | Float[Array, ""] = 5.0,
        width: int | Any = 64,
        horizon: float = 1.0,
        cutoff: float = 1e-5,
    ) -> None:
        check_key(key)
        width = check_positive_int("width", width)
        if not check_number("gamma_min", gamma_min) < check_number("gamma_max", gamma_max):
            raise ValueError(f"gamma_min must be less than gamma_max, got {gamma_min} and {gamma_max}")
        self.gamma_min, self.gamma_max = jnp.asarray(gamma_min, float), jnp.asarray(gamma_max, float)
        self.log_weights = jnp.full(width, -jnp.log(width * 1.0))
        self.log_slopes = jnp.full(width, jnp.log(8.0))
        self.biases = -8.0 * jax.random.uniform(key, (width,))  # so that units bend all over the times
        self.horizon, self.cutoff = check_positive("horizon", horizon), check_positive("cutoff", cutoff)

    def gamma(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        r"""$\log \sigma^2(t) / \alpha^2(t)$, for $t > 0$."""
        low, high = self._rising(jnp.zeros_like(t)), self._rising(jnp.ones_like(t))
        share = (self._rising(t) - low) / (high - low)
        return self.gamma_min.astype(t.dtype) + (self.gamma_max - self.gamma_min).astype(t.dtype) * share

    def _rising(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        weights, slopes, biases = (
            x.astype(t.dtype) for x in (jnp.exp(self.log_weights), jnp.exp(self.log_slopes), self.biases)
        )
        return t + jax.nn.sigmoid(jnp.multiply.outer(t, slopes) + biases.reshape((1,) * t.ndim + (-1,))) @ weights

    def alpha(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.where(t > 0, jnp.sqrt(jax.nn.sigmoid(-self.gamma(t))), 1.0)

    def sigma(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.where(t > 0, jnp.sqrt(jax.nn.sigmoid(self.gamma(t))), 0.0)
