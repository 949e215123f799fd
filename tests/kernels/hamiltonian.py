"""The kernels that follow paths of constant energy, and what breaks them."""

from typing import Any

import jax
import jax.numpy as jnp

from variate.mcmc import HMC, NUTS
from variate.mcmc.hamiltonian import hmc, leapfrog, nuts

from .law import SCALE, TRIANGLE, Law, always, backwards, log_density


class HalfKick(HMC):
    """The last half step of the momentum is missing, so the path is not reversible."""

    def leapfrog(self, state: Any, momentum: jax.Array, step_size: jax.Array) -> tuple:
        end, after = HMC.leapfrog(self, state, momentum, step_size)
        return end, after - 0.5 * step_size * self.scale * end.gradient


class WrongStride(HMC):
    """Position and momentum move by different scales, so volume and energy are not kept together."""

    def leapfrog(self, state: Any, momentum: jax.Array, step_size: jax.Array) -> tuple:
        end, after = HMC.leapfrog(self, state, momentum, step_size)
        return leapfrog.at(self.log_density, 1.1 * end.position), after


class Eager(NUTS):
    """The new half is always preferred to the old one, whatever they weigh."""

    def _grown(self, key: jax.Array, path: Any, energy: jax.Array) -> Any:
        after = NUTS._grown(self, key, path, energy)
        done = after.doublings > path.doublings
        chosen = jax.tree.map(lambda new, old: jnp.where(done, new, old), after.half.state, after.chosen)
        return after._replace(chosen=chosen)


class Last(NUTS):
    """The last state of the new half stands for it."""

    def _grown(self, key: jax.Array, path: Any, energy: jax.Array) -> Any:
        after = NUTS._grown(self, key, path, energy)
        return after._replace(half=after.half._replace(state=after.end[0]))


LAWS = {
    "hmc": Law(
        HMC(0.5, 4, SCALE, log_density=log_density),
        hmc,
        {"no accept step": always, "the ratio upside down": backwards},
        {
            "no last half step": HalfKick(0.5, 4, SCALE, log_density=log_density),
            "a path that stretches": WrongStride(0.5, 4, SCALE, log_density=log_density),
        },
    ),
    "nuts": Law(
        NUTS(0.5, TRIANGLE, log_density=log_density),
        nuts,
        {},
        {
            "the new half whatever it weighs": Eager(0.5, SCALE, log_density=log_density),
            "the last state of a half": Last(0.5, SCALE, log_density=log_density),
        },
    ),
}
