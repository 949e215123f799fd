"""Hamiltonian Monte Carlo: proposals from afar, along paths of constant energy."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from variate.checks import check_positive_int

from .base import Info, LogDensity, check_scale, metropolis, unbound

_LOST = 1_000.0  # of energy, beyond which a path is called divergent, as in Stan


class State(NamedTuple):
    position: Float[Array, " d"]
    log_density: Float[Array, ""]
    gradient: Float[Array, " d"]


class HMC(eqx.Module):
    r"""Hamiltonian Monte Carlo: L leapfrog steps of size $\epsilon$ with a fresh momentum $p \sim N(0, I)$.

    The path follows $H(x, p) = -\log \pi(x) + |p|^2 / 2$ in coordinates $x / s$, and its end is accepted with
    probability $\min(1, e^{-\Delta H})$, which leaves $\pi$ invariant for every $\epsilon$ and s. Each path has its own
    step size, uniform in $[(1 - j)\,\epsilon, (1 + j)\,\epsilon]$, so that none is a whole period.

    Choose it where there is a gradient and the scales of the coordinates are known. It is the wrong choice where they
    are not, or where the density has edges inside of its support.

    Raises:
        ValueError: a step size or scale that is not positive, no steps, or a jitter that is not in [0, 1).

    Source: Neal (2011), MCMC using Hamiltonian dynamics, in Handbook of Markov Chain Monte Carlo, equations 5.18-5.20
    and section 5.4.2.2 for the jitter.
    """

    step_size: float | Float[Array, ""]  # epsilon, in units of s
    num_steps: int = eqx.field(static=True)  # L
    scale: float | Float[Array, " d"] = 1.0  # s, about the standard deviation of each coordinate
    jitter: float = eqx.field(static=True, default=0.2)  # j
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        check_scale("step_size", self.step_size)
        check_scale("scale", self.scale)
        check_positive_int("num_steps", self.num_steps)
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter must be at least 0 and below 1, got {self.jitter}")

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        return State(position, *jax.value_and_grad(self.log_density)(position))

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_momentum, key_jitter, key_accept = jax.random.split(key, 3)
        dtype = state.position.dtype
        momentum = jax.random.normal(key_momentum, state.position.shape, dtype)
        step_size = self.step_size * jax.random.uniform(key_jitter, (), dtype, 1 - self.jitter, 1 + self.jitter)
        proposal, end = self.leapfrog(state, momentum, step_size)
        log_ratio = proposal.log_density - state.log_density - 0.5 * (jnp.sum(end**2) - jnp.sum(momentum**2))
        state, acceptance, accepted = metropolis(key_accept, log_ratio, proposal, state)
        return state, Info(acceptance, accepted, ~(log_ratio > -_LOST))

    def leapfrog(
        self, state: State, momentum: Float[Array, " d"], step_size: Float[Array, ""]
    ) -> tuple[State, Float[Array, " d"]]:
        """The end of the path that starts at a state with a momentum."""
        stride = step_size * self.scale

        def once(_: Array, at: tuple[State, Array]) -> tuple[State, Array]:
            state, momentum = at
            half = momentum + 0.5 * stride * state.gradient
            position = state.position + stride * half
            state = State(position, *jax.value_and_grad(self.log_density)(position))
            return state, half + 0.5 * stride * state.gradient

        return lax.fori_loop(0, self.num_steps, once, (state, momentum))
