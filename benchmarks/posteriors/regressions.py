"""Linear regressions: two with flat priors, whose moments have a closed form, and two with others."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from scipy.special import gammaln

import variate as vt

from . import given_scale
from .base import Moments, Posterior, data, flat, posed, reference


def flat_priors(key, x, y):
    k1, k2 = jax.random.split(key)
    beta = vt.draw(k1, flat(dist.Normal(0.0, 1.0).expand(x.shape[1:])), name="beta")
    sigma = vt.draw(k2, flat(dist.HalfNormal(1.0)), name="sigma")
    vt.observe(dist.Normal(x @ beta, sigma), y, name="y")


def flat_slopes(key, x, y):
    k1, k2 = jax.random.split(key)
    beta = vt.draw(k1, flat(dist.Normal(0.0, 1.0).expand(x.shape[1:])), name="beta")
    sigma = vt.draw(k2, dist.HalfCauchy(2.5), name="sigma")
    vt.observe(dist.Normal(x @ beta, sigma), y, name="y")


def centred_columns(key, x, y):
    k1, k2, k3 = jax.random.split(key, 3)
    b = vt.draw(k1, dist.Normal(0.0, 1.0).expand(x.shape[1:]), name="b")
    intercept = vt.draw(k2, dist.StudentT(3.0, 8.0, 10.0), name="Intercept")
    sigma = vt.draw(k3, dist.FoldedDistribution(dist.StudentT(3.0, 0.0, 10.0)), name="sigma")
    vt.observe(dist.Normal(intercept + x @ b, sigma), y, name="Y")


def exact(x, y) -> dict[str, Moments]:
    r"""Moments under flat priors, of n observations and k coefficients.

    The density $\sigma^{-n} e^{-|y - X\beta|^2 / 2\sigma^2}$ of $(\beta, \sigma)$ is, with the least squares
    $\hat\beta$ and their sum S, Gaussian in $\beta$ given $\sigma$, and $\sigma^{k-n} e^{-S/2\sigma^2}$ in $\sigma$
    alone. So $\sigma^2$ is inverse Gamma with shape $a = (n-k-1)/2$ and scale $S/2$, and $\beta$ is Student's t with 2a
    degrees of freedom, whose covariance is $E[\sigma^2] (X'X)^{-1}$.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    n, k = x.shape
    inverse = np.linalg.inv(x.T @ x)
    beta = inverse @ (x.T @ y)
    shape, scale = (n - k - 1) / 2, np.sum((y - x @ beta) ** 2) / 2
    square = scale / (shape - 1)
    sigma = np.sqrt(scale) * np.exp(gammaln(shape - 0.5) - gammaln(shape))
    spread = np.sqrt(square * np.diag(inverse))
    found = {f"beta[{i + 1}]": Moments(float(beta[i]), float(spread[i])) for i in range(k)}
    return found | {"sigma": Moments(float(sigma), float(np.sqrt(square - sigma**2)))}


def exact_slopes(x, y) -> dict[str, Moments]:
    """By quadrature over sigma."""
    k = x.shape[1]
    names = [f"beta[{i + 1}]" for i in range(k)]
    return given_scale.regression(x, y, np.zeros((k, k)), lambda s: -np.log1p((s / 2.5) ** 2), names)


def design(*columns):
    """The columns beside one of ones."""
    return jnp.stack([jnp.ones_like(columns[0]), *columns], axis=1)


def earnings() -> Posterior:
    read = data("earnings")
    x, y = design(read["height"]), jnp.log(read["earn"])
    return posed(flat_priors, (x, y), exact(x, y))


def mesquite() -> Posterior:
    read = data("mesquite")
    sizes = [jnp.log(read[name]) for name in ("diam1", "diam2", "canopy_height", "total_height", "density")]
    x, y = design(*sizes, read["group"]), jnp.log(read["weight"])
    return posed(flat_priors, (x, y), exact(x, y))


def kidiq() -> Posterior:
    read = data("kidiq")
    x, y = design(read["mom_iq"]), read["kid_score"]
    return posed(flat_slopes, (x, y), exact_slopes(x, y))


def diamonds() -> Posterior:
    read = data("diamonds")
    x = read["X"][:, 1:]
    centred = x - jnp.mean(x, axis=0, keepdims=True)
    return posed(centred_columns, (centred, read["Y"]), reference("diamonds-diamonds"))
