"""Time shifts: a network asked at the time whose noise a point has, not at the time that the solver has reached."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from variate.checks import check_number, check_positive

from ..processes.base import Level, Process
from .base import Denoiser, Prediction, check_model, from_noise

CANDIDATES = 101  # times in a window, the one in the middle the solver's own


class TimeShifted(Denoiser):
    r"""$\epsilon_\theta(x_t, t_s)$ for $\epsilon_\theta(x_t, t)$, with the $t_s$ near t whose noise $x_t$ has.

    $t_s$ is the time within $w / 2$ of t at which $\alpha^2 v + \sigma^2$ is nearest to the variance of the coordinates
    of $x_t$; v is that of the data, and 0 in the source. A heuristic for networks: points that a run has led to have
    not quite the noise of points made from data, on which a network was trained. It is for images and the like: the
    more coordinates, of variances that are alike, the better is their variance known.

    The wrong choice for an exact model, which it makes worse the fewer coordinates there are, and where $\alpha^2 v +
    \sigma^2$ hardly changes: for data of variance one on a variance-preserving process. The derivative for $x_t$ is
    that at a fixed $t_s$.

    Raises:
        TypeError, ValueError: a model that is none, a window that is not positive, a cutoff or a variance that is
            negative; points of one coordinate.

    Source: Li, Qu, Yao, Sun and Moens (2024), Alleviating exposure bias in diffusion models through sampling with
    shifted time steps, ICLR; as the authors' program has it for solvers of high order, and with v.
    """

    model: Denoiser
    window: float  # w, in units of time
    cutoff: float  # the time from which on there is no shift
    data_variance: float  # v, of a coordinate

    def __init__(
        self, model: Denoiser | Any, window: float | Any, cutoff: float | Any = 0.0, data_variance: float | Any = 0.0
    ) -> None:
        check_model("model", model)
        self.model, self.window = model, check_positive("window", window)
        self.cutoff, self.data_variance = check_number("cutoff", cutoff), check_number("data_variance", data_variance)
        for name, value in (("cutoff", self.cutoff), ("data_variance", self.data_variance)):
            if value < 0:
                raise ValueError(f"{name} must not be negative, got {value}")

    @property
    def process(self) -> Process:
        return self.model.process

    def predict(self, x: Float[Array, "..."], level: Level) -> Prediction:
        if x.size < 2:
            raise ValueError(f"a point must have two coordinates or more to have a variance, got the shape {x.shape}")
        near = level.time + self.window * jnp.linspace(-0.5, 0.5, CANDIDATES, dtype=x.dtype)
        near = jnp.clip(near, jnp.minimum(self.process.cutoff, level.time), self.process.horizon)
        at = self.process.level(near)
        nearest = jnp.argmin(jnp.abs(at.alpha**2 * self.data_variance + at.sigma**2 - jnp.var(x, ddof=1)))
        shifts = level.time > self.cutoff
        shifted = Level(*(jnp.where(shifts, there[nearest], here) for there, here in zip(at, level, strict=True)))
        return from_noise(x, self.model.predict(x, shifted).noise, level)
