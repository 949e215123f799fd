"""The variance-exploding process whose time is its standard deviation."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import Process


class EDM(Process):
    r"""$\alpha = 1$ and $\sigma(t) = t$: time is the standard deviation of the noise, from `cutoff` to `horizon`.

    Its probability flow is straight wherever the denoiser is constant, which makes it a good process to solve.

    Source: Karras, Aittala, Aila and Laine (2022), Elucidating the design space of diffusion-based generative models,
    NeurIPS 35, table 1, for data with a standard deviation of about 0.5.
    """

    horizon: float = 80.0
    cutoff: float = 0.002

    def alpha(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.ones_like(t)

    def sigma(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        return t
