"""Functions of your own as denoisers, by what they predict."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from variate.checks import check_takes, describe

from ..checks import asked
from ..processes.base import Level, Process, check_process
from .base import Denoiser, Prediction, from_data, from_noise

Predictor = Callable[[Float[Array, "..."], Any], Float[Array, "..."]]


class _Predictor(Denoiser):
    process: Process
    function: Predictor | Any  # of one point and the time

    def __check_init__(self) -> None:
        check_process(self.process)
        check_takes("function", self.function, (None, None), "a point and the time")

    def asked(self, x: Float[Array, "..."], level: Level) -> Float[Array, "..."]:
        """What the function says; raises where it is not of the point's shape."""
        found = asked("function", self.function, x, level.time)
        if not (hasattr(found, "shape") or isinstance(found, int | float)):
            raise TypeError(f"the denoiser must return one array like the point, got {describe(found)}")
        if jnp.shape(found) != x.shape:
            raise ValueError(
                f"the denoiser must return an array like the point, of shape {x.shape}, got {describe(found)}: "
                "it is given one point at a time, without a batch"
            )
        if not jnp.issubdtype(jnp.result_type(found), jnp.floating):
            raise TypeError(f"the denoiser must return real numbers, got {describe(found)}")
        return jnp.asarray(found, x.dtype)


class DataPrediction(_Predictor):
    r"""A function $(x, t)$ that predicts the data, $E[x_0 \mid x_t = x]$."""

    def predict(self, x: Float[Array, "..."], level: Level) -> Prediction:
        return from_data(x, self.asked(x, level), level)


class NoisePrediction(_Predictor):
    r"""A function $(x, t)$ that predicts the noise, $E[\epsilon \mid x_t = x]$."""

    def predict(self, x: Float[Array, "..."], level: Level) -> Prediction:
        return from_noise(x, self.asked(x, level), level)


class ScorePrediction(_Predictor):
    r"""A function $(x, t)$ that predicts the score, $\nabla \log p_t(x)$."""

    def predict(self, x: Float[Array, "..."], level: Level) -> Prediction:
        return from_noise(x, -level.sigma * self.asked(x, level), level)


class VelocityPrediction(_Predictor):
    r"""A function $(x, t)$ that predicts the velocity, $\alpha'(t) E[x_0 \mid x] + \sigma'(t) E[\epsilon \mid x]$.

    On `VariancePreserving` networks are often trained on $v = \alpha \epsilon - \sigma x_0$ instead, which is another
    combination: give such a network as `AnglePrediction`.
    """

    def predict(self, x: Float[Array, "..."], level: Level) -> Prediction:
        slope, velocity = self.process.slopes(level.time), self.asked(x, level)
        return _both(x, velocity, level, slope.alpha, slope.sigma)


class AnglePrediction(_Predictor):
    r"""A function $(x, t)$ that predicts $v = \alpha(t)\, E[\epsilon \mid x_t = x] - \sigma(t)\, E[x_0 \mid x_t = x]$.

    Source: Salimans and Ho (2022), Progressive distillation for fast sampling of diffusion models, ICLR, appendix D.
    """

    def predict(self, x: Float[Array, "..."], level: Level) -> Prediction:
        return _both(x, self.asked(x, level), level, -level.sigma, level.alpha)


def _both(x: Float[Array, "..."], found: Float[Array, "..."], level: Level, a: Any, b: Any) -> Prediction:
    """Data and noise of which x = alpha data + sigma noise and `found` = a data + b noise."""
    determinant = level.alpha * b - level.sigma * a
    return Prediction((b * x - level.sigma * found) / determinant, (level.alpha * found - a * x) / determinant)
