"""Hit and run: slice sampling along a line in a random direction."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from variate.checks import check_positive_int
from variate.mcmc.base import Info, LogDensity, Scale, check_scale, given, stretched, unbound
from variate.mcmc.random_walk import State

from . import slicing


class HitAndRun(eqx.Module):
    r"""Hit and run: a slice sampler's move on the line $x + t\, S u$, u uniform on the unit sphere.

    The height is uniform in $[0, \pi(x)]$; a bracket of $|t|$ of length 1 steps out until both of its ends are below
    the height, or it is `max_steps` long; points uniform in it are tried, and each that is below the height cuts it
    shorter. This leaves $\pi$ invariant, reversibly, for every S.

    Choose it where there is no gradient, coordinates depend on each other and S is known or found in the warm-up, or
    on bodies with edges. The wrong choice where d is large: a step moves in one of d dimensions, as one of `Slice`
    does in each.

    Raises:
        ValueError: a scale that is not positive, or no steps.

    Source: Bélisle, Romeijn and Smith (1993), Hit-and-run algorithms for generating multivariate distributions,
    Mathematics of Operations Research 18(2), 255-266; the move on a line: Neal (2003), Slice sampling, Annals of
    Statistics 31(3), 705-767, section 4.
    """

    scale: Scale | None = None  # S: about the standard deviation of each coordinate, or a lower triangle
    max_steps: int = eqx.field(static=True, default=20)  # of its length, to which a bracket may grow
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        check_scale("scale", self.scale)
        check_positive_int("max_steps", self.max_steps)

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        return State(position, self.log_density(position))

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_direction, key_move = jax.random.split(key)
        z = jax.random.normal(key_direction, state.position.shape, state.position.dtype)
        direction = stretched(given("scale", self.scale), z / jnp.linalg.norm(z))
        state, found = slicing.along(key_move, self.log_density, state, direction, self.max_steps)
        return state, found.info()
