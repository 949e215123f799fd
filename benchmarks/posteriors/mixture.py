"""A mixture of two Gaussians on a line, the lower one first."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions.transforms import OrderedTransform

import variate as vt

from .base import Posterior, data, flat, posed, reference


def ordered(count: int) -> dist.Distribution:
    """Of numbers that rise."""
    return dist.TransformedDistribution(dist.Normal(0.0, 1.0).expand([count]).to_event(1), OrderedTransform())


def mixture(key, y):
    k1, k2, k3 = jax.random.split(key, 3)
    mu = vt.draw(k1, flat(ordered(2)), name="mu")
    vt.factor(jnp.sum(dist.Normal(0.0, 2.0).log_prob(mu)), name="prior of mu")
    sigma = vt.draw(k2, dist.HalfNormal(2.0).expand([2]), name="sigma")
    theta = vt.draw(k3, dist.Beta(5.0, 5.0), name="theta")
    weights = dist.Categorical(jnp.stack([theta, 1 - theta]))
    vt.observe(dist.MixtureSameFamily(weights, dist.Normal(mu, sigma)), y, name="y")


def gauss_mix() -> Posterior:
    read = data("low_dim_gauss_mix")
    return posed(mixture, (read["y"],), reference("low_dim_gauss_mix-low_dim_gauss_mix"))
