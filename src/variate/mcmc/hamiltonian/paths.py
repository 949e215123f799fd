"""Paths of lengths that follow a sequence, the same for all chains, and of which a warm-up can learn."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from variate.checks import check_fraction, check_positive_int
from variate.mcmc.base import LogDensity, check_scale

from . import leapfrog

_GOLDEN = (5**0.5 - 1) / 2


class State(NamedTuple):
    position: Float[Array, " d"]
    log_density: Float[Array, ""]
    gradient: Float[Array, " d"]
    share: Float[Array, ""]  # of the longest path that the last one was
    end: Float[Array, " d"]  # of the last path, accepted or not
    velocity: Float[Array, " d"]  # there, in coordinates S^-1 x


def begun(log_density: LogDensity, position: Float[Array, " d"]) -> State:
    share = jnp.zeros((), position.dtype)
    return State(*leapfrog.at(log_density, position), share, position, jnp.zeros_like(position))


def planned(
    share: Float[Array, ""], length: Any, step_size: Any, max_steps: int | Int[Array, ""]
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    r"""The share of the next path, $u_{n+1} = u_n + (\sqrt 5 - 1) / 2$ modulo 1, and its number of steps.

    Of all sequences $u_n + c$ it fills the interval most evenly. It asks for no random number, so that chains that
    began together have paths of one length, and none waits for another.
    """
    share = jnp.mod(share + _GOLDEN, 1.0)
    steps = jnp.clip(jnp.ceil(share * length / step_size), 1, max_steps)
    return share, steps.astype(jnp.int32)


def check(kernel: Any) -> None:
    """Raise ValueError for settings with which a kernel of such paths goes nowhere."""
    for name in ("step_size", "length", "scale"):
        check_scale(name, getattr(kernel, name))
    check_fraction("acceptance", kernel.acceptance)
    if isinstance(kernel.max_steps, int):
        check_positive_int("max_steps", kernel.max_steps)
