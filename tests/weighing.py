"""Programs with known expectations and proposals for their draws, which tests of weights share."""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array
from scipy import stats

import variate as vt


def tail(key: Array) -> Array:
    return vt.draw(key, dist.Normal(jnp.zeros(()), 1.0), name="z") > 3.5


def bounded(key: Array) -> Array:
    return vt.draw(key, dist.Normal(jnp.zeros(()), 1.0), name="z") < 0


TAIL = float(stats.norm.sf(3.5))


def square(key: Array) -> Array:
    z = vt.draw(key, dist.Normal(jnp.zeros(()), 1.0), name="z")
    return z**2 + jnp.exp(0.5 * z)


SQUARE = 1 + float(np.exp(0.125))


def uniform(key: Array) -> Array:
    return vt.draw(key, dist.Uniform(jnp.zeros(()), 1.0), name="u")


HALF = dist.Uniform(jnp.zeros(()), 0.5)


def at(loc: float, scale: float = 1.0) -> dist.Normal:
    return dist.Normal(jnp.asarray(loc), scale)
