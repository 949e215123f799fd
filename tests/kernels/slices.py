"""The kernels that slice, and what breaks them."""

from typing import Any

import jax
import jax.numpy as jnp

from variate.mcmc import EllipticalSlice, HitAndRun, Slice
from variate.mcmc.slices import slicing

from .law import SCALE, TRIANGLE, Law, log_density


def flat(key: jax.Array, log_density: jax.Array) -> jax.Array:
    return log_density - 0.5


def rough(log_density: jax.Array, level: jax.Array) -> jax.Array:
    return log_density >= level - 0.3


def leftwards(key: jax.Array, curve: Any, level: jax.Array, most: int) -> tuple:
    """All steps are those of the left end, so that brackets that stop short lie to the left."""
    place = jax.random.uniform(key, dtype=level.dtype)
    low = jnp.where(slicing.inside(curve(-place), level), -place - (most - 1), -place)
    return jnp.stack([low, 1 - place]), jnp.asarray(False), jnp.asarray(1, jnp.int32)


class Uneven(Slice):
    """Its brackets are longer on one side of the target than on the other."""

    def step(self, key: jax.Array, state: Any) -> tuple:
        return Slice(jnp.where(state.position > 0, 3.0, 0.3), 1, log_density=self.log_density).step(key, state)


class Downhill(HitAndRun):
    """Its direction knows where it is, and the way back does not."""

    def step(self, key: jax.Array, state: Any) -> tuple:
        scale = jnp.exp(-0.5 * state.position)
        return HitAndRun(scale, 3, log_density=self.log_density).step(key, state)


class Squashed(EllipticalSlice):
    """Its normal factor is narrower than the one from which the ellipse comes."""

    def init(self, key: jax.Array, position: jax.Array) -> Any:
        state = EllipticalSlice.init(self, key, position)
        return state._replace(white=0.8 * state.white)


LAWS = {
    "slice": Law(
        Slice(SCALE, 4, log_density=log_density),
        slicing,
        {"points off the slice": rough},
        {"brackets that know where they are": Uneven(1.0, log_density=log_density)},
        rule="inside",
    ),
    "slice of short brackets": Law(
        Slice(SCALE, 2, log_density=log_density), slicing, {"steps to one side": leftwards}, {}, rule="widen"
    ),
    "hit and run": Law(
        HitAndRun(SCALE, 4, log_density=log_density),
        slicing,
        {"a height that is not drawn": flat},
        {"directions that know where they are": Downhill(1.0, log_density=log_density)},
        rule="below",
    ),
    "elliptical slice": Law(
        EllipticalSlice(TRIANGLE, jnp.array([0.3, 0.0, 0.5]), log_density=log_density),
        slicing,
        {"a height that is not drawn": flat},
        {"a normal factor of another scale": Squashed(TRIANGLE, log_density=log_density)},
        rule="below",
    ),
}

REFUSED: list[tuple[Any, str]] = [
    (lambda: Slice(0.0), "scale must be positive and finite, got 0.0"),
    (lambda: Slice(1.0, 0), "max_steps must be a positive integer"),
    (lambda: HitAndRun(jnp.array([1.0, -1.0])), "scale must be positive"),
    (lambda: EllipticalSlice(jnp.zeros(2)), "scale must be positive"),
    (lambda: EllipticalSlice(1.0, jnp.nan), "mean must be finite, got nan"),
    (lambda: HitAndRun(1.0, -3), "max_steps must be a positive integer"),
]
