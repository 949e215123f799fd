"""Coaching in eight schools, whose effects have a common mean and spread, with and without centring."""

import jax
import numpyro.distributions as dist

import variate as vt

from .base import Posterior, data, reference


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


def schools_centered() -> Posterior:
    schools = data("eight_schools")
    target = vt.condition(centered, schools["y"], schools["sigma"])
    return Posterior(target, reference("eight_schools-eight_schools_centered"))


def schools_noncentered() -> Posterior:
    schools = data("eight_schools")
    target = vt.condition(noncentered, schools["y"], schools["sigma"])
    return Posterior(target, reference("eight_schools-eight_schools_noncentered"), effects)
