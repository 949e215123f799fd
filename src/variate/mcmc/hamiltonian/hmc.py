"""Hamiltonian Monte Carlo: proposals from afar, along paths of constant energy."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from variate.checks import check_fraction, check_positive_int
from variate.mcmc.base import Info, LogDensity, Scale, check_scale, given, metropolis, unbound

from . import leapfrog
from .leapfrog import LOST, State


class HMC(eqx.Module):
    r"""Hamiltonian Monte Carlo: L leapfrog steps of size $\epsilon$ with a fresh momentum $p \sim N(0, I)$.

    The path follows $H(x, p) = -\log \pi(x) + |p|^2 / 2$ in coordinates $S^{-1} x$, and its end is accepted with
    probability $\min(1, e^{-\Delta H})$, which leaves $\pi$ invariant for every $\epsilon$ and S. Each path has its own
    step size, uniform in $[(1 - j)\,\epsilon, (1 + j)\,\epsilon]$, so that none is a whole period.

    Choose it where there is a gradient and the length of a good path is known; `NUTS` finds it. The wrong choice where
    the density has edges inside of its support. `vt.sample` finds the step size and the scale if they are left out.

    Raises:
        ValueError: a step size or scale that is not positive, no steps, or a jitter that is not in [0, 1).

    Source: Neal (2011), MCMC using Hamiltonian dynamics, in Handbook of Markov Chain Monte Carlo, equations 5.18-5.20
    and section 5.4.2.2 for the jitter.
    """

    step_size: float | Float[Array, ""] | None = None  # epsilon, in units of S
    num_steps: int = eqx.field(static=True, default=8)  # L
    scale: Scale | None = None  # S: about the standard deviation of each coordinate, or a lower triangle
    jitter: float = eqx.field(static=True, default=0.2)  # j
    acceptance: float = eqx.field(static=True, default=0.8)  # at which a step size is aimed that is to be found
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        check_scale("step_size", self.step_size)
        check_scale("scale", self.scale)
        check_fraction("acceptance", self.acceptance)
        check_positive_int("num_steps", self.num_steps)
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter must be at least 0 and below 1, got {self.jitter}")

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        return leapfrog.at(self.log_density, position)

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_momentum, key_jitter, key_accept = jax.random.split(key, 3)
        dtype = state.position.dtype
        momentum = jax.random.normal(key_momentum, state.position.shape, dtype)
        jitter = jax.random.uniform(key_jitter, (), dtype, 1 - self.jitter, 1 + self.jitter)
        step_size = given("step_size", self.step_size) * jitter
        proposal, end = self.leapfrog(state, momentum, step_size)
        energy = 0.5 * jnp.sum(momentum**2) - state.log_density
        log_ratio = proposal.log_density - state.log_density - 0.5 * (jnp.sum(end**2) - jnp.sum(momentum**2))
        state, acceptance, accepted = metropolis(key_accept, log_ratio, proposal, state)
        return state, Info(acceptance, accepted, ~(log_ratio > -LOST), self.num_steps, energy)

    def leapfrog(
        self, state: State, momentum: Float[Array, " d"], step_size: Float[Array, ""]
    ) -> tuple[State, Float[Array, " d"]]:
        """The end of the path that starts at a state with a momentum."""

        def once(_: Array, at: tuple[State, Array]) -> tuple[State, Array]:
            return leapfrog.leapfrog(self.log_density, given("scale", self.scale), step_size, *at)

        return lax.fori_loop(0, self.num_steps, once, (state, momentum))
