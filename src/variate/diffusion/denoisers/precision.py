"""A model that is asked in half precision, by a run that adds up in single precision."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float

from ..processes.base import Level
from .augmented import Augmented
from .base import Denoiser, Model, Prediction


class InPrecision(Denoiser):
    """The predictions of a model for a point that is rounded, in the precision of the point.

    Rounding a network's inputs hardly moves its draws. Rounding the coefficients of steps and adding up steps in half
    precision does: over 200 steps with noise, means are off by a tenth of a standard deviation.
    """

    model: Any  # a `Model`
    dtype: Any = eqx.field(static=True)

    def __init__(self, model: Model, dtype: Any) -> None:
        self.model, self.dtype = model, dtype

    @property
    def process(self) -> Any:
        return self.model.process

    def predict(self, x: Float[Array, "..."], level: Level) -> Prediction:
        return self._asked(self.model.predict, x, level)

    def both(self, x: Float[Array, "..."], level: Level) -> Any:
        """What `NoiseAndShare` says."""
        return self._asked(self.model.both, x, level)

    def _asked(self, f: Any, x: Float[Array, "..."], level: Level) -> Any:
        rounded, at = jax.tree.map(lambda leaf: leaf.astype(self.dtype), (x, level))
        return jax.tree.map(lambda leaf: leaf.astype(x.dtype), f(rounded, at))


def in_precision(model: Model, dtype: Any) -> Model:
    """The model, asked in half precision; of an augmented one, the denoiser alone: the rest is roots and inverses."""
    if isinstance(model, Augmented):
        return eqx.tree_at(lambda one: one.denoiser, model, replace_fn=lambda one: InPrecision(one, dtype))
    return InPrecision(model, dtype)
