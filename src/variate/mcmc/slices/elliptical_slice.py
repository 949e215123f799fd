"""Elliptical slice sampling, for a normal law times a likelihood."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Key

from variate.mcmc.base import Info, LogDensity, Scale, check_finite, check_scale, stretched, unbound

from . import slicing


class State(NamedTuple):
    position: Float[Array, " d"]
    log_density: Float[Array, ""]
    white: Float[Array, " d"]  # S^-1 (x - m)


class EllipticalSlice(eqx.Module):
    r"""Elliptical slice sampling: a slice sampler's move on an ellipse through the position.

    The target is taken as $\pi = N(m, S S^\top) \cdot L$. The kernel divides the normal density out of $\pi$ by
    itself, so it leaves $\pi$ invariant, reversibly, for every m and S, whether or not there is such a factor. With z
    a draw of $N(0, S S^\top)$, the ellipse is $m + (x - m) \cos t + z \sin t$; the height is uniform in $[0, L(x)]$;
    points uniform in a bracket, at first the whole turn, are tried, and each of which L is below the height cuts the
    bracket shorter.

    The right choice for a Gaussian prior, strongly correlated even, and a likelihood that is weak beside it or has no
    gradient. The wrong choice where the likelihood is strong, which shrinks the moves to nothing, or where the normal
    law is narrower than the target: L then grows without bound in the tails, where the chain stays for long.

    Raises:
        ValueError: a scale that is not positive, or a mean that is not finite.

    Source: Murray, Adams and MacKay (2010), Elliptical slice sampling, AISTATS, PMLR 9, 541-548, figure 2; the bracket
    cut at a random place, as in Schär, Habeck and Rudolf (2023), Gibbsian polar slice sampling, ICML, algorithm 2.
    """

    scale: Scale  # S: of each coordinate, or a lower triangle
    mean: float | Float[Array, " d"] = 0.0  # m
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        check_scale("scale", self.scale)
        check_finite("mean", self.mean)

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        away = position - self.mean
        triangle = jnp.ndim(self.scale) == 2
        white = solve_triangular(jnp.asarray(self.scale), away, lower=True) if triangle else away / self.scale
        return State(position, self.log_density(position), white)

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_z, key_level, key_turn = jax.random.split(key, 3)
        z = jax.random.normal(key_z, state.white.shape, state.white.dtype)

        def at(t: Float[Array, ""]) -> tuple[Array, Array]:
            white = state.white * jnp.cos(t) + z * jnp.sin(t)
            return self.mean + stretched(self.scale, white), white

        def likelihood(t: Float[Array, ""]) -> Float[Array, ""]:
            position, white = at(t)
            return self.log_density(position) + 0.5 * white @ white

        level = slicing.below(key_level, state.log_density + 0.5 * state.white @ state.white)
        found = slicing.turn(key_turn, likelihood, level)
        position, white = at(found.t)
        new = State(position, found.log_density - 0.5 * white @ white, white)
        return slicing.chosen(found, new, state), found.info()
