"""The random walk of Metropolis: a kernel that asks for nothing but the density."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from .base import Info, LogDensity, Scale, check_scale, metropolis, stretched, unbound


class State(NamedTuple):
    position: Float[Array, " d"]
    log_density: Float[Array, ""]


class RandomWalk(eqx.Module):
    r"""Metropolis's random walk: proposes $x + S z$, z standard normal.

    Accepts with probability $\min(1, \pi(x') / \pi(x))$, which leaves $\pi$ invariant for every S. In d dimensions
    of spread $\sigma$ the best S is near $2.4\,\sigma / \sqrt d$, at which a quarter of the proposals is accepted.

    Choose it where there is no gradient. It is the wrong choice where there is one and d is more than a few: its cost
    for an independent draw grows like d, that of `HMC` like $d^{1/4}$.

    Raises:
        TypeError: no scale, which the warm-up does not find.
        ValueError: a scale that is not positive.

    Source: Metropolis, Rosenbluth, Rosenbluth, Teller and Teller (1953), J. Chem. Phys. 21, 1087-1092; Roberts, Gelman
    and Gilks (1997), Ann. Appl. Probab. 7(1), 110-120, for the best S.
    """

    scale: Scale  # S: in the units of the position, of all coordinates or of each, or a lower triangle
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        if self.scale is None:
            raise TypeError(
                "scale must be given, in the units of the position: a quarter of proposals is to be accepted"
            )
        check_scale("scale", self.scale)

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        return State(position, self.log_density(position))

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_move, key_accept, key_init = jax.random.split(key, 3)
        move = stretched(self.scale, jax.random.normal(key_move, state.position.shape, state.position.dtype))
        proposal = self.init(key_init, state.position + move)
        log_ratio = proposal.log_density - state.log_density
        state, acceptance, accepted = metropolis(key_accept, log_ratio, proposal, state)
        return state, Info(acceptance, accepted, jnp.isnan(log_ratio))
