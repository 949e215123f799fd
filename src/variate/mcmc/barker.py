"""Barker's proposal: the gradient decides to which side each coordinate goes, never how far."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from variate.checks import check_fraction

from .base import Info, LogDensity, Scale, check_scale, given, metropolis, pulled, stretched, unbound
from .hamiltonian.leapfrog import State, at


class Barker(eqx.Module):
    r"""Barker's proposal: $x' = x + \epsilon S\, (b \odot z)$, z standard normal and b = ±1.

    $b_i$ is +1 with probability $1 / (1 + e^{-z_i c_i})$, where $c = \epsilon S^\top \nabla \log \pi(x)$. It accepts,
    with $w = b \odot z$ and $c'$ of the proposal, with probability $\min(1, \frac{\pi(x')}{\pi(x)} \prod_i \frac{1 +
    e^{-w_i c_i}}{1 + e^{w_i c'_i}})$, which leaves $\pi$ invariant for every $\epsilon$ and S.

    Choose it where the scales are not known well, or the gradient is wild: no step is longer than the noise, so one
    that is too large costs no more than it costs a random walk. The wrong choice where the scales are known: `MALA`
    then has more of every gradient, and `HMC` and `NUTS` still more.

    Raises:
        ValueError: a step size or scale that is not positive, or an acceptance that is not between 0 and 1.

    Source: Livingstone and Zanella (2022), The Barker proposal: combining robustness and efficiency in gradient-based
    MCMC, J. R. Stat. Soc. B 84(2), 496-523, algorithms 1 and 2.
    """

    step_size: float | Float[Array, ""] | None = None  # epsilon, in units of S
    scale: Scale | None = None  # S: about the standard deviation of each coordinate, or a lower triangle
    acceptance: float = eqx.field(static=True, default=0.4)  # at which a step size is aimed that is to be found
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        check_scale("step_size", self.step_size)
        check_scale("scale", self.scale)
        check_fraction("acceptance", self.acceptance)

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        return at(self.log_density, position)

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_noise, key_side, key_accept, key_init = jax.random.split(key, 4)
        step_size, scale = given("step_size", self.step_size), given("scale", self.scale)
        noise = jax.random.normal(key_noise, state.position.shape, state.position.dtype)
        slope = step_size * pulled(scale, state.gradient)
        onward = jax.random.uniform(key_side, noise.shape, noise.dtype) < jax.nn.sigmoid(noise * slope)
        move = jnp.where(onward, noise, -noise)
        proposal = self.init(key_init, state.position + step_size * stretched(scale, move))
        back = step_size * pulled(scale, proposal.gradient)
        sides = _softplus_difference(-move * slope, move * back)
        log_ratio = proposal.log_density - state.log_density + jnp.sum(sides)
        state, acceptance, accepted = metropolis(key_accept, log_ratio, proposal, state)
        return state, Info(acceptance, accepted, jnp.isnan(log_ratio))


def _softplus_difference(a: Float[Array, " d"], b: Float[Array, " d"]) -> Float[Array, " d"]:
    """log((1 + e^a) / (1 + e^b)) by one logarithm, for it is what a step costs most beside its gradient."""
    ratio = (1 + jnp.exp(-jnp.abs(a))) / (1 + jnp.exp(-jnp.abs(b)))
    return jnp.maximum(a, 0) - jnp.maximum(b, 0) + jnp.log(ratio)
