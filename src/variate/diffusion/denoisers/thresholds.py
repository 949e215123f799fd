"""Thresholds: predicted data kept in the range that data have, which guidance leads them out of."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from variate.checks import check_fraction, check_positive

from ..processes.base import Level, Process
from .base import Denoiser, Prediction, check_model, with_data


class StaticThreshold(Denoiser):
    r"""Predicted data are cut off at $\pm b$, and the noise is what then explains the point.

    A heuristic: a mean of data within the bounds is within them, so an exact denoiser is not changed by it.

    Raises:
        TypeError, ValueError: a model that is none, a bound that is not positive.

    Source: Saharia, Chan, Saxena et al. (2022), Photorealistic text-to-image diffusion models with deep language
    understanding, NeurIPS 35, section 2.3.
    """

    model: Denoiser
    bound: float  # b

    def __init__(self, model: Denoiser | Any, bound: float | Any = 1.0) -> None:
        check_model("model", model)
        self.model, self.bound = model, check_positive("bound", bound)

    @property
    def process(self) -> Process:
        return self.model.process

    def predict(self, x: Float[Array, "..."], level: Level) -> Prediction:
        found = self.model.predict(x, level)
        return with_data(found, _within(found.data, self.bound), level)


class DynamicThreshold(Denoiser):
    r"""Predicted data are cut off at $\pm q$ and multiplied by $b / q$, q being a quantile of their sizes, at least b.

    The quantile is over the elements of one point, so this is for images and the like, and a heuristic: it makes the
    contrast less where guidance makes it too much, and is the denoiser of no distribution.

    Raises:
        TypeError, ValueError: a model that is none, a bound that is not positive, a quantile that is no fraction.

    Source: Saharia, Chan, Saxena et al. (2022), Photorealistic text-to-image diffusion models with deep language
    understanding, NeurIPS 35, section 2.3.
    """

    model: Denoiser
    quantile: float
    bound: float  # b

    def __init__(self, model: Denoiser | Any, quantile: float | Any = 0.995, bound: float | Any = 1.0) -> None:
        check_model("model", model)
        self.model = model
        self.quantile, self.bound = check_fraction("quantile", quantile), check_positive("bound", bound)

    @property
    def process(self) -> Process:
        return self.model.process

    def predict(self, x: Float[Array, "..."], level: Level) -> Prediction:
        found = self.model.predict(x, level)
        limit = jnp.maximum(jnp.quantile(jnp.abs(found.data), jnp.asarray(self.quantile, x.dtype)), self.bound)
        return with_data(found, _within(found.data, limit) * (self.bound / limit), level)


def _within(data: Float[Array, "..."], limit: Float[Array, ""] | float) -> Float[Array, "..."]:
    """Cut off, but for what is infinite: a failure of the model, which would pass for a draw."""
    return jnp.where(jnp.isfinite(data), jnp.clip(data, -limit, limit), jnp.nan)
