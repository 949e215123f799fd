"""The stretch move: each walker along the line to another, by nothing but densities and whatever the scales are."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..base import LogDensity, check_scale, unbound
from .base import Info, State, check_walkers, in_turn, scattered


class Stretch(eqx.Module):
    r"""An ensemble of walkers, each of which moves along the line through another: $x' = x_j + z (x - x_j)$.

    $x_j$ is any walker of the other half of the ensemble and z has the density $g(z) \propto 1 / \sqrt z$ on
    $[1 / a, a]$; the move is accepted with probability $\min(1, z^{d - 1} \pi(x') / \pi(x))$. Halves move in turn. It
    leaves $\prod_k \pi(x_k)$ invariant, and does the same on every affine image of $\pi$: no scale is to be found.

    A chain is an ensemble: `vt.sample` keeps the draws of all walkers, which depend on each other, so that error bars,
    effective draws and R-hat are those of independent ensembles. Its walkers begin about one start.

    Choose it for a few coordinates of very different scales, without a gradient. The wrong choice beyond ten or
    twenty, where it needs more and more steps and can stand still a long way off; and where a gradient is to be had.

    Raises:
        ValueError: an a that is not above 1, a spread that is not positive, fewer than four walkers or an odd number;
            while it runs, fewer than twice the coordinates.

    Source: Goodman and Weare (2010), Ensemble samplers with affine invariance, Comm. App. Math. Comp. Sci. 5(1), 65-80,
    equations 7 to 10; Foreman-Mackey, Hogg, Lang and Goodman (2013), emcee: the MCMC hammer, PASP 125(925), 306-312.
    """

    a: float = 2.0  # how far to go at most
    walkers: int = eqx.field(static=True, default=32)
    spread: float = 0.1  # of the walkers about a start, in the units of the position
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        check_walkers(self.walkers)
        check_scale("spread", self.spread)
        check_scale("a - 1", self.a - 1)

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        return scattered(key, position, self.walkers, self.spread, self.log_density)

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        return in_turn(key, state, self.log_density, self._propose)

    def _propose(
        self, key: Key[Array, ""], x: Float[Array, " d"], others: Float[Array, "others d"]
    ) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        key_other, key_z = jax.random.split(key)
        other = others[jax.random.randint(key_other, (), 0, len(others))]
        z = ((self.a - 1) * jax.random.uniform(key_z, dtype=x.dtype) + 1) ** 2 / self.a
        return other + z * (x - other), log_factor(z, x.size)


def log_factor(z: Float[Array, ""], dimension: int) -> Float[Array, ""]:
    """Of the volume, along a line from a point of which distances grow by z."""
    return (dimension - 1) * jnp.log(z)
