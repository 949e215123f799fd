"""The kernels that follow paths of constant energy, and what breaks them."""

from typing import Any

import jax
import jax.numpy as jnp

from variate.mcmc import HMC, MAMS, NUTS, ChEES
from variate.mcmc.hamiltonian import chees, hmc, leapfrog, mams, nuts

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


class Wary(ChEES):
    """Its paths are as long as the place from which they start has it."""

    def step(self, key: jax.Array, state: Any) -> tuple:
        length = jnp.exp(state.position[2])
        return ChEES(self.step_size, length, self.scale, log_density=self.log_density).step(key, state)


class NoVolume(MAMS):
    """Paths draw together and apart, which its ratio does not know."""

    def path(self, start: Any, u: jax.Array, steps: jax.Array) -> tuple:
        *end, log_volume = MAMS.path(self, start, u, steps)
        return *end, 0 * log_volume


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
    "chees": Law(
        ChEES(0.5, 3.0, SCALE, log_density=log_density),
        chees,
        {"no accept step": always},
        {"a length of its own position": Wary(0.5, 3.0, SCALE, log_density=log_density)},
    ),
    "mams": Law(
        MAMS(0.7, 3.0, TRIANGLE, log_density=log_density),
        mams,
        {"the ratio upside down": backwards},
        {"no change of volume": NoVolume(0.7, 3.0, TRIANGLE, log_density=log_density)},
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

REFUSED: list[tuple[Any, str]] = [
    (lambda: ChEES(0.1, 0.0), "length must be positive and finite, got 0.0"),
    (lambda: ChEES(0.1, max_steps=0), "max_steps must be a positive integer"),
    (lambda: ChEES(acceptance=1.0), "acceptance must be between 0 and 1"),
    (lambda: MAMS(-0.1), "step_size must be positive and finite, got -0.1"),
    (lambda: MAMS(0.1, 1.0, -jnp.eye(2)), "scale must be positive and finite"),
    (lambda: MAMS(log_density=log_density).init(jax.random.key(0), jnp.zeros(1)), "two coordinates or more, got 1"),
]
