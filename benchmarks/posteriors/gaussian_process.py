"""A Gaussian process seen with noise, of unknown length, height and noise."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

import variate as vt

from .base import Posterior, data, posed, reference


def gaussian_process(key, x, y):
    """`sigma` is a variance."""
    k1, k2, k3 = jax.random.split(key, 3)
    rho = vt.draw(k1, dist.Gamma(25.0, 4.0), name="rho")
    alpha = vt.draw(k2, dist.HalfNormal(2.0), name="alpha")
    sigma = vt.draw(k3, dist.HalfNormal(1.0), name="sigma")
    smooth = alpha**2 * jnp.exp(-0.5 * ((x[:, None] - x[None, :]) / rho) ** 2)
    root = jnp.linalg.cholesky(smooth + sigma * jnp.eye(len(x)))
    vt.observe(dist.MultivariateNormal(scale_tril=root), y, name="y")


def gp() -> Posterior:
    read = data("gp_pois_regr")
    return posed(gaussian_process, (read["x"], read["y"]), reference("gp_pois_regr-gp_regr"))
