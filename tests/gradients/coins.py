"""What the finite programs are made of: coins, and sums over the ways in which they fall."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.nn import sigmoid

import variate as vt


class Finite(NamedTuple):
    """A program, arguments for it, and its expectation as a function of them that JAX can differentiate."""

    program: Callable[..., Any]
    args: tuple
    expectation: Callable[..., Any]
    draws: str  # the names of the draws that reach the result, a letter each
    argnums: int | tuple[int, ...] = 1


def flip(key: Array, logits: Array, name: str) -> Array:
    return vt.draw(key, dist.Bernoulli(logits=logits), name=name).astype(float)


def chance(value: Array, logit: Array) -> Array:
    """Of a coin to show `value`, which is 0 or 1."""
    return sigmoid((2 * value - 1) * logit)


def mean_over_flips(count: int, weighted: Callable[..., Any]) -> Any:
    """The sum of `weighted(*coins)`, values times their probability, over every way in which the coins can fall."""
    coins = jnp.stack(jnp.meshgrid(*[jnp.arange(2.0)] * count, indexing="ij")).reshape(count, -1)
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), jax.vmap(weighted)(*coins))
