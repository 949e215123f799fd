"""Microcanonical Monte Carlo, corrected by Metropolis: proposals from afar, along paths of constant speed."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from variate.mcmc.adaptation.trajectory import PathLength
from variate.mcmc.base import Info, LogDensity, Scale, given, metropolis, unbound

from . import isokinetic, leapfrog, paths
from .leapfrog import LOST


class MAMS(eqx.Module):
    r"""The Metropolis-adjusted microcanonical sampler: paths of constant speed, turned by the gradient.

    From a direction u that is uniform on the sphere, in coordinates $y = S^{-1} x$ a path follows
    $\dot y = \sqrt d\, u$, $\dot u = \sqrt d\, (I - u u^\top) \nabla \log \pi / (d - 1)$ for
    $\lceil u_n T / \epsilon \rceil$ steps. Its end x' is accepted with probability
    $\min(1, \pi(x')\, |\partial(x', u') / \partial(x, u)| / \pi(x))$, which leaves $\pi$ invariant for every
    $\epsilon$, T and S. The $u_n$ and T are those of `ChEES`.

    Choose it for smooth targets of two coordinates or more, the more the better: all paths go equally fast, whatever
    their energy. The wrong choice where paths should be of different lengths in different places, as in funnels, and
    for densities with edges inside of their support.

    Raises:
        ValueError: a step size, length or scale that is not positive, no steps, an acceptance that is not between 0 and
            1, or a position of one coordinate, which leaves no direction to turn to.

    Source: Robnik, Cohn-Gordon and Seljak (2025), Metropolis adjusted microcanonical Hamiltonian Monte Carlo,
    arXiv:2503.01707.
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
        isokinetic.check_dimension(position)
        return paths.begun(self.log_density, position)

    def step(self, key: Key[Array, ""], state: paths.State) -> tuple[paths.State, Info]:
        key_direction, key_accept = jax.random.split(key)
        length, step_size = given("length", self.length), given("step_size", self.step_size)
        share, steps = paths.planned(state.share, length, step_size, self.max_steps)
        u = isokinetic.direction(key_direction, state.position)
        start = leapfrog.State(state.position, state.log_density, state.gradient)
        proposal, u, log_volume = self.path(start, u, steps)
        log_ratio = proposal.log_density - state.log_density + log_volume
        kept, acceptance, accepted = metropolis(key_accept, log_ratio, proposal, start)
        state = paths.State(*kept, share, proposal.position, len(u) ** 0.5 * u)
        return state, Info(acceptance, accepted, ~(log_ratio > -LOST), steps)

    def path(
        self, start: leapfrog.State, u: Float[Array, " d"], steps: Int[Array, ""]
    ) -> tuple[leapfrog.State, Float[Array, " d"], Float[Array, ""]]:
        """The end of the path that starts at a state with a direction, and the logarithm of its change of volume."""
        step_size, scale = given("step_size", self.step_size), given("scale", self.scale)

        def once(_: Array, at: tuple[leapfrog.State, Array, Array]) -> tuple[leapfrog.State, Array, Array]:
            after, u, log_volume = isokinetic.isokinetic(self.log_density, scale, step_size, *at[:2])
            return after, u, at[2] + log_volume

        return lax.fori_loop(0, steps, once, (start, u, jnp.zeros_like(start.log_density)))

    def learner(self, dimension: int, dtype: Any) -> PathLength | None:
        """What finds the length while chains warm up."""
        return PathLength.begin(dimension, dtype, self.max_steps) if self.length is None else None
