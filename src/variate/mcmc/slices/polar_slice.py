"""Gibbsian polar slice sampling: a new direction from a center, then a new distance."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from variate.checks import check_positive_int
from variate.mcmc.base import Info, LogDensity, check_finite, check_scale, unbound
from variate.mcmc.random_walk import State

from . import slicing


class GibbsianPolarSlice(eqx.Module):
    r"""Gibbsian polar slice sampling: of $x = m + r\,\theta$, first $\theta$ and then r is drawn anew.

    The height is uniform in $[0, r^{d-1} \pi(x)]$. The direction moves on a random great circle through it: points
    uniform in a bracket, at first the whole turn, are tried, and each that is below the height cuts the bracket
    shorter. The radius moves on its ray by a bracket of length `width` that steps out, up to `max_steps` times as
    long, and is cut shorter likewise. This leaves $\pi$ invariant for every m and width; it is not reversible.

    Choose it for heavy tails and funnels around a center that is known: a single step may change the distance by
    orders of magnitude. The wrong choice where the mass is far from the center, all in one direction, or in one
    dimension, where there is no circle.

    Raises:
        ValueError: a width that is not positive, no steps, a center that is not finite, or a position of one dimension.

    Source: Schär, Habeck and Rudolf (2023), Gibbsian polar slice sampling, ICML, PMLR 202, 30204-30223, algorithms
    1-3.
    """

    width: float | Float[Array, ""]  # of the first bracket of the radius; better too long than too short
    center: float | Float[Array, " d"] = 0.0  # m
    max_steps: int = eqx.field(static=True, default=20)  # of its width, to which a bracket may grow
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        check_scale("width", self.width)
        check_positive_int("max_steps", self.max_steps)
        check_finite("center", self.center)

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        if position.size < 2:
            raise ValueError(
                f"position must have two coordinates or more, for a direction to turn, got {position.size}"
            )
        return State(position, self.log_density(position))

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_level, key_side, key_turn, key_reach = jax.random.split(key, 4)
        power = state.position.size - 1

        def lifted(r: Float[Array, ""], direction: Float[Array, " d"]) -> Float[Array, ""]:
            value = self.log_density(self.center + r * direction) + power * jnp.log(jnp.abs(r))
            return jnp.where(r > 0, value, -jnp.inf)

        def at(found: slicing.Found, r: Float[Array, ""], direction: Float[Array, " d"]) -> State:
            return State(self.center + r * direction, found.log_density - power * jnp.log(r))

        away = state.position - self.center
        r = jnp.linalg.norm(away)
        level = slicing.below(key_level, state.log_density + power * jnp.log(r))
        side, other = jax.random.normal(key_side, (2, *away.shape), away.dtype)
        direction = _unit(jnp.where(r > 0, away, other))  # at the center, which has none, a random one
        side = _unit(side - (side @ direction) * direction)

        def turned(t: Float[Array, ""]) -> Float[Array, " d"]:
            return jnp.cos(t) * direction + jnp.sin(t) * side

        turn = slicing.turn(key_turn, lambda t: lifted(r, turned(t)), level)
        ray = turned(turn.t)
        reach = slicing.line(key_reach, lambda t: lifted(r + t * self.width, ray), level, self.max_steps)
        state = slicing.chosen(turn, at(turn, r, ray), state)
        state = slicing.chosen(reach, at(reach, r + reach.t * self.width, ray), state)
        return state, slicing.Found(*map(jnp.stack, zip(turn, reach, strict=True))).info()


def _unit(x: Float[Array, " d"]) -> Float[Array, " d"]:
    return x / jnp.linalg.norm(x)
