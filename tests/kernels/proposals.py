"""The kernels that propose otherwise than by one random walk, and what breaks them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from variate.mcmc import Independence, independence

from .law import Law, always, backwards, log_density


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


LAWS = {
    "independence": Law(
        Independence(WIDE, log_density=log_density),
        independence,
        {"no accept step": always, "the ratio upside down": backwards},
        {"no weight of the proposal": Unweighted(WIDE, log_density=log_density)},
    ),
}
