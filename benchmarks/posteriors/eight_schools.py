"""Coaching in eight schools, whose effects have a common mean and spread, with and without centring."""

import jax
import numpy as np
import numpyro.distributions as dist

import variate as vt

from . import given_scale
from .base import Moments, Posterior, data, posed


def centered(key, y, sigma):
    k1, k2, k3 = jax.random.split(key, 3)
    mu = vt.draw(k1, dist.Normal(0.0, 5.0), name="mu")
    tau = vt.draw(k2, dist.HalfCauchy(5.0), name="tau")
    theta = vt.draw(k3, dist.Normal(mu, tau).expand(y.shape), name="theta")
    vt.observe(dist.Normal(theta, sigma), y, name="y")


def noncentered(key, y, sigma):
    k1, k2, k3 = jax.random.split(key, 3)
    mu = vt.draw(k1, dist.Normal(0.0, 5.0), name="mu")
    tau = vt.draw(k2, dist.HalfCauchy(5.0), name="tau")
    z = vt.draw(k3, dist.Normal(0.0, 1.0).expand(y.shape), name="z")
    vt.observe(dist.Normal(mu + tau * z, sigma), y, name="y")


def effects(values):
    mu, tau = values["mu"], values["tau"]
    return {"theta": mu[..., None] + tau[..., None] * values["z"], "mu": mu, "tau": tau}


def exact(y, sigma) -> dict[str, Moments]:
    """By quadrature over tau, given which z and mu are Gaussian."""
    y, weights = np.asarray(y), np.asarray(sigma) ** -2.0

    def given(tau):
        rows = np.column_stack([tau * np.eye(8), np.ones(8)])
        precision = rows.T @ (weights[:, None] * rows) + np.diag([1.0] * 8 + [1 / 25])
        return precision, rows.T @ (weights * y), -np.log1p((tau / 5) ** 2)

    def read(tau):
        return np.block([[tau * np.eye(8), np.ones((8, 1))], [np.zeros((1, 8)), np.ones((1, 1))]])

    names = [*(f"theta[{i + 1}]" for i in range(8)), "mu"]
    return given_scale.moments(given, names, "tau", (1e-12, 1e6), read)


def schools_centered() -> Posterior:
    read = data("eight_schools")
    y, sigma = read["y"], read["sigma"]
    return posed(centered, (y, sigma), exact(y, sigma))


def schools_noncentered() -> Posterior:
    read = data("eight_schools")
    y, sigma = read["y"], read["sigma"]
    return posed(noncentered, (y, sigma), exact(y, sigma), effects)
