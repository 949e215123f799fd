"""The variance-preserving process whose signal falls like a cosine."""

import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from variate.checks import check_positive

from .base import Process, as_time


class CosineVP(Process):
    r"""$\alpha(t) = \cos b(t) / \cos b(0)$ with $b(t) = \frac\pi2 \frac{t + s}{1 + s}$, and $\alpha^2 + \sigma^2 = 1$.

    The information of the data falls more evenly in time than in `VariancePreserving`. At time 1 nothing is left of
    them, where the process has no drift: it ends just before, by default with about as little signal as
    `VariancePreserving` at its own end. The chains that are trained with it cap the noise of a step instead.

    Source: Nichol and Dhariwal (2021), Improved denoising diffusion probabilistic models, ICML, eq. 17.
    """

    offset: float | Float[Array, ""] = 0.008  # s
    horizon: float = 0.9946
    cutoff: float = 1e-3

    def __check_init__(self) -> None:
        check_positive("offset", self.offset)
        if not 0 < self.horizon <= 1:
            raise ValueError(f"horizon must be between 0 and 1, where nothing is left of the data, got {self.horizon}")

    def _angle(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        return 0.5 * math.pi * (t + self.offset) / (1 + self.offset)

    def alpha(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.cos(self._angle(t)) / jnp.cos(self._angle(jnp.zeros_like(t)))

    def sigma(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        # cos^2 a - cos^2 b = sin(b - a) sin(b + a): the difference itself would lose the noise of early times.
        turned, first = 0.5 * math.pi * t / (1 + self.offset), self._angle(jnp.zeros_like(t))
        return jnp.sqrt(jnp.sin(turned) * jnp.sin(turned + 2 * first)) / jnp.cos(first)

    def diffusion(self, t: Any) -> Any:
        return jnp.sqrt(math.pi / (1 + self.offset) * jnp.tan(self._angle(as_time(t))))
