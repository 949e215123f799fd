"""Delayed rejection: a random walk that tries a shorter step before it stays."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from variate.checks import check_fraction

from .base import Info, LogDensity, Scale, check_scale, given, metropolis, stretched, unbound
from .random_walk import State


class DelayedRejection(eqx.Module):
    r"""A random walk that, where $y_1 = x + S z_1$ is rejected, proposes $y_2 = x + \gamma S z_2$ before it stays.

    The first is accepted with probability $\alpha_1(x, y_1) = \min(1, \pi(y_1) / \pi(x))$, the second with

    $$\alpha_2 = \min\left(1, \frac{\pi(y_2)\, \phi(S^{-1}(y_1 - y_2))\, (1 - \alpha_1(y_2, y_1))}
    {\pi(x)\, \phi(S^{-1}(y_1 - x))\, (1 - \alpha_1(x, y_1))}\right),$$

    $\phi$ the normal density, which leaves $\pi$ invariant for every S and $\gamma$. `acceptance` is that either is.

    Choose it where there is no gradient and no single scale is right everywhere, as in a funnel or near edges: the
    first is for the wide parts, the second for the narrow. The wrong choice where one scale is right: the two densities
    of a step then buy less than two steps of `RandomWalk`.

    Raises:
        ValueError: a scale that is not positive, or a reduction that is not between 0 and 1.

    Sources: Tierney and Mira (1999), Some adaptive Monte Carlo methods for Bayesian inference, Statistics in Medicine
    18, 2507-2515, section 3; Mira (2001), On Metropolis-Hastings algorithms with delayed rejection, Metron 59, 231-241.
    """

    scale: Scale | None = None  # S: of the first proposal, in the units of the position, or a lower triangle
    reduction: float = eqx.field(static=True, default=0.2)  # gamma
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        check_scale("scale", self.scale)
        check_fraction("reduction", self.reduction)

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        return State(position, self.log_density(position))

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_moves, key_first, key_second, key_a, key_b = jax.random.split(key, 5)
        z1, z2 = jax.random.normal(key_moves, (2, *state.position.shape), state.position.dtype)
        scale = given("scale", self.scale)
        first = self.init(key_a, state.position + stretched(scale, z1))
        second = self.init(key_b, state.position + self.reduction * stretched(scale, z2))
        after, alpha, accepted = metropolis(key_first, first.log_density - state.log_density, first, state)
        there, back = jnp.sum(z1**2), jnp.sum((z1 - self.reduction * z2) ** 2)
        log_ratio = second_ratio(state.log_density, first.log_density, second.log_density, there, back)
        last, beta, moved = metropolis(key_second, log_ratio, second, state)
        state = jax.tree.map(lambda x, y: jnp.where(accepted, x, y), after, last)
        lost = jnp.isnan(first.log_density - state.log_density) | jnp.isnan(second.log_density)
        return state, Info(alpha + (1 - alpha) * beta, accepted | moved, lost, 2)


def second_ratio(
    now: Float[Array, ""],
    first: Float[Array, ""],
    second: Float[Array, ""],
    there: Float[Array, ""],
    back: Float[Array, ""],
) -> Float[Array, ""]:
    """The log ratio of the second proposal: log densities, and squared distances to the first, in units of S."""
    return second - now - 0.5 * (back - there) + _rejected(first - second) - _rejected(first - now)


def _rejected(log_ratio: Float[Array, ""]) -> Float[Array, ""]:
    """The logarithm of the probability to be rejected, of a ratio that is no number 0."""
    below = jnp.where(log_ratio < 0, log_ratio, -jnp.inf)
    return jnp.where(log_ratio >= 0, -jnp.inf, jnp.log(-jnp.expm1(below)))
