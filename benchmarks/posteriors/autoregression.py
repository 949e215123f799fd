"""An autoregression of order five."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import variate as vt

from . import given_scale
from .base import Moments, Posterior, data, posed


def autoregression(key, lags, y):
    """`lags`: of each y, those before it, the last one first."""
    k1, k2, k3 = jax.random.split(key, 3)
    alpha = vt.draw(k1, dist.Normal(0.0, 10.0), name="alpha")
    beta = vt.draw(k2, dist.Normal(0.0, 10.0).expand(lags.shape[1:]), name="beta")
    sigma = vt.draw(k3, dist.HalfCauchy(2.5), name="sigma")
    vt.observe(dist.Normal(alpha + lags @ beta, sigma), y, name="y")


def exact(lags, y) -> dict[str, Moments]:
    """By quadrature over sigma."""
    order = lags.shape[1]
    x, names = np.column_stack([np.ones(len(y)), lags]), ["alpha", *(f"beta[{k + 1}]" for k in range(order))]
    return given_scale.regression(x, y, np.eye(order + 1) / 100, lambda s: -np.log1p((s / 2.5) ** 2), names)


def ar() -> Posterior:
    read = data("arK")
    series, order = read["y"], read["K"]
    lags = jnp.stack([series[order - k : len(series) - k] for k in range(1, order + 1)], axis=1)
    y = series[order:]
    return posed(autoregression, (lags, y), exact(lags, y))
