"""The rows of the law table for NumPyro's distributions of real numbers, vectors and matrices."""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import transforms
from programs.laws import Row, bins, scores, torus
from programs.rows import at, row

L2, L3 = [[1.0, 0.0], [0.4, 0.8]], [[1.0, 0.0, 0.0], [0.4, 0.8, 0.0], [-0.3, 0.2, 1.2]]
RING = np.array([[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]], float)


def corners(r: Array) -> Array:
    """The Cholesky factor of a 2 x 2 correlation matrix."""
    return jnp.stack([jnp.stack([jnp.ones_like(r), jnp.zeros_like(r)]), jnp.stack([r, jnp.sqrt(1 - r**2)])])


def split(t: Array) -> Array:
    return jnp.stack([t, 1 - t])


MEASURED: dict[str, Row] = {
    "AsymmetricLaplace": row(dist.AsymmetricLaplace, bins, loc=0.3, scale=1.4, asymmetry=1.3),
    "AsymmetricLaplaceQuantile": row(dist.AsymmetricLaplaceQuantile, bins, loc=0.3, scale=1.4, quantile=0.3),
    "Beta": row(dist.Beta, bins, at(0.5, concentration1=1, concentration0=1), concentration1=1.7, concentration0=2.4),
    "BetaProportion": row(dist.BetaProportion, bins, mean=0.3, concentration=4),
    "CAR": row(
        lambda loc, r, tau: dist.CAR(loc, r, tau, RING),
        scores,
        at([0.1] * 4, r=0),
        loc=[0.1, 0.2, -0.3, 0.4],
        r=0.4,
        tau=1.3,
    ),
    "Cauchy": row(dist.Cauchy, bins, at(0.3, ("loc", "scale", "value")), loc=0.3, scale=1.4),
    "Chi2": row(dist.Chi2, bins, df=3.3),
    "CirculantNormal": row(
        lambda loc, f: dist.CirculantNormal(loc, covariance_rfft=f), scores, loc=[0.1, 0.2, -0.3, 0.4], f=[2, 1, 0.7]
    ),
    "Dagum": row(dist.Dagum, bins, concentration=1.3, sharpness=2.2, scale=1.4),
    "Dirichlet": row(dist.Dirichlet, scores, concentration=[1.3, 2.2, 0.8]),
    "DoublyTruncatedPowerLaw": row(
        dist.DoublyTruncatedPowerLaw,
        bins,
        *(at(1.2, alpha=alpha) for alpha in (-1, -1.01, 0, 4)),
        at(1.2, ("alpha", "high"), alpha=0.7, low=0),
        alpha=-1.7,
        low=0.5,
        high=3,
    ),
    "EulerMaruyama": row(
        lambda a, b, s: dist.EulerMaruyama(
            np.array([0, 0.5, 1.2]), lambda x, t: (a * x, b + 0 * x), dist.Normal(0.0, s)
        ),
        scores,
        a=-0.5,
        b=0.8,
        s=1.3,
    ),
    "ExpandedDistribution": row(lambda loc, s: dist.Normal(loc, s).expand((2, 3)), scores, loc=[0.1, 0.2, 0.3], s=1.4),
    "Exponential": row(dist.Exponential, bins, rate=1.4),
    "FoldedDistribution": row(
        lambda loc, scale: dist.FoldedDistribution(dist.Normal(loc, scale)), bins, at(0.5, loc=0), loc=0.3, scale=1.4
    ),
    "Gamma": row(dist.Gamma, bins, at(0.7, concentration=1), concentration=1.7, rate=1.4),
    "GaussianCopula": row(
        lambda m, s, r: dist.GaussianCopula(dist.Normal(m, s), correlation_cholesky=corners(r)),
        scores,
        at([0.1, 0.2], m=[0, 0], r=0),
        m=[0.3, -0.2],
        s=1.4,
        r=0.5,
    ),
    "GaussianRandomWalk": row(lambda s: dist.GaussianRandomWalk(s, 4), scores, s=1.3),
    "GaussianStateSpace": row(
        lambda a, scale: dist.GaussianStateSpace(3, a, scale_tril=scale), scores, a=[[0.6, 0.1], [-0.2, 0.5]], scale=L2
    ),
    "Gompertz": row(dist.Gompertz, bins, concentration=1.3, rate=0.8),
    "Gumbel": row(dist.Gumbel, bins, at(0.3, ("loc", "scale", "value")), loc=0.3, scale=1.4),
    "HalfCauchy": row(dist.HalfCauchy, bins, scale=1.4),
    "HalfNormal": row(dist.HalfNormal, bins, scale=1.4),
    "Independent": row(lambda loc, s: dist.Normal(loc, s).to_event(1), scores, loc=[0.1, 0.2, 0.3], s=[1.4, 0.7, 2]),
    "InverseGamma": row(dist.InverseGamma, bins, concentration=3.7, rate=1.4),
    "InverseWishart": row(lambda c, scale: dist.InverseWishart(c, scale_tril=jnp.tril(scale)), scores, c=4.5, scale=L2),
    "InverseWishartCholesky": row(
        lambda c, scale: dist.InverseWishartCholesky(c, scale_tril=jnp.tril(scale)), scores, c=4.5, scale=L2
    ),
    "Kumaraswamy": row(
        dist.Kumaraswamy, bins, at(0.5, concentration1=1, concentration0=1), concentration1=1.7, concentration0=2.4
    ),
    "LKJ": row(lambda c: dist.LKJ(3, c), scores, at(np.eye(3), c=1), c=1.7),
    "LKJCholesky": row(lambda c: dist.LKJCholesky(3, c), scores, at(np.eye(3), c=1), c=1.7),
    "LKJCholesky of vines": row(lambda c: dist.LKJCholesky(3, c, "cvine"), scores, c=1.7),
    "Laplace": row(dist.Laplace, bins, loc=0.3, scale=1.4),
    "LeftCensoredDistribution": row(
        lambda loc, scale, censored: dist.LeftCensoredDistribution(dist.Normal(loc, scale), censored > 0.5),
        bins,
        at(0.3, ("loc", "scale", "value"), censored=1),
        loc=0.3,
        scale=1.4,
        censored=0,
    ),
    "LeftTruncatedDistribution": row(
        lambda loc, scale, low: dist.LeftTruncatedDistribution(dist.Normal(loc, scale), low),
        bins,
        at(0.5, low=0.3),
        at(0.9, low=0.8),
        loc=0.3,
        scale=1.4,
        low=-0.5,
    ),
    "LeftTruncatedGamma": row(
        lambda c, rate, low: dist.LeftTruncatedGamma(dist.Gamma(c, rate), low),
        bins,
        order=1,
        slow=True,
        c=1.7,
        rate=1.4,
        low=0.5,
    ),
    "Levy": row(dist.Levy, bins, loc=0.3, scale=1.4),
    "LogNormal": row(dist.LogNormal, bins, at(1, ("loc", "scale", "value"), loc=0), loc=0.3, scale=0.7),
    "LogUniform": row(dist.LogUniform, bins, low=0.5, high=3),
    "Logistic": row(dist.Logistic, bins, at(0.3, ("loc", "scale", "value")), loc=0.3, scale=1.4),
    "LowRankMultivariateNormal": row(
        dist.LowRankMultivariateNormal,
        scores,
        at([0.1, 0.2, 0.4], cov_factor=[[0], [0], [0]]),
        loc=[0.1, 0.2, 0.3],
        cov_factor=[[0.5], [0.2], [-0.3]],
        cov_diag=[1, 0.7, 1.3],
    ),
    "LowerTruncatedPowerLaw": row(dist.LowerTruncatedPowerLaw, bins, alpha=-2.7, low=0.5),
    "MaskedDistribution": row(
        lambda loc, scale: dist.Normal(loc, scale).mask(jnp.ones((), bool)), bins, loc=0.3, scale=1.4
    ),
    "MatrixNormal": row(
        dist.MatrixNormal,
        scores,
        loc=[[0.0, 0.2, 0.4], [0.6, 0.8, 1.0]],
        scale_tril_row=L2,
        scale_tril_column=L3,
    ),
    "MixtureGeneral": row(
        lambda t, loc, s: dist.MixtureGeneral(
            dist.Categorical(split(t)), [dist.Normal(loc, 1.0), dist.Laplace(0.0, s)]
        ),
        bins,
        at(0.4, t=0, side=1),
        at(0.4, t=1, side=-1),
        t=0.3,
        loc=1,
        s=0.7,
    ),
    "MixtureSameFamily": row(
        lambda t, loc, s: dist.MixtureSameFamily(dist.Categorical(split(t)), dist.Normal(loc, s)),
        bins,
        at(0.4, t=0, side=1),
        at(0.4, t=1, side=-1),
        t=0.3,
        loc=[1, -1],
        s=0.7,
    ),
    "MultivariateNormal": row(
        lambda loc, scale: dist.MultivariateNormal(loc, scale_tril=scale), scores, loc=[0.1, 0.2, 0.3], scale=L3
    ),
    "MultivariateNormal of a covariance": row(
        lambda loc, scale: dist.MultivariateNormal(loc, covariance_matrix=scale @ scale.T),
        scores,
        loc=[0.1, 0.2],
        scale=L2,
    ),
    "MultivariateStudentT": row(dist.MultivariateStudentT, scores, df=5.5, loc=[0.1, 0.2, 0.3], scale_tril=L3),
    "Normal": row(dist.Normal, bins, at(0.3, ("loc", "scale", "value")), loc=0.3, scale=1.4),
    "Pareto": row(dist.Pareto, bins, scale=1.4, alpha=2.7),
    "ProjectedNormal": row(
        dist.ProjectedNormal,
        scores,
        at([1, 0], concentration=[0, 0]),
        at([-1, 0], concentration=[8, 0]),
        concentration=[0.5, -0.8],
    ),
    "ProjectedNormal in space": row(
        dist.ProjectedNormal, scores, at([-1, 0, 0], concentration=[7, 0, 0]), concentration=[0.5, -0.8, 0.4]
    ),
    "RelaxedBernoulliLogits": row(dist.RelaxedBernoulliLogits, bins, at(0.5, logits=0), temperature=0.7, logits=0.4),
    "RightCensoredDistribution": row(
        lambda loc, scale, censored: dist.RightCensoredDistribution(dist.Normal(loc, scale), censored > 0.5),
        bins,
        at(0.3, ("loc", "scale", "value"), censored=1),
        loc=0.3,
        scale=1.4,
        censored=0,
    ),
    "RightTruncatedDistribution": row(
        lambda loc, scale, high: dist.RightTruncatedDistribution(dist.Normal(loc, scale), high),
        bins,
        at(0.1, high=0.3),
        loc=0.3,
        scale=1.4,
        high=0.9,
    ),
    "RightTruncatedGamma": row(
        lambda c, rate, high: dist.RightTruncatedGamma(dist.Gamma(c, rate), high),
        bins,
        order=1,
        slow=True,
        c=1.7,
        rate=1.4,
        high=1.5,
    ),
    "SineBivariateVonMises": row(
        dist.SineBivariateVonMises,
        torus,
        lanes=1,
        phi_loc=0.3,
        psi_loc=-0.4,
        phi_concentration=1.7,
        psi_concentration=2.4,
        correlation=0.8,
    ),
    "SineSkewed": row(
        lambda loc, c, s: dist.SineSkewed(dist.VonMises(loc, c).to_event(1), s),
        scores,
        at([0.2], s=[0]),
        loc=[0.3],
        c=[1.7],
        s=[0.4],
    ),
    "SoftLaplace": row(dist.SoftLaplace, bins, at(0.3, ("loc", "scale", "value")), loc=0.3, scale=1.4),
    "StudentT": row(dist.StudentT, bins, at(0.3, ("df", "loc", "scale", "value")), df=5.5, loc=0.3, scale=1.4),
    "TransformedDistribution": row(
        lambda loc, scale: dist.TransformedDistribution(dist.Normal(loc, scale), transforms.ExpTransform()),
        bins,
        loc=0.3,
        scale=0.7,
    ),
    "TruncatedPolyaGamma": row(lambda: dist.TruncatedPolyaGamma(), bins),
    "TwoSidedTruncatedDistribution": row(
        lambda loc, scale, low, high: dist.TwoSidedTruncatedDistribution(dist.Normal(loc, scale), low, high),
        bins,
        at(0.5, low=0.3),
        loc=0.3,
        scale=1.4,
        low=-0.5,
        high=1.9,
    ),
    "TwoSidedTruncatedGamma": row(
        lambda c, rate, low, high: dist.TwoSidedTruncatedGamma(dist.Gamma(c, rate), low, high),
        bins,
        order=1,
        slow=True,
        c=1.7,
        rate=1.4,
        low=0.5,
        high=2.5,
    ),
    "Uniform": row(dist.Uniform, bins, low=-0.5, high=1.5),
    "VonMises": row(
        dist.VonMises,
        bins,
        at(0.3, ("loc", "concentration", "value")),
        at(0.35, concentration=800),
        loc=0.3,
        concentration=1.7,
    ),
    "Weibull": row(
        dist.Weibull, bins, at(1, ("scale", "concentration", "value"), concentration=1), scale=1.4, concentration=1.7
    ),
    "Wishart": row(lambda c, scale: dist.Wishart(c, scale_tril=jnp.tril(scale)), scores, c=4.5, scale=L2),
    "WishartCholesky": row(
        lambda c, scale: dist.WishartCholesky(c, scale_tril=jnp.tril(scale)), scores, c=4.5, scale=L2
    ),
    "ZeroSumNormal": row(lambda s: dist.ZeroSumNormal(s, (4,)), scores, s=1.3),
}
