"""The variance-exploding process whose noise grows by the same factor in equal times."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from variate.checks import check_positive

from .base import Process


class GeometricVE(Process):
    r"""$\alpha = 1$ and $\sigma(t) = \sigma_0\, (\sigma_1 / \sigma_0)^t$ for $t > 0$; at time 0 there is no noise.

    $\sigma$ jumps to $\sigma_0$ just after time 0, which has to be less than what matters in the data, and $\sigma_1$
    about as much as the largest distance between two of them.

    Source: Song, Sohl-Dickstein, Kingma, Kumar, Ermon and Poole (2021), Score-based generative modeling through
    stochastic differential equations, ICLR, appendix C, with the default levels of its models of images.
    """

    sigma_min: float | Float[Array, ""] = 0.01  # just after time 0
    sigma_max: float | Float[Array, ""] = 50.0  # at time 1
    horizon: float = 1.0
    cutoff: float = 1e-5

    def __check_init__(self) -> None:
        check_positive("sigma_min", self.sigma_min)
        check_positive("sigma_max", self.sigma_max)
        if not self.sigma_min < self.sigma_max:
            raise ValueError(f"sigma_min must be less than sigma_max, got {self.sigma_min} and {self.sigma_max}")

    def alpha(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.ones_like(t)

    def sigma(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        growth = jnp.log(jnp.asarray(self.sigma_max / self.sigma_min, t.dtype))
        return jnp.where(t > 0, self.sigma_min * jnp.exp(t * growth), 0.0)
