"""Black boxes as one would write them for a single problem: coins that are tossed twice by the same numbers."""

import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from peers_rules import costs, shape_of

SCALE = 0.5


def spsa(key, params, samples):
    first, second = jax.random.split(key)
    return _differences(first, params, jax.random.rademacher(second, shape_of(params, samples), jnp.float32))


def evolution_strategies(key, params, samples):
    first, second = jax.random.split(key)
    return _differences(first, params, jax.random.normal(second, shape_of(params, samples)))


def _differences(key, params, directions):
    """The value and the gradient in the latents."""
    u = jax.random.uniform(key, directions.shape)

    def at(scale):
        return costs(params, (u < sigmoid(params["latents"] + scale * directions)).astype(u.dtype))

    plus, minus = at(SCALE), at(-SCALE)
    return jnp.mean(plus + minus) / 2, {"latents": (plus - minus) @ directions / (2 * SCALE * len(u))}
