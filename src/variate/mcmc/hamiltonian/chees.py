"""Hamiltonian Monte Carlo for many chains, which together find how long their paths should be."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from variate.mcmc.adaptation.trajectory import PathLength
from variate.mcmc.base import Info, LogDensity, Scale, given, metropolis, unbound

from . import leapfrog, paths
from .leapfrog import LOST


class ChEES(eqx.Module):
    r"""Hamiltonian Monte Carlo with paths of length $u_n T$, of which all chains together find the T that is best.

    A path from (x, p), $p \sim N(0, I)$ in coordinates $S^{-1} x$, is $\lceil u_n T / \epsilon \rceil$ leapfrog steps
    long and its end is accepted with probability $\min(1, e^{-\Delta H})$, which leaves $\pi$ invariant for every
    $\epsilon$, T and S. The $u_n$ fill [0, 1] evenly and are the same for all chains. T is where
    $\frac14 E[(|x' - m|^2 - |x - m|^2)^2]$ is largest, m the mean and x' the end of the path that starts at x, both in
    coordinates $S^{-1} x$: found by stochastic ascent in the warm-up, as the step size and the scale are.

    Choose it over `NUTS` for many chains at once: no chain waits for the longest path of all, and the more chains, the
    better T is known. The wrong choice where paths should be of different lengths in different places, as in funnels,
    and for densities with edges inside of their support.

    Raises:
        ValueError: a step size, length or scale that is not positive, no steps, or an acceptance that is not between 0
            and 1.

    Source: Hoffman, Radul and Sountsov (2021), An adaptive-MCMC scheme for setting trajectory lengths in Hamiltonian
    Monte Carlo, AISTATS, PMLR 130, 3907-3915.
    """

    step_size: float | Float[Array, ""] | None = None  # epsilon, in units of S
    length: float | Float[Array, ""] | None = None  # T, of the longest path, in the same units
    scale: Scale | None = None  # S: about the standard deviation of each coordinate, or a lower triangle
    max_steps: int | Int[Array, ""] = 1_000  # of a path
    acceptance: float = eqx.field(static=True, default=0.7)  # at which a step size is aimed that is to be found
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        paths.check(self)

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> paths.State:
        return paths.begun(self.log_density, position)

    def step(self, key: Key[Array, ""], state: paths.State) -> tuple[paths.State, Info]:
        key_momentum, key_accept = jax.random.split(key)
        length, step_size = given("length", self.length), given("step_size", self.step_size)
        share, steps = paths.planned(state.share, length, step_size, self.max_steps)
        momentum = jax.random.normal(key_momentum, state.position.shape, state.position.dtype)
        start = leapfrog.State(state.position, state.log_density, state.gradient)
        proposal, end = self.path(start, momentum, steps)
        log_ratio = proposal.log_density - state.log_density - 0.5 * (jnp.sum(end**2) - jnp.sum(momentum**2))
        kept, acceptance, accepted = metropolis(key_accept, log_ratio, proposal, start)
        state = paths.State(*kept, share, proposal.position, end)
        return state, Info(acceptance, accepted, ~(log_ratio > -LOST), steps)

    def path(
        self, start: leapfrog.State, momentum: Float[Array, " d"], steps: Int[Array, ""]
    ) -> tuple[leapfrog.State, Float[Array, " d"]]:
        """The end of the path that starts at a state with a momentum."""
        step_size, scale = given("step_size", self.step_size), given("scale", self.scale)

        def once(_: Array, at: tuple[leapfrog.State, Array]) -> tuple[leapfrog.State, Array]:
            return leapfrog.leapfrog(self.log_density, scale, step_size, *at)

        return lax.fori_loop(0, steps, once, (start, momentum))

    def learner(self, dimension: int, dtype: Any) -> PathLength | None:
        """What finds the length while chains warm up."""
        return PathLength.begin(dimension, dtype, self.max_steps) if self.length is None else None
