"""The law of what was there before noise was added: a cloud of points around what is seen, weighted by the target."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from variate.mcmc.base import LogDensity


class Cloud(NamedTuple):
    """Points with the law of x given $y = x + \\sigma z$, of density proportional to $\\pi(x) N(x; y, \\sigma^2)$."""

    points: Float[Array, "n d"]
    log_weights: Float[Array, " n"]  # up to a constant; all alike where no point has mass

    @property
    def weights(self) -> Float[Array, " n"]:
        return jax.nn.softmax(self.log_weights)

    def moments(self) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
        """The mean and the covariance."""
        mean = self.weights @ self.points
        away = self.points - mean[None]
        return mean, away.T @ (self.weights[:, None] * away)


def around(
    log_density: LogDensity, center: Float[Array, " d"], sigma: Float[Array, ""], z: Float[Array, "n d"]
) -> Cloud:
    r"""The points $y + \sigma z_i$, weighted by $\pi$; a density that is no number counts as no mass."""
    points = center[None] + sigma * z
    return Cloud(points, with_some_mass(jax.vmap(log_density)(points)))


def without_nan(log_densities: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.where(jnp.isnan(log_densities), -jnp.inf, log_densities)


def with_some_mass(log_weights: Float[Array, " n"]) -> Float[Array, " n"]:
    """The same, but all alike where none has mass."""
    known = without_nan(log_weights)
    return jnp.where(jnp.any(known > -jnp.inf), known, 0)


def moved(
    log_density: LogDensity, cloud: Cloud, key: Key[Array, ""], toward: tuple[Any, Any], steps: tuple[int, Any]
) -> Cloud:
    r"""As many points alike, drawn by their weights and moved by Langevin steps without an accept step.

    `toward` is y and $\sigma$; `steps`, how many and how long where there is no noise: their square is
    $1 / (\epsilon^{-2} + \sigma^{-2})$.
    """
    (center, sigma), (count, step_size) = toward, steps
    key_chosen, key_moves = jax.random.split(key)
    chosen = jax.random.categorical(key_chosen, cloud.log_weights, shape=cloud.log_weights.shape)
    square = 1 / (step_size**-2 + sigma**-2)

    def once(x: Float[Array, "n d"], key: Key[Array, ""]) -> tuple[Float[Array, "n d"], None]:
        slope = jax.vmap(jax.grad(log_density))(x)
        pull = jnp.where(jnp.isfinite(slope), slope, 0) - (x - center[None]) / sigma**2
        noise = jax.random.normal(key, x.shape, x.dtype)
        return x + 0.5 * square * pull + jnp.sqrt(square) * noise, None

    points, _ = jax.lax.scan(once, cloud.points[chosen], jax.random.split(key_moves, count))
    return Cloud(points, jnp.zeros_like(cloud.log_weights))
