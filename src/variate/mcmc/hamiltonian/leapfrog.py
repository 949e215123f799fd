"""The leapfrog step, by which paths of nearly constant energy are followed."""

from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float

from variate.mcmc.base import LogDensity, pulled, stretched

LOST = 1_000.0  # of energy, beyond which a path is called divergent, as in Stan


class State(NamedTuple):
    position: Float[Array, " d"]
    log_density: Float[Array, ""]
    gradient: Float[Array, " d"]


def at(log_density: LogDensity, position: Float[Array, " d"]) -> State:
    return State(position, *jax.value_and_grad(log_density)(position))


def leapfrog(
    log_density: LogDensity,
    scale: Any,
    step_size: float | Float[Array, ""],
    state: State,
    momentum: Float[Array, " d"],
) -> tuple[State, Float[Array, " d"]]:
    r"""Half a step of the momentum, one of the position, half a step of the momentum, in coordinates $S^{-1} x$.

    Source: Neal (2011), MCMC using Hamiltonian dynamics, in Handbook of Markov Chain Monte Carlo, equations 5.18-5.20.
    """
    half = momentum + 0.5 * step_size * pulled(scale, state.gradient)
    state = at(log_density, state.position + step_size * stretched(scale, half))
    return state, half + 0.5 * step_size * pulled(scale, state.gradient)
