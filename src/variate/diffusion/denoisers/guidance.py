"""Guidance: a model led to what a condition asks for, by another model or by a classifier."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from variate.checks import check_number, check_takes, describe

from ..checks import asked
from ..processes.base import Level, Process
from .base import Denoiser, Prediction, check_model, check_models, with_noise


class ClassifierFreeGuidance(Denoiser):
    r"""$\epsilon = \epsilon_u + s\, (\epsilon_c - \epsilon_u)$ of a conditional and an unconditional model.

    With s = 1 it is the conditional model and with s = 0 the unconditional one. With any other s it is a heuristic: at
    each time it has the score of $p_t(x)^{1 - s}\, p_t(x \mid c)^s$, which is not what the process makes of
    $p_0(x)^{1 - s}\, p_0(x \mid c)^s$, so it is the denoiser of no distribution, and its draws depend on the process
    and on the solver. An evaluation takes one of each model.

    Raises:
        TypeError: a model that is missing or none.
        ValueError: models with different processes.

    Source: Ho and Salimans (2022), Classifier-free diffusion guidance, eq. 6, whose w is s - 1.
    """

    conditional: Denoiser
    unconditional: Denoiser
    scale: float | Float[Array, ""]  # s

    def __init__(self, conditional: Denoiser | Any, unconditional: Denoiser | Any, scale: Any) -> None:
        if unconditional is None:
            raise TypeError(
                "unconditional must be a denoiser too, got None: the same network with the empty condition say; a "
                "conditional model by itself needs no guidance"
            )
        check_models(conditional=conditional, unconditional=unconditional)
        self.conditional, self.unconditional = conditional, unconditional
        self.scale = _scale(scale)

    @property
    def process(self) -> Process:
        return self.conditional.process

    def predict(self, x: Float[Array, "..."], level: Level) -> Prediction:
        with_it, without = self.conditional.predict(x, level), self.unconditional.predict(x, level)
        scale = jnp.asarray(self.scale, x.dtype)
        return jax.tree.map(lambda c, u: u + scale * (c - u), with_it, without)


class ClassifierGuidance(Denoiser):
    r"""$\epsilon = \epsilon_\theta - s\, \sigma \nabla_x \log p_t(c \mid x)$, of a model and a classifier.

    With s = 1 it is the exact denoiser given c, if the model is exact and $p_t(c \mid x)$ is the probability given the
    noisy point x of time t. With any other s, or a classifier of clean data, it is a heuristic: the denoiser of no
    distribution. An evaluation takes one of the model, and one of the classifier with its gradient. Where nothing is
    left of the data, at time 1 of `Flow` say, the predicted data are not finite.

    Raises:
        TypeError: a model that is none, a function that does not take a point and a time.

    Source: Dhariwal and Nichol (2021), Diffusion models beat GANs on image synthesis, NeurIPS 34, algorithm 2.
    """

    model: Denoiser
    log_probability: Callable[..., Any]  # of the condition, given point and time
    scale: float | Float[Array, ""]  # s

    def __init__(self, model: Denoiser | Any, log_probability: Any, scale: Any = 1.0) -> None:
        check_model("model", model)
        check_takes("log_probability", log_probability, (None, None), "a point and the time")
        self.model, self.log_probability, self.scale = model, log_probability, _scale(scale)

    @property
    def process(self) -> Process:
        return self.model.process

    def predict(self, x: Float[Array, "..."], level: Level) -> Prediction:
        found = self.model.predict(x, level)
        pull = jax.grad(lambda x: self._number(asked("log_probability", self.log_probability, x, level.time)))(x)
        return with_noise(found, found.noise - jnp.asarray(self.scale, x.dtype) * level.sigma * pull, level)

    def _number(self, value: Any) -> Float[Array, ""]:
        if jnp.shape(value) != ():
            raise ValueError(f"log_probability must return one number for one point, got {describe(value)}")
        return jnp.asarray(value)


def _scale(scale: Any) -> Any:
    if not isinstance(scale, jax.Array):
        return check_number("scale", scale)
    if scale.shape != ():
        raise ValueError(f"scale must be one number, got {describe(scale)}")
    return scale
