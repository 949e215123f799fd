"""Slice sampling of one coordinate after another."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from variate.checks import check_positive_int
from variate.mcmc.base import Info, LogDensity, Scale, check_scale, given, stretched, unbound
from variate.mcmc.random_walk import State

from . import slicing


class Slice(eqx.Module):
    r"""Slice sampling: each coordinate, in a random order, is drawn anew from where the density is above a height.

    The height is uniform in $[0, \pi(x)]$. A bracket of length $s_i$ around the coordinate steps out until both of its
    ends are below the height, or it is `max_steps` times as long; points uniform in the bracket are tried, and each
    that is below the height cuts it shorter. This leaves $\pi$ invariant, reversibly, for every s; with a lower
    triangle S the moves are along its columns. A step costs several densities for each coordinate, none of it lost:
    it always moves.

    Choose it where there is no gradient and the scales are known badly: a scale that is wrong costs evaluations, no
    rejections. The wrong choice where coordinates depend on each other strongly, since it moves one at a time,
    or where there are many and a gradient.

    Raises:
        ValueError: a scale that is not positive, or no steps.

    Source: Neal (2003), Slice sampling, Annals of Statistics 31(3), 705-767, sections 4.1 and 4.2.
    """

    scale: Scale | None = None  # s: the length of the first bracket, about the standard deviation or more
    max_steps: int = eqx.field(static=True, default=20)  # of its length, to which a bracket may grow
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        check_scale("scale", self.scale)
        check_positive_int("max_steps", self.max_steps)

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        return State(position, self.log_density(position))

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_order, key_moves = jax.random.split(key)
        size, dtype = state.position.size, state.position.dtype
        scale = given("scale", self.scale)

        def once(state: State, at: tuple[Array, Array]) -> tuple[State, slicing.Found]:
            index, key = at
            direction = stretched(scale, jnp.zeros(size, dtype).at[index].set(1))
            return slicing.along(key, self.log_density, state, direction, self.max_steps)

        # In a random order the sweep is reversible: the order backwards is as likely.
        order = jax.random.permutation(key_order, size)
        state, found = lax.scan(once, state, (order, jax.random.split(key_moves, size)))
        return state, found.info()
