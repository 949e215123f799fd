"""The ancestral chain whose variances the model has learned."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from variate.checks import describe

from ..denoisers import NoiseAndShare
from ..processes.base import Level, Process, exact_levels
from .base import Coefficient, Stage, State


class AncestralLearned(eqx.Module):
    r"""`Ancestral` with the variance $\beta^v\, \tilde\beta^{1 - v} = b^2\, (\sigma_t / \sigma_s)^{2 (1 - v)}$.

    $b^2$ is the variance $\beta$ that the process adds between t and s, $\tilde\beta$ that of $x_t$ given $x_s$ and the
    data, and v is what `NoiseAndShare` says of each coordinate: with 0 it is `DDIM(1)`, and with 1 on a
    variance-preserving process `Ancestral(1)`. A step to no noise adds none.

    Choose it for tens to hundreds of evaluations of a network that learned v on the same steps. With fewer the flow is
    better solved without noise, and on other steps than those of the training v means something else.

    Source: Nichol and Dhariwal (2021), Improved denoising diffusion probabilistic models, ICML, eq. 15.
    """

    def plan(self, process: Process, times: np.ndarray) -> "Interpolated":
        level = exact_levels(process, times)
        s, t = (Level(*(column[part] for column in level)) for part in (slice(None, -1), slice(1, None)))
        b, kept, fresh = backwards(s, t)
        ends = t.sigma == 0
        log_ratio = np.log(np.where(ends, 1.0, t.sigma / s.sigma))
        return Interpolated(s, kept, t.alpha * fresh, np.where(ends, 0.0, b), log_ratio)

    def check_model(self, model: Any, event: tuple[int, ...]) -> None:
        if not isinstance(model, NoiseAndShare):
            raise TypeError(f"model must be a NoiseAndShare, which knows its variances, got {describe(model)}")


def backwards(s: Level, t: Level) -> tuple[Any, Any, Any]:
    r"""Of a step from s back to t: b, and the shares of $x_s$ and of $\alpha_t x_0$ in the mean of $x_t$."""
    a = s.alpha / t.alpha
    fresh = 1 - (a * t.sigma / s.sigma) ** 2
    return s.sigma * fresh**0.5, a * (t.sigma / s.sigma) ** 2, fresh


class Interpolated(Stage):
    """A step, and how much noise it adds by what the model says."""

    level: Level
    kept: Coefficient  # of the point
    data: Coefficient
    b: Coefficient
    log_ratio: Coefficient  # of the noise after the step and before it

    def init(self, x: Float[Array, "..."]) -> State:
        return State(x, None, ())

    def step(self, key: Key[Array, ""], model: NoiseAndShare | Any, state: State) -> State:
        found, share = model.both(state.x, self.level)
        z = jax.random.normal(key, state.x.shape, state.x.dtype)
        deviation = self.b * jnp.exp((1 - share) * self.log_ratio)
        return State(state.x * self.kept + found.data * self.data + z * deviation, None, ())
