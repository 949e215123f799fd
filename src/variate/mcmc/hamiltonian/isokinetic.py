"""The isokinetic step, which follows a gradient at constant speed."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from variate.mcmc.base import LogDensity, pulled, stretched

from . import leapfrog


def direction(key: Key[Array, ""], like: Float[Array, " d"]) -> Float[Array, " d"]:
    """Uniform among those of the coordinates of a position."""
    z = jax.random.normal(key, like.shape, like.dtype)
    return z / jnp.linalg.norm(z)


def isokinetic(
    log_density: LogDensity,
    scale: Any,
    step_size: float | Float[Array, ""],
    state: leapfrog.State,
    u: Float[Array, " d"],
) -> tuple[leapfrog.State, Float[Array, " d"], Float[Array, ""]]:
    r"""A step of $\dot y = \sqrt d\, u$, $\dot u = \sqrt d\, (I - u u^\top) \nabla \log \pi / (d - 1)$, $y = S^{-1} x$.

    Half a step of the direction u, one of the position, half a step of the direction, each exact. Returns the logarithm
    of the change of volume too: on a path that is followed exactly it makes up for that of $\pi$. The speed is that of
    Hamiltonian paths in d dimensions, so that step sizes are alike.

    Sources: Robnik, De Luca, Silverstein and Seljak (2023), Microcanonical Hamiltonian Monte Carlo, JMLR 24(311), 1-34;
    Ver Steeg and Galstyan (2021), Hamiltonian dynamics with non-Newtonian momentum for rapid sampling, NeurIPS 34.
    """
    time = step_size * len(u) ** 0.5
    u, first = turned(u, pulled(scale, state.gradient), 0.5 * time)
    state = leapfrog.at(log_density, state.position + time * stretched(scale, u))
    u, second = turned(u, pulled(scale, state.gradient), 0.5 * time)
    return state, u, first + second


def turned(
    u: Float[Array, " d"], gradient: Float[Array, " d"], time: float | Float[Array, ""]
) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    r"""u after some time of $\dot u = (I - u u^\top) g / (d - 1)$, and the logarithm of the change of volume.

    With $e = g / |g|$, $\delta = t |g| / (d - 1)$ and $c = e \cdot u$ it is
    $(u + e\, (\sinh \delta + c\, (\cosh \delta - 1))) / r$, $r = \cosh \delta + c \sinh \delta$, and volumes on the
    sphere change by $r^{1 - d}$.
    """
    size = jnp.sqrt(jnp.sum(gradient**2))
    e = gradient / jnp.where(size == 0, 1, size)
    delta, c = time * size / (len(u) - 1), jnp.sum(u * e)
    small = jnp.exp(-delta)  # all is divided by e^delta, which could be too large
    along = (1 - small**2) / 2 + c * (1 - small) ** 2 / 2
    rate = (1 + c) / 2 + (1 - c) / 2 * small**2
    after = small * u + along * e
    return after / jnp.linalg.norm(after), (1 - len(u)) * (delta + jnp.log(rate))


def check_dimension(position: Float[Array, " d"]) -> None:
    """Raise ValueError for a position that leaves no direction to turn to."""
    if position.size < 2:
        raise ValueError(f"position must have two coordinates or more, got {position.size}")
