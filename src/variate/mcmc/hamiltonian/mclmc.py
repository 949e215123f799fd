"""Microcanonical Langevin Monte Carlo: one gradient a step and none refused, at the price of a bias."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from variate.checks import check_fraction
from variate.mcmc.base import LogDensity, Scale, check_scale, given, unbound

from . import isokinetic, leapfrog
from .leapfrog import LOST


class State(NamedTuple):
    position: Float[Array, " d"]
    log_density: Float[Array, ""]
    gradient: Float[Array, " d"]
    direction: Float[Array, " d"]


class EnergyInfo(NamedTuple):
    """`Info` of a step that is not refused, and its log ratio, whose variance tells how wrong it is to refuse none."""

    acceptance: Float[Array, ""]  # with which the step would have been, were there a decision
    accepted: Bool[Array, ""]
    divergent: Bool[Array, ""]
    log_ratio: Float[Array, ""]
    evaluations: int = 1


class MCLMC(eqx.Module):
    r"""Microcanonical Langevin Monte Carlo, without a decision: its draws are biased by its step size.

    A step of size $\epsilon$ of `MAMS`'s path, before and after which the direction is drawn from around itself:
    $u' = (u + \nu z) / |u + \nu z|$, $\nu^2 = (e^{\epsilon / L} - 1) / d$, z standard normal. In the limit of
    $\epsilon \to 0$ it leaves $\pi$ invariant for every L; at any other step size it leaves another density invariant,
    and no error bar tells how far off that is. It is refused unless `allow_bias`.

    Choose it where a bias does not matter: for a first look, or in very many dimensions to bring other kernels on
    their way. The wrong choice for every number that is to be believed: `MAMS` follows the same paths. `vt.sample`
    finds the step size and the scale if they are left out.

    Raises:
        TypeError: unless `allow_bias`.
        ValueError: a step size, length or scale that is not positive, an acceptance that is not between 0 and 1, or a
            position of one coordinate, which leaves no direction to turn to.

    Source: Robnik, De Luca, Silverstein and Seljak (2023), Microcanonical Hamiltonian Monte Carlo, JMLR 24(311), 1-34.
    """

    step_size: float | Float[Array, ""] | None = None  # epsilon, in units of S
    length: float | Float[Array, ""] = 1.0  # L, after which the direction is forgotten, in the same units
    scale: Scale | None = None  # S: about the standard deviation of each coordinate, or a lower triangle
    acceptance: float = eqx.field(static=True, default=0.95)  # at which a step size is aimed that is to be found
    allow_bias: bool = eqx.field(static=True, default=False, kw_only=True)
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        if not self.allow_bias:
            raise TypeError(
                "MCLMC neither accepts nor rejects, so that its draws are biased by an amount that no error bar tells; "
                "MAMS is the same without the bias, and allow_bias=True the way to insist"
            )
        for name in ("step_size", "length", "scale"):
            check_scale(name, getattr(self, name))
        check_fraction("acceptance", self.acceptance)

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        isokinetic.check_dimension(position)
        return State(*leapfrog.at(self.log_density, position), isokinetic.direction(key, position))

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, EnergyInfo]:
        key_before, key_after, key_lost = jax.random.split(key, 3)
        step_size, scale = given("step_size", self.step_size), given("scale", self.scale)
        start = leapfrog.State(state.position, state.log_density, state.gradient)
        u = self.refreshed(key_before, state.direction)
        end, u, log_volume = isokinetic.isokinetic(self.log_density, scale, step_size, start, u)
        log_ratio = end.log_density - start.log_density + log_volume
        lost = ~(log_ratio > -LOST)
        # From where nothing is known a new direction may lead away.
        after = State(*end, self.refreshed(key_after, u))
        stayed = State(*start, isokinetic.direction(key_lost, state.position))
        state = jax.tree.map(lambda new, old: jnp.where(lost, old, new), after, stayed)
        log_ratio = jnp.where(lost, -jnp.inf, log_ratio)
        return state, EnergyInfo(jnp.exp(jnp.minimum(log_ratio, 0)), ~lost, lost, log_ratio)

    def refreshed(self, key: Key[Array, ""], u: Float[Array, " d"]) -> Float[Array, " d"]:
        """The direction after half a step of forgetting."""
        nu = jnp.sqrt(jnp.expm1(given("step_size", self.step_size) / jnp.asarray(self.length, u.dtype)) / len(u))
        u = u + nu * jax.random.normal(key, u.shape, u.dtype)
        return u / jnp.linalg.norm(u)
