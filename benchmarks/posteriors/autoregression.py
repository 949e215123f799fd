"""An autoregression of order five."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

import variate as vt

from .base import Posterior, data, reference


def autoregression(key, lags, y):
    """`lags`: of each y, those before it, the last one first."""
    k1, k2, k3 = jax.random.split(key, 3)
    alpha = vt.draw(k1, dist.Normal(0.0, 10.0), name="alpha")
    beta = vt.draw(k2, dist.Normal(0.0, 10.0).expand(lags.shape[1:]), name="beta")
    sigma = vt.draw(k3, dist.HalfCauchy(2.5), name="sigma")
    vt.observe(dist.Normal(alpha + lags @ beta, sigma), y, name="y")


def ar() -> Posterior:
    read = data("arK")
    y, order = read["y"], read["K"]
    lags = jnp.stack([y[order - k : len(y) - k] for k in range(1, order + 1)], axis=1)
    return Posterior(vt.condition(autoregression, lags, y[order:]), reference("arK-arK"))
