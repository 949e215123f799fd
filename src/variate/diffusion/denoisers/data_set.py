"""The exact denoiser of a data set: what a network that learns it by heart would say."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from variate.checks import check_positive_int

from ..checks import check_points
from ..processes.base import Level, Process, check_process
from .base import ExactDenoiser, Prediction


class DataSet(ExactDenoiser):
    r"""$E[x_0 \mid x] = \sum_i w_i(x)\, x_i$ with $w \propto \exp(-|x - \alpha x_i|^2 / 2 \sigma^2)$, of n points.

    It is exact for the distribution that gives each point the mass 1 / n, so its draws are the points themselves: an
    oracle for solvers, and what a network is to generalize from. An evaluation looks at all points, a block at a time.

    Args:
        process: how noise takes over.
        points: $x_i$, along the first axis.
        block: how many points are looked at together: memory for so many a draw is all that it takes.

    Raises:
        ValueError: no points, or points that are not finite.
    """

    process: Process
    points: Float[Array, "n ..."]
    block: int = eqx.field(static=True)

    def __init__(self, process: Process, points: Any, block: int | Any = 256) -> None:
        check_process(process)
        block = check_positive_int("block", block)
        points = check_points("points", points).astype(float)
        if points.size == 0 or not np.all(np.isfinite(points)):
            raise ValueError(f"points must be finite numbers, one point a row, got an array of shape {points.shape}")
        self.process, self.points, self.block = process, points, min(block, len(points))

    def predict(self, x: Float[Array, "..."], level: Level) -> Prediction:
        if x.shape != self.points.shape[1:]:
            raise ValueError(f"the points of the data set are of shape {self.points.shape[1:]}, the draws of {x.shape}")
        _, total, data, rest = self._sums(x, level)
        return Prediction(data / total, rest / (total * level.sigma))

    def log_marginal(self, x: Float[Array, "..."], level: Level) -> Float[Array, ""]:
        top, total, _, _ = self._sums(x, level)
        normal = 0.5 * x.size * jnp.log(2 * jnp.pi * level.sigma**2)
        return top + jnp.log(total) - normal - jnp.log(jnp.asarray(len(self.points), x.dtype))

    def _sums(self, x: Float[Array, "..."], level: Level) -> tuple[Any, Any, Any, Any]:
        """The largest logarithm of a weight, and over exp of it: the weights, and the data and the rests by weight."""
        n = len(self.points)
        blocks = -(-n // self.block)
        padding = [(0, blocks * self.block - n)] + [(0, 0)] * x.ndim
        points = jnp.pad(self.points.astype(x.dtype), padding).reshape(blocks, self.block, *x.shape)
        there = (jnp.arange(blocks * self.block) < n).reshape(blocks, self.block)

        def body(sums: Any, part: Any) -> tuple[Any, None]:
            top, total, data, rest = sums
            points, there = part
            rests = x[None] - level.alpha * points
            logs = -0.5 * jnp.sum((rests / level.sigma) ** 2, axis=tuple(range(1, rests.ndim)))
            logs = jnp.where(there, logs, -jnp.inf)
            highest = jnp.maximum(top, jnp.max(logs))
            kept, weights = jnp.exp(top - highest), jnp.exp(logs - highest)
            data, rest = (kept * old + jnp.tensordot(weights, new, 1) for old, new in ((data, points), (rest, rests)))
            return (highest, kept * total + jnp.sum(weights), data, rest), None

        zero = jnp.zeros((), x.dtype)
        start = (jnp.asarray(-jnp.inf, x.dtype), zero, jnp.zeros_like(x), jnp.zeros_like(x))
        return jax.lax.scan(body, start, (points, there))[0]
