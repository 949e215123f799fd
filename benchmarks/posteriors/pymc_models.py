"""The posteriors as models of PyMC, in whose code nutpie is at its fastest: the same laws, by the same names."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt


def flat_priors(x, y):
    beta = pm.Flat("beta", shape=x.shape[1])
    sigma = pm.HalfFlat("sigma")
    pm.Normal("y", x @ beta, sigma, observed=y)


def flat_slopes(x, y):
    beta = pm.Flat("beta", shape=x.shape[1])
    sigma = pm.HalfCauchy("sigma", 2.5)
    pm.Normal("y", x @ beta, sigma, observed=y)


def centred_columns(x, y):
    b = pm.Normal("b", 0.0, 1.0, shape=x.shape[1])
    intercept = pm.StudentT("Intercept", 3.0, 8.0, 10.0)
    sigma = pm.HalfStudentT("sigma", 3.0, 10.0)
    pm.Normal("Y", intercept + x @ b, sigma, observed=y)


def centered(y, sigma):
    mu, tau = pm.Normal("mu", 0.0, 5.0), pm.HalfCauchy("tau", 5.0)
    pm.Normal("y", pm.Normal("theta", mu, tau, shape=len(y)), sigma, observed=y)


def noncentered(y, sigma):
    mu, tau = pm.Normal("mu", 0.0, 5.0), pm.HalfCauchy("tau", 5.0)
    pm.Normal("y", mu + tau * pm.Normal("z", 0.0, 1.0, shape=len(y)), sigma, observed=y)


def autoregression(lags, y):
    alpha, beta = pm.Normal("alpha", 0.0, 10.0), pm.Normal("beta", 0.0, 10.0, shape=lags.shape[1])
    pm.Normal("y", alpha + lags @ beta, pm.HalfCauchy("sigma", 2.5), observed=y)


def gaussian_process(x, y):
    rho, alpha, sigma = pm.Gamma("rho", 25.0, 4.0), pm.HalfNormal("alpha", 2.0), pm.HalfNormal("sigma", 1.0)
    smooth = alpha**2 * pt.exp(-0.5 * ((x[:, None] - x[None, :]) / rho) ** 2)
    pm.MvNormal("y", np.zeros(len(y)), chol=pt.linalg.cholesky(smooth + sigma * np.eye(len(x))), observed=y)


def mixture(y):
    ordered = pm.distributions.transforms.ordered
    mu = pm.Normal("mu", 0.0, 2.0, shape=2, transform=ordered, initval=[-1.0, 1.0])
    sigma, theta = pm.HalfNormal("sigma", 2.0, shape=2), pm.Beta("theta", 5.0, 5.0)
    pm.NormalMixture("y", pt.stack([theta, 1 - theta]), mu, sigma, observed=y)


def model(name: str, *data) -> pm.Model:
    """By the name of the program, of the data that it is conditioned on."""
    with pm.Model() as made:
        globals()[name](*(np.asarray(each, float) for each in data))
    return made
