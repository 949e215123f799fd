"""The straight path from data to noise, on which flows are matched."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import Process


class Flow(Process):
    r"""$x_t = (1 - t)\, x_0 + t\, \epsilon$: the path of flow matching and of rectified flows.

    Its velocity is $\epsilon - x_0$. At time 1 nothing is left of the data, so $f(1)$ is not finite: solvers that work
    with the log of the ratio of signal to noise start just before.

    Sources: Liu, Gong and Liu (2023), Flow straight and fast, ICLR, eq. 1; Lipman, Chen, Ben-Hamu, Nickel and Le
    (2023), Flow matching for generative modeling, ICLR, section 4.1, with time the other way round.
    """

    cutoff: float = 1e-3
    horizon: float = 1.0

    def __check_init__(self) -> None:
        if self.horizon > 1:
            raise ValueError(f"horizon must be at most 1, where nothing is left of the data, got {self.horizon}")

    def alpha(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        return 1 - t

    def sigma(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        return t * jnp.ones_like(t)
