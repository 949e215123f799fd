"""Differential evolution: each walker by the difference of two others, sometimes from mode to mode."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from variate.checks import check_fraction

from ..base import LogDensity, check_scale, unbound
from .base import Info, State, check_walkers, in_turn, scattered


class DifferentialEvolution(eqx.Module):
    r"""An ensemble of walkers, each of which moves by the difference of two others: $x' = x + \gamma (x_a - x_b) + e$.

    $x_a \ne x_b$ are any two walkers of the other half of the ensemble and $e \sim N(0, b^2)$ is little noise, so that
    no place is left out; accepted with probability $\min(1, \pi(x') / \pi(x))$. Halves move in turn. $\gamma$ is
    $2.38 / \sqrt{2 d}$, the best for a normal law, and now and then 1: where walkers are in several modes, that goes
    from one to another. It leaves $\prod_k \pi(x_k)$ invariant.

    A chain is an ensemble, as of `Stretch`, and so are error bars. Choose it where coordinates depend on each other,
    without a gradient; for each step it is a `RandomWalk` whose scale is known. The wrong choice where a gradient is to
    be had, and for fewer walkers than twice the coordinates.

    Raises:
        ValueError: a noise or a spread that is not positive, a share of jumps that is not between 0 and 1, fewer than
            four walkers or an odd number; while it runs, fewer than twice the coordinates.

    Source: ter Braak (2006), A Markov chain Monte Carlo version of the genetic algorithm differential evolution, Stat.
    Comput. 16, 239-249, equations 2 and 3.
    """

    noise: float = 1e-4  # b, small beside the target, in the units of the position
    jumps: float = eqx.field(static=True, default=0.1)  # the share of steps by the whole difference
    walkers: int = eqx.field(static=True, default=32)
    spread: float = 0.1  # of the walkers about a start, in the units of the position
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        check_walkers(self.walkers)
        check_scale("spread", self.spread)
        check_scale("noise", self.noise)
        check_fraction("jumps", self.jumps)

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        return scattered(key, position, self.walkers, self.spread, self.log_density)

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        return in_turn(key, state, self.log_density, self._propose)

    def _propose(
        self, key: Key[Array, ""], x: Float[Array, " d"], others: Float[Array, "others d"]
    ) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        key_pair, key_jump, key_noise = jax.random.split(key, 3)
        jump = jax.random.bernoulli(key_jump, self.jumps)
        gamma = jnp.where(jump, 1, 2.38 / (2 * x.size) ** 0.5).astype(x.dtype)
        noise = self.noise * jax.random.normal(key_noise, x.shape, x.dtype)
        return x + gamma * difference(key_pair, others) + noise, jnp.zeros((), x.dtype)


def difference(key: Key[Array, ""], others: Float[Array, "others d"]) -> Float[Array, " d"]:
    """Of two that are not the same, in any order."""
    key_first, key_second = jax.random.split(key)
    first = jax.random.randint(key_first, (), 0, len(others))
    second = (first + jax.random.randint(key_second, (), 1, len(others))) % len(others)
    return others[first] - others[second]
