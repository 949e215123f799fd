"""Langevin's proposal, corrected by Metropolis: a step up the gradient, and noise."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from variate.checks import check_fraction

from .base import Info, LogDensity, Scale, check_scale, given, metropolis, pulled, stretched, unbound
from .hamiltonian.leapfrog import State, at


class MALA(eqx.Module):
    r"""The Metropolis-adjusted Langevin algorithm: proposes $x' = x + \epsilon^2 S S^\top \nabla / 2 + \epsilon S z$.

    $\nabla = \nabla \log \pi(x)$, z standard normal. It accepts with the probability of Metropolis and Hastings,
    $\min(1, \pi(x')\, q(x \mid x') / \pi(x)\, q(x' \mid x))$, which leaves $\pi$ invariant for every $\epsilon$ and S.
    It is `HMC` with one leapfrog step. In d dimensions the best $\epsilon$ shrinks like $d^{-1/6}$, and 0.57 of its
    proposals are accepted.

    Choose it where a gradient is dear and d large but the target smooth. The wrong choice for tails lighter than
    normal ones, where the gradient throws it far out and it stays where it is for long (`Barker` does not); elsewhere
    `HMC` or `NUTS` go further for a gradient.

    Raises:
        ValueError: a step size or scale that is not positive, or an acceptance that is not between 0 and 1.

    Sources: Roberts and Tweedie (1996), Exponential convergence of Langevin distributions and their discrete
    approximations, Bernoulli 2(4), 341-363, section 1.4; Roberts and Rosenthal (1998), Optimal scaling of discrete
    approximations to Langevin diffusions, J. R. Stat. Soc. B 60(1), 255-268, for the best step.
    """

    step_size: float | Float[Array, ""] | None = None  # epsilon, in units of S
    scale: Scale | None = None  # S: about the standard deviation of each coordinate, or a lower triangle
    acceptance: float = eqx.field(static=True, default=0.574)  # at which a step size is aimed that is to be found
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        check_scale("step_size", self.step_size)
        check_scale("scale", self.scale)
        check_fraction("acceptance", self.acceptance)

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        return at(self.log_density, position)

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_noise, key_accept, key_init = jax.random.split(key, 3)
        step_size, scale = given("step_size", self.step_size), given("scale", self.scale)
        noise = jax.random.normal(key_noise, state.position.shape, state.position.dtype)
        move = noise + 0.5 * step_size * pulled(scale, state.gradient)
        proposal = self.init(key_init, state.position + step_size * stretched(scale, move))
        back = move + 0.5 * step_size * pulled(scale, proposal.gradient)  # less the noise that leads from x' to x
        log_ratio = proposal.log_density - state.log_density - 0.5 * (jnp.sum(back**2) - jnp.sum(noise**2))
        state, acceptance, accepted = metropolis(key_accept, log_ratio, proposal, state)
        return state, Info(acceptance, accepted, jnp.isnan(log_ratio))
