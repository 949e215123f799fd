"""The kernels that propose otherwise than by one random walk, and what breaks them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from variate.mcmc import (
    HMC,
    DelayedRejection,
    Gibbs,
    GibbsianPolarSlice,
    Independence,
    RandomWalk,
    Slice,
    delayed_rejection,
    independence,
    random_walk,
)
from variate.mcmc.slices import slicing

from .law import SCALE, Law, always, backwards, log_density


class Wide(eqx.Module):
    """Independent normal coordinates, a batch of them."""

    mean: jax.Array
    spread: jax.Array

    def sample(self, key: jax.Array) -> jax.Array:
        return self.mean + self.spread * jax.random.normal(key, self.mean.shape, self.mean.dtype)

    def log_prob(self, x: jax.Array) -> jax.Array:
        return -0.5 * ((x - self.mean) / self.spread) ** 2 - jnp.log(self.spread)


WIDE = Wide(jnp.array([0.2, 0.0, 0.4]), jnp.array([1.3, 1.6, 1.2]))


class Unweighted(Independence):
    """A draw counts as if all were as likely to be proposed."""

    def init(self, key: jax.Array, position: jax.Array) -> Any:
        return Independence.init(self, key, position)._replace(log_proposal=jnp.zeros((), position.dtype))


class Shifted(GibbsianPolarSlice):
    """The direction is about another center than the radius."""

    def step(self, key: jax.Array, state: Any) -> tuple:
        moved = GibbsianPolarSlice(self.width, self.center + 0.5 * state.position, log_density=self.log_density)
        return moved.step(key, state)


class Knowing(Gibbs):
    """The scale of its first block depends on that block."""

    def step(self, key: jax.Array, state: Any) -> tuple:
        wild = RandomWalk(jnp.exp(-state.position[jnp.array([0, 2])]))
        return Gibbs((wild, self.kernels[1]), self.blocks, log_density=self.log_density).step(key, state)


def thin(key: jax.Array, log_density: jax.Array) -> jax.Array:
    return log_density - 0.5


CENTER = jnp.array([0.5, -0.5, 1.0])
BLOCKS = ((0, 2), (1,))

LAWS = {
    "delayed rejection": Law(
        DelayedRejection(SCALE, 0.9, log_density=log_density),
        delayed_rejection,
        {"no accept step": always, "the ratio upside down": backwards},
        {},
    ),
    "polar slice": Law(
        GibbsianPolarSlice(2.0, CENTER, 3, log_density=log_density),
        slicing,
        {"a height that is not drawn": thin},
        {"a center that moves along": Shifted(2.0, CENTER, log_density=log_density)},
        rule="below",
        reversible=False,
    ),
    "gibbs": Law(
        Gibbs((RandomWalk(jnp.array([0.8, 1.0])), HMC(0.4, 2, 1.0)), BLOCKS, log_density=log_density),
        random_walk,
        {"no accept step": always, "the ratio upside down": backwards},
        {"a scale of its own position": Knowing((RandomWalk(1.0), Slice(1.0)), BLOCKS, log_density=log_density)},
        reversible=False,
    ),
    "independence": Law(
        Independence(WIDE, log_density=log_density),
        independence,
        {"no accept step": always, "the ratio upside down": backwards},
        {"no weight of the proposal": Unweighted(WIDE, log_density=log_density)},
    ),
}

REFUSED: list[tuple[Any, str]] = [
    (lambda: DelayedRejection(0.0), "scale must be positive"),
    (lambda: DelayedRejection(1.0, 1.0), "reduction must be between 0 and 1"),
    (lambda: GibbsianPolarSlice(-1.0), "width must be positive and finite, got -1.0"),
    (lambda: GibbsianPolarSlice(1.0, jnp.inf), "center must be finite, got inf"),
    (lambda: GibbsianPolarSlice(1.0, max_steps=0), "max_steps must be a positive integer"),
    (lambda: Gibbs((RandomWalk(1.0),), ((0,), (1,))), "blocks must be one for each kernel, got 2 for 1"),
    (
        lambda: Gibbs((RandomWalk(1.0),), ((0, 0),)),
        r"blocks must hold indices from 0 on, each once in a block, got \(0, 0\)",
    ),
    (lambda: Gibbs((RandomWalk(1.0),), ((-1,),)), "blocks must hold indices from 0 on"),
]
