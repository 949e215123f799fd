"""A denoiser: what a model expects of the data behind a noisy point, in whichever form it says so."""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from variate.checks import describe

from ..checks import check_point
from ..processes.base import Level, Process

ROUNDED = 1e-6  # of times that are given in single precision


class Prediction(NamedTuple):
    r"""What lies behind $x = \alpha\, d + \sigma\, e$ as a model has it: two forms of the same expectation."""

    data: Float[Array, "..."]  # d
    noise: Float[Array, "..."]  # e


class Model(eqx.Module):
    """What a draw needs to know of a model: predictions at noisy points, and the process that made the noise."""

    process: eqx.AbstractVar[Any]

    @abc.abstractmethod
    def predict(self, x: Float[Array, "..."], level: Level) -> Prediction:
        """Of one point x, without a batch."""


class Denoiser(Model):
    r"""The expected data $E[x_0 \mid x_t = x]$ of one noisy point, with the process that made the noise.

    `predict` is asked once for both forms, so that neither is found from the other where that would lose it: the noise
    from the data where there is hardly any noise, the data from the noise where there is hardly any data.
    """

    process: eqx.AbstractVar[Process]

    def data(self, x: Float[Array, "..."] | Any, t: Any) -> Float[Array, "..."]:
        """$E[x_0 | x_t = x]$."""
        return self.predict(check_point("x", x), level_at(self.process, t)).data

    def noise(self, x: Float[Array, "..."] | Any, t: Any) -> Float[Array, "..."]:
        r"""$E[\epsilon | x_t = x]$."""
        return self.predict(check_point("x", x), level_at(self.process, t)).noise

    def score(self, x: Float[Array, "..."] | Any, t: Any) -> Float[Array, "..."]:
        r"""$\nabla \log p_t(x) = -E[\epsilon | x_t = x] / \sigma(t)$."""
        level = level_at(self.process, t)
        if not isinstance(level.sigma, Tracer) and level.sigma == 0:
            raise ValueError(f"t must be a time at which there is noise, got {t}: the score divides by it")
        return -self.predict(check_point("x", x), level).noise / level.sigma

    def velocity(self, x: Float[Array, "..."] | Any, t: Any) -> Float[Array, "..."]:
        r"""$\alpha'(t)\, E[x_0 | x] + \sigma'(t)\, E[\epsilon | x]$, the speed of the probability flow at x."""
        level = level_at(self.process, t)
        slope, found = self.process.slopes(level.time), self.predict(check_point("x", x), level)
        return slope.alpha * found.data + slope.sigma * found.noise


class ExactDenoiser(Denoiser):
    """A denoiser that knows the log density of the noisy points as well, at every time."""

    @abc.abstractmethod
    def log_marginal(self, x: Float[Array, "..."], level: Level) -> Float[Array, ""]:
        """The log density of one noisy point x."""

    def log_density(self, x: Float[Array, "..."] | Any, t: Any = 0.0) -> Float[Array, ""]:
        r"""$\log p_t(x)$."""
        return self.log_marginal(check_point("x", x), level_at(self.process, t))


def level_at(process: Process, t: Any) -> Level:
    """The level at one time; raises where that is none of the process, as far as it can be seen."""
    try:
        time = None if isinstance(t, str) else jnp.asarray(t)
    except (TypeError, ValueError):
        time = None
    if time is None or time.ndim or not any(jnp.issubdtype(time.dtype, kind) for kind in (jnp.floating, jnp.integer)):
        raise TypeError(f"t must be one time, a real number, got {describe(t)}")
    traced = isinstance(time, Tracer) or isinstance(process.horizon, Tracer)
    if not traced and not 0 <= time <= process.horizon * (1 + ROUNDED):
        raise ValueError(f"t must lie between 0 and {process.horizon}, the horizon, got {time}")
    return process.level(time)


def from_data(x: Float[Array, "..."], data: Float[Array, "..."], level: Level) -> Prediction:
    return Prediction(data, (x - level.alpha * data) / level.sigma)


def from_noise(x: Float[Array, "..."], noise: Float[Array, "..."], level: Level) -> Prediction:
    return Prediction((x - level.sigma * noise) / level.alpha, noise)


def with_data(found: Prediction, data: Float[Array, "..."], level: Level) -> Prediction:
    """The prediction whose data are these, of the same point."""
    return Prediction(data, found.noise + level.alpha / level.sigma * (found.data - data))


def with_noise(found: Prediction, noise: Float[Array, "..."], level: Level) -> Prediction:
    """The prediction whose noise is this, of the same point."""
    return Prediction(found.data + level.sigma / level.alpha * (found.noise - noise), noise)


def check_model(name: str, value: Any, kind: type[Model] = Denoiser) -> None:
    if not isinstance(value, kind):
        raise TypeError(
            f"{name} must be a denoiser, vt.diffusion.NoisePrediction(process, f) say, got {describe(value)}"
        )


def check_models(**models: Any) -> Process:
    """The process that some denoisers share; raises where one is none, or has another."""
    for name, model in models.items():
        check_model(name, model)
    (first, process), *rest = [(name, model.process) for name, model in models.items()]
    for name, other in rest:
        leaves = jax.tree.leaves((process, other))
        if not any(isinstance(leaf, Tracer) for leaf in leaves) and not eqx.tree_equal(process, other):
            raise ValueError(f"{first} and {name} must share a process, got {process} and {other}")
    return process
