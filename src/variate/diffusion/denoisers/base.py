"""A denoiser: what a model expects of the data behind a noisy point, in whichever form it says so."""

import abc
from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import Array, Float

from ..processes.base import Level, Process


class Prediction(NamedTuple):
    r"""What lies behind $x = \alpha\, d + \sigma\, e$ as a model has it: two forms of the same expectation."""

    data: Float[Array, "..."]  # d
    noise: Float[Array, "..."]  # e


class Denoiser(eqx.Module):
    r"""The expected data $E[x_0 \mid x_t = x]$ of one noisy point, with the process that made the noise.

    `predict` is asked once for both forms, so that neither is found from the other where that would lose it: the noise
    from the data where there is hardly any noise, the data from the noise where there is hardly any data.
    """

    process: eqx.AbstractVar[Process]

    @abc.abstractmethod
    def predict(self, x: Float[Array, "..."], level: Level) -> Prediction:
        """Of one point x, without a batch."""

    def data(self, x: Float[Array, "..."], t: Any) -> Float[Array, "..."]:
        """$E[x_0 | x_t = x]$."""
        return self.predict(x, self.process.level(t)).data

    def noise(self, x: Float[Array, "..."], t: Any) -> Float[Array, "..."]:
        r"""$E[\epsilon | x_t = x]$."""
        return self.predict(x, self.process.level(t)).noise

    def score(self, x: Float[Array, "..."], t: Any) -> Float[Array, "..."]:
        r"""$\nabla \log p_t(x) = -E[\epsilon | x_t = x] / \sigma(t)$."""
        return -self.noise(x, t) / self.process.sigma(self.process.level(t).time)

    def velocity(self, x: Float[Array, "..."], t: Any) -> Float[Array, "..."]:
        r"""$\alpha'(t)\, E[x_0 | x] + \sigma'(t)\, E[\epsilon | x]$, the speed of the probability flow at x."""
        level = self.process.level(t)
        slope, found = self.process.slopes(level.time), self.predict(x, level)
        return slope.alpha * found.data + slope.sigma * found.noise


def from_data(x: Float[Array, "..."], data: Float[Array, "..."], level: Level) -> Prediction:
    return Prediction(data, (x - level.alpha * data) / level.sigma)


def from_noise(x: Float[Array, "..."], noise: Float[Array, "..."], level: Level) -> Prediction:
    return Prediction((x - level.sigma * noise) / level.alpha, noise)
