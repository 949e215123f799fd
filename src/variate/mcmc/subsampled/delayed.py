"""Delayed acceptance: Langevin steps that look at no data, and all data only where they lead."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from variate.checks import check_fraction, check_positive, check_positive_int
from variate.mcmc.base import Scale, check_scale, metropolis, unbound
from variate.mcmc.mala import MALA

from .control import Control, check_center
from .sum import Parts


class State(NamedTuple):
    position: Float[Array, " d"]
    log_density: Float[Array, ""]
    control: Control


class Info(NamedTuple):
    """What a step tells of both stages."""

    acceptance: Float[Array, ""]  # of the first, a mean over its steps
    accepted: Bool[Array, ""]  # by both
    divergent: Bool[Array, ""]
    evaluations: Int[Array, ""]
    second: Float[Array, ""]  # the probability of the second; 0 where nothing came to it


class DelayedAcceptance(eqx.Module):
    r"""Langevin steps on a surrogate s of a `Sum`, whose end x' the full sum accepts or not.

    It does with probability $\min(1, \pi(x')\, s(x) / \pi(x)\, s(x'))$.
    With the sums g and H of the first and second derivatives of all items at the center c, known once for all steps,

    $$\log s(x) = \log p(x) + g \cdot (x - c) - \frac{\nu + d}{2} \log\left(1 + \frac{q}{\nu + d}\right), \quad
    q = -(x - c)^\top H\, (x - c),$$

    is the log posterior up to the second order, with the tails of Student's law of $\nu$ degrees: where the sum is
    log-concave, $\pi / s$ is bounded, and no place far out holds the chain, as a normal surrogate's would. A step is so
    many `steps` of `MALA` on s, which look at no item and are reversible with respect to s; so the chain is reversible
    with respect to the full posterior for all c, $\nu$, steps, $\epsilon$ and S. With one step it is delayed
    acceptance: a proposal that fails by s is never looked at by the sum.

    `evaluations` counts items: n, if any step of the first stage was accepted, else 0. Chains that run together all
    wait for the sum if one of them needs it; with several steps nearly all need it. `acceptance` is that of the first
    stage, at which a step size is aimed; the second is told as `second`, and says how good the surrogate is.

    Choose it for many items, with the mode as the center, where the posterior is nearly normal: with ten steps or more
    one look at the data is worth nearly as much as an independent draw. The wrong choice where it is not; for few items
    (`NUTS`); and in many dimensions, where the surrogate is off everywhere and H is dear.

    Raises:
        ValueError: no center, or none that is finite; degrees, a step size or scale that is not positive, steps that
            are no positive integer, or an acceptance that is not between 0 and 1.
        TypeError: while it runs, a target that is no `Sum`.

    Sources: Christen and Fox (2005), Markov chain Monte Carlo using an approximation, J. Comput. Graph. Stat. 14(4),
    795-810, section 2; several steps: Liu (2001), Monte Carlo strategies in scientific computing, section 9.4.3, the
    surrogate transition; many data: Banterle, Grazian, Lee and Robert (2019), Accelerating Metropolis-Hastings
    algorithms by delayed acceptance, Foundations of Data Science 1(2), 103-128.
    """

    center: PyTree  # c: a position, best the mode
    steps: int = eqx.field(static=True, default=1)  # of the first stage
    degrees: float = eqx.field(static=True, default=30.0)  # nu
    step_size: float | Float[Array, ""] | None = eqx.field(default=None, kw_only=True)  # epsilon, in units of S
    scale: Scale | None = eqx.field(default=None, kw_only=True)  # S: of each coordinate, or a lower triangle
    acceptance: float = eqx.field(static=True, default=0.574, kw_only=True)  # of the first stage, aimed at
    log_density: Any = eqx.field(default=unbound, kw_only=True)  # a Sum

    def __check_init__(self) -> None:
        check_center(self.center, 2, (2,))
        check_positive_int("steps", self.steps)
        check_positive("degrees", self.degrees)
        check_scale("step_size", self.step_size)
        check_scale("scale", self.scale)
        check_fraction("acceptance", self.acceptance)

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        parts = Parts.of(self.log_density)
        return State(position, whole(parts, position), Control.about(parts, self.center, 2))

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_begin, key_first, key_second = jax.random.split(key, 3)
        parts, control = Parts.of(self.log_density), state.control

        first = MALA(self.step_size, self.scale, log_density=lambda x: parts.prior(x) + self._known(control, x))
        begun = first.init(key_begin, state.position)
        keys = jax.random.split(key_first, self.steps)
        end, told = lax.scan(lambda at, key: first.step(key, at), begun, keys)
        passed = jnp.any(told.accepted)
        # A loop and no branch: of chains that run together, both sides of a branch are computed always.
        _, log_density = lax.while_loop(
            lambda at: at[0], lambda _: (jnp.zeros((), bool), whole(parts, end.position)), (passed, state.log_density)
        )
        log_ratio = log_density - state.log_density - (end.log_density - begun.log_density)
        proposal = State(end.position, log_density, control)
        state, second, accepted = metropolis(key_second, log_ratio, proposal, state)
        lost = jnp.any(told.divergent) | jnp.isnan(log_ratio)
        items = jnp.where(passed, parts.size, 0)
        return state, Info(
            jnp.mean(told.acceptance), accepted & passed, lost, items, jnp.where(passed, second, jnp.zeros_like(second))
        )

    def _known(self, control: Any, x: Float[Array, " d"]) -> Float[Array, ""]:
        """What takes the place of the sum."""
        away, degrees = x - control.center, self.degrees + x.size
        q = -away @ control.hessian @ away
        return control.gradient @ away - 0.5 * degrees * jnp.log1p(q / degrees)


def whole(parts: Parts, x: Float[Array, " d"]) -> Float[Array, ""]:
    """The log density by all items."""
    return parts.prior(x) + jnp.sum(parts.items(x))
