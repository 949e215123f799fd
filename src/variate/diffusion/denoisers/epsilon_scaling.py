"""Epsilon scaling: predicted noise made a little smaller, against errors that build up along a run."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from variate.checks import check_positive, check_takes

from ..processes.base import Level, Process
from .base import Denoiser, Prediction, check_model, with_noise


class EpsilonScaling(Denoiser):
    r"""$\epsilon = \epsilon_\theta(x, t) / \lambda(t)$.

    A heuristic for networks: asked at points that it led to itself, a network predicts more noise than it does at
    points made from data. A factor just above one, found on a validation set, makes up for it. An exact denoiser is
    made worse by it.

    Raises:
        TypeError, ValueError: a model that is none, a factor that is neither positive nor a function of the time.

    Source: Ning, Li, Su, Salah and Ertugrul (2024), Elucidating the exposure bias in diffusion models, ICLR, section 5.
    """

    model: Denoiser
    factor: float | Callable[[Any], Any]  # lambda

    def __init__(self, model: Denoiser | Any, factor: Any) -> None:
        check_model("model", model)
        if callable(factor):
            check_takes("factor", factor, (None,), "the time")
        else:
            factor = check_positive("factor", factor)
        self.model, self.factor = model, factor

    @property
    def process(self) -> Process:
        return self.model.process

    def predict(self, x: Float[Array, "..."], level: Level) -> Prediction:
        found = self.model.predict(x, level)
        factor = self.factor(level.time) if callable(self.factor) else self.factor
        return with_noise(found, found.noise / jnp.asarray(factor, x.dtype), level)
