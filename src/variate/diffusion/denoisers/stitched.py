"""Two models in turn: a small one while there is much noise, a large one for the rest."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from variate.checks import check_positive

from ..processes.base import Level, Process
from .base import Denoiser, Prediction, check_models


class Stitched(Denoiser):
    r"""The denoiser `noisy` at times $t \geq \tau$, and `clean` below $\tau$.

    Where there is much noise models that know the same data say nearly the same, so that a small one will do for the
    first part of a run. It is as exact as each of its models is where it is asked. Only one of them is evaluated, since
    all draws of a run are at the same time.

    Raises:
        TypeError: a model that is none.
        ValueError: models with different processes, or a time that is not positive.

    Source: Pan, Zhuang, Huang, Nie, Yu, Xiao, Cai and Anandkumar (2024), T-Stitch: accelerating sampling in pre-trained
    diffusion models with trajectory stitching, section 3.2.
    """

    noisy: Denoiser
    clean: Denoiser
    time: float | Float[Array, ""]  # tau

    def __init__(self, noisy: Denoiser | Any, clean: Denoiser | Any, time: Any) -> None:
        check_models(noisy=noisy, clean=clean)
        self.noisy, self.clean, self.time = noisy, clean, check_positive("time", time)

    @property
    def process(self) -> Process:
        return self.noisy.process

    def predict(self, x: Float[Array, "..."], level: Level) -> Prediction:
        late = jnp.asarray(level.time) >= self.time
        return jax.lax.cond(late, lambda: self.noisy.predict(x, level), lambda: self.clean.predict(x, level))
