"""A constructor for each of NumPyro's distributions, some of FlowJAX's and users' own, and the places where they break."""

from typing import Any, NamedTuple

import equinox as eqx
import flowjax.distributions
import flowjax.flows
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.nn import softmax
from numpyro.distributions import transforms
from programs.laws import Point, Row, bins, counts, loosely, scores, torus


def _array(x: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), x, is_leaf=lambda node: isinstance(node, list))


def _row(make: Any, law: Any, *special: Point, order: int = 2, lanes: int | None = None, **parameters: Any) -> Row:
    return Row(
        make, _array(parameters), law, tuple(at._replace(changed=_array(at.changed)) for at in special), order, lanes
    )


def at(value: Any, wrt: tuple[str, ...] | None = None, side: int = 0, **changed: Any) -> Point:
    return Point(np.asarray(value), changed, wrt, side)


def corners(r: Array) -> Array:
    """The Cholesky factor of a 2 x 2 correlation matrix."""
    return jnp.stack([jnp.stack([jnp.ones_like(r), jnp.zeros_like(r)]), jnp.stack([r, jnp.sqrt(1 - r**2)])])


def split(t: Array) -> Array:
    return jnp.stack([t, 1 - t])


class Triangular(NamedTuple):
    """A user's own: a NamedTuple."""

    width: Array

    def sample(self, key: Array) -> Array:
        return self.width * jnp.sum(jax.random.uniform(key, (2,), minval=-0.5, maxval=0.5))

    def log_prob(self, x: Array) -> Array:
        return jnp.log1p(-jnp.abs(x / self.width)) - jnp.log(self.width)


class Pair(eqx.Module):
    """A user's own: an Equinox module that draws a tree."""

    rate: Array
    probs: Array

    def sample(self, key: Array) -> dict[str, Array]:
        first, second = jax.random.split(key)
        time = jax.random.exponential(first) / self.rate
        return {"time": time, "early": jax.random.bernoulli(second, self.probs ** (1 + time))}

    def log_prob(self, x: dict[str, Array]) -> Array:
        probs = self.probs ** (1 + x["time"])
        return jnp.log(self.rate) - self.rate * x["time"] + jnp.log(jnp.where(x["early"], probs, 1 - probs))


flow = loosely(flowjax.flows.masked_autoregressive_flow)(
    jax.random.key(0), base_dist=flowjax.distributions.Normal(jnp.zeros(2)), flow_layers=1, nn_width=3
)
flow_arrays, flow_rest = eqx.partition(flow, eqx.is_inexact_array)

L2, L3 = [[1.0, 0.0], [0.4, 0.8]], [[1.0, 0.0, 0.0], [0.4, 0.8, 0.0], [-0.3, 0.2, 1.2]]
RING = np.array([[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]], float)

ROWS: dict[str, Row] = {
    "AsymmetricLaplace": _row(dist.AsymmetricLaplace, bins, loc=0.3, scale=1.4, asymmetry=1.3),
    "AsymmetricLaplaceQuantile": _row(dist.AsymmetricLaplaceQuantile, bins, loc=0.3, scale=1.4, quantile=0.3),
    "BernoulliLogits": _row(
        dist.BernoulliLogits, counts, at(0, logits=0), at(1, logits=0), at(1, logits=-40), at(0, logits=40), logits=0.7
    ),
    "BernoulliProbs": _row(
        dist.BernoulliProbs, counts, at(0, probs=0, side=1), at(1, probs=1, side=-1), at(1, probs=0.5), probs=0.3
    ),
    "Beta": _row(dist.Beta, bins, at(0.5, concentration1=1, concentration0=1), concentration1=1.7, concentration0=2.4),
    "BetaBinomial": _row(
        lambda a, b: dist.BetaBinomial(a, b, 6), counts, at(3, a=1, b=1), at(0, a=2, b=2), a=1.7, b=2.4
    ),
    "BetaNegativeBinomial": _row(
        lambda a, b, n: dist.BetaNegativeBinomial(a, b, n), counts, at(1, a=2, b=2, n=1), a=1.7, b=4.4, n=3
    ),
    "BetaProportion": _row(dist.BetaProportion, bins, mean=0.3, concentration=4),
    "BinomialLogits": _row(
        lambda logits: dist.BinomialLogits(logits, 7), counts, *(at(x, logits=0) for x in (0, 3, 7)), logits=0.7
    ),
    "BinomialProbs": _row(
        lambda probs: dist.BinomialProbs(probs, 7), counts, at(0, probs=0, side=1), at(7, probs=1, side=-1), probs=0.3
    ),
    "CAR": _row(
        lambda loc, r, tau: dist.CAR(loc, r, tau, RING),
        scores,
        at([0.1] * 4, r=0),
        loc=[0.1, 0.2, -0.3, 0.4],
        r=0.4,
        tau=1.3,
    ),
    "CategoricalLogits": _row(dist.CategoricalLogits, counts, at(1, logits=[0, 0, 0]), logits=[0.3, -0.4, 0.9]),
    "CategoricalProbs": _row(
        lambda logits: dist.CategoricalProbs(softmax(logits)), counts, at(1, logits=[0, 0, 0]), logits=[0.3, -0.4, 0.9]
    ),
    "Cauchy": _row(dist.Cauchy, bins, at(0.3, ("loc", "scale", "value")), loc=0.3, scale=1.4),
    "Chi2": _row(dist.Chi2, bins, df=3.3),
    "CirculantNormal": _row(
        lambda loc, f: dist.CirculantNormal(loc, covariance_rfft=f), scores, loc=[0.1, 0.2, -0.3, 0.4], f=[2, 1, 0.7]
    ),
    "Dagum": _row(dist.Dagum, bins, concentration=1.3, sharpness=2.2, scale=1.4),
    "Dirichlet": _row(dist.Dirichlet, scores, concentration=[1.3, 2.2, 0.8]),
    "DirichletMultinomial": _row(
        lambda c: dist.DirichletMultinomial(c, 5), scores, at([5, 0, 0], c=[1, 1, 1]), c=[1.3, 2.2, 0.8]
    ),
    "DiscreteUniform": _row(lambda: dist.DiscreteUniform(-1, 4), counts),
    "DoublyTruncatedPowerLaw": _row(
        dist.DoublyTruncatedPowerLaw,
        bins,
        *(at(1.2, alpha=alpha) for alpha in (-1, -1.01, 0, 4)),
        at(1.2, ("alpha", "high"), alpha=0.7, low=0),
        alpha=-1.7,
        low=0.5,
        high=3,
    ),
    "EulerMaruyama": _row(
        lambda a, b, s: dist.EulerMaruyama(
            np.array([0, 0.5, 1.2]), lambda x, t: (a * x, b + 0 * x), dist.Normal(0.0, s)
        ),
        scores,
        a=-0.5,
        b=0.8,
        s=1.3,
    ),
    "ExpandedDistribution": _row(lambda loc, s: dist.Normal(loc, s).expand((2, 3)), scores, loc=[0.1, 0.2, 0.3], s=1.4),
    "Exponential": _row(dist.Exponential, bins, rate=1.4),
    "FoldedDistribution": _row(
        lambda loc, scale: dist.FoldedDistribution(dist.Normal(loc, scale)), bins, at(0.5, loc=0), loc=0.3, scale=1.4
    ),
    "Gamma": _row(dist.Gamma, bins, at(0.7, concentration=1), concentration=1.7, rate=1.4),
    "GammaPoisson": _row(dist.GammaPoisson, counts, at(1, concentration=2, rate=1), concentration=1.7, rate=0.7),
    "GaussianCopula": _row(
        lambda m, s, r: dist.GaussianCopula(dist.Normal(m, s), correlation_cholesky=corners(r)),
        scores,
        at([0.1, 0.2], m=[0, 0], r=0),
        m=[0.3, -0.2],
        s=1.4,
        r=0.5,
    ),
    "GaussianRandomWalk": _row(lambda s: dist.GaussianRandomWalk(s, 4), scores, s=1.3),
    "GaussianStateSpace": _row(
        lambda a, scale: dist.GaussianStateSpace(3, a, scale_tril=scale), scores, a=[[0.6, 0.1], [-0.2, 0.5]], scale=L2
    ),
    "GeometricLogits": _row(dist.GeometricLogits, counts, at(0, logits=0), at(3, logits=0), logits=-0.4),
    "GeometricProbs": _row(dist.GeometricProbs, counts, at(0, probs=1, side=-1), at(3, probs=0.5), probs=0.3),
    "Gompertz": _row(dist.Gompertz, bins, concentration=1.3, rate=0.8),
    "Gumbel": _row(dist.Gumbel, bins, at(0.3, ("loc", "scale", "value")), loc=0.3, scale=1.4),
    "HalfCauchy": _row(dist.HalfCauchy, bins, scale=1.4),
    "HalfNormal": _row(dist.HalfNormal, bins, scale=1.4),
    "HurdleGamma": _row(
        dist.HurdleGamma,
        bins,
        at(0),
        at(0, gate=1, side=-1),
        at(0.7, gate=0, side=1),
        gate=0.3,
        concentration=1.7,
        rate=1.4,
    ),
    "HurdleLogNormal": _row(dist.HurdleLogNormal, bins, at(0), at(0.7, gate=0, side=1), gate=0.3, loc=0.2, scale=0.7),
    "HurdleLogits": _row(
        lambda gate, rate: dist.HurdleLogits(dist.Poisson(rate), gate),
        counts,
        at(0, gate=0),
        at(2, gate=0),
        gate=-0.5,
        rate=1.8,
    ),
    "HurdlePoisson": _row(
        dist.HurdlePoisson, counts, at(0), at(0, gate=1, side=-1), at(2, gate=0, side=1), gate=0.3, rate=1.8
    ),
    "HurdleProbs": _row(
        lambda gate, logits: dist.HurdleProbs(dist.Binomial(4, logits=logits), gate),
        counts,
        at(2, logits=0),
        gate=0.3,
        logits=0.7,
    ),
    "Independent": _row(lambda loc, s: dist.Normal(loc, s).to_event(1), scores, loc=[0.1, 0.2, 0.3], s=[1.4, 0.7, 2]),
    "InverseGamma": _row(dist.InverseGamma, bins, concentration=3.7, rate=1.4),
    "InverseWishart": _row(
        lambda c, scale: dist.InverseWishart(c, scale_tril=jnp.tril(scale)), scores, c=4.5, scale=L2
    ),
    "InverseWishartCholesky": _row(
        lambda c, scale: dist.InverseWishartCholesky(c, scale_tril=jnp.tril(scale)), scores, c=4.5, scale=L2
    ),
    "Kumaraswamy": _row(
        dist.Kumaraswamy, bins, at(0.5, concentration1=1, concentration0=1), concentration1=1.7, concentration0=2.4
    ),
    "LKJ": _row(lambda c: dist.LKJ(3, c), scores, at(np.eye(3), c=1), c=1.7),
    "LKJCholesky": _row(lambda c: dist.LKJCholesky(3, c), scores, at(np.eye(3), c=1), c=1.7),
    "LKJCholesky of vines": _row(lambda c: dist.LKJCholesky(3, c, "cvine"), scores, c=1.7),
    "Laplace": _row(dist.Laplace, bins, loc=0.3, scale=1.4),
    "LeftCensoredDistribution": _row(
        lambda loc, scale, censored: dist.LeftCensoredDistribution(dist.Normal(loc, scale), censored > 0.5),
        bins,
        at(0.3, ("loc", "scale", "value"), censored=1),
        loc=0.3,
        scale=1.4,
        censored=0,
    ),
    "LeftTruncatedDistribution": _row(
        lambda loc, scale, low: dist.LeftTruncatedDistribution(dist.Normal(loc, scale), low),
        bins,
        at(0.5, low=0.3),
        at(0.9, low=0.8),
        loc=0.3,
        scale=1.4,
        low=-0.5,
    ),
    "LeftTruncatedGamma": _row(
        lambda c, rate, low: dist.LeftTruncatedGamma(dist.Gamma(c, rate), low), bins, order=1, c=1.7, rate=1.4, low=0.5
    ),
    "Levy": _row(dist.Levy, bins, loc=0.3, scale=1.4),
    "LogNormal": _row(dist.LogNormal, bins, at(1, ("loc", "scale", "value"), loc=0), loc=0.3, scale=0.7),
    "LogUniform": _row(dist.LogUniform, bins, low=0.5, high=3),
    "Logistic": _row(dist.Logistic, bins, at(0.3, ("loc", "scale", "value")), loc=0.3, scale=1.4),
    "LowRankMultivariateNormal": _row(
        dist.LowRankMultivariateNormal,
        scores,
        at([0.1, 0.2, 0.4], cov_factor=[[0], [0], [0]]),
        loc=[0.1, 0.2, 0.3],
        cov_factor=[[0.5], [0.2], [-0.3]],
        cov_diag=[1, 0.7, 1.3],
    ),
    "LowerTruncatedPowerLaw": _row(dist.LowerTruncatedPowerLaw, bins, alpha=-2.7, low=0.5),
    "MaskedDistribution": _row(lambda loc, scale: dist.Normal(loc, scale).mask(True), bins, loc=0.3, scale=1.4),
    "MatrixNormal": _row(
        dist.MatrixNormal,
        scores,
        loc=[[0.0, 0.2, 0.4], [0.6, 0.8, 1.0]],
        scale_tril_row=L2,
        scale_tril_column=L3,
    ),
    "MixtureGeneral": _row(
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
    "MixtureSameFamily": _row(
        lambda t, loc, s: dist.MixtureSameFamily(dist.Categorical(split(t)), dist.Normal(loc, s)),
        bins,
        at(0.4, t=0, side=1),
        at(0.4, t=1, side=-1),
        t=0.3,
        loc=[1, -1],
        s=0.7,
    ),
    "MixtureSameFamily of Bernoullis": _row(
        lambda w, logits: dist.MixtureSameFamily(dist.Categorical(logits=w), dist.Bernoulli(logits=logits)),
        counts,
        at(0, w=[0, 0], logits=[0, 0.5]),
        w=[0.3, -0.2],
        logits=[0.7, 0.1],
    ),
    "MultinomialLogits": _row(
        lambda logits: dist.MultinomialLogits(logits, 5),
        scores,
        at([5, 0, 0], logits=[0, 0, 0]),
        logits=[0.3, -0.4, 0.9],
    ),
    "MultinomialProbs": _row(
        lambda t: dist.MultinomialProbs(jnp.stack([0.8 * t, 0.8 * (1 - t), jnp.full_like(t, 0.2)]), 5),
        scores,
        at([0, 3, 2], t=0, side=1),
        at([3, 0, 2], t=1, side=-1),
        t=0.4,
    ),
    "MultivariateNormal": _row(
        lambda loc, scale: dist.MultivariateNormal(loc, scale_tril=scale), scores, loc=[0.1, 0.2, 0.3], scale=L3
    ),
    "MultivariateNormal of a covariance": _row(
        lambda loc, scale: dist.MultivariateNormal(loc, covariance_matrix=scale @ scale.T),
        scores,
        loc=[0.1, 0.2],
        scale=L2,
    ),
    "MultivariateStudentT": _row(dist.MultivariateStudentT, scores, df=5.5, loc=[0.1, 0.2, 0.3], scale_tril=L3),
    "NegativeBinomial2": _row(
        dist.NegativeBinomial2, counts, at(1, mean=2, concentration=2), mean=2, concentration=1.5
    ),
    "NegativeBinomialLogits": _row(dist.NegativeBinomialLogits, counts, at(1, logits=0), total_count=3.3, logits=-0.4),
    "NegativeBinomialProbs": _row(
        dist.NegativeBinomialProbs, counts, at(1, total_count=2, probs=0.5), total_count=3.3, probs=0.4
    ),
    "Normal": _row(dist.Normal, bins, at(0.3, ("loc", "scale", "value")), loc=0.3, scale=1.4),
    "OrderedLogistic": _row(
        dist.OrderedLogistic,
        counts,
        at(1, predictor=0, cutpoints=[-1, 0, 1]),
        predictor=0.3,
        cutpoints=[-0.5, 0.4, 1.5],
    ),
    "Pareto": _row(dist.Pareto, bins, scale=1.4, alpha=2.7),
    "Poisson": _row(dist.Poisson, counts, at(0, rate=0, side=1), at(3, rate=1), rate=2.3),
    "ProjectedNormal": _row(
        dist.ProjectedNormal,
        scores,
        at([1, 0], concentration=[0, 0]),
        at([-1, 0], concentration=[8, 0]),
        concentration=[0.5, -0.8],
    ),
    "ProjectedNormal in space": _row(
        dist.ProjectedNormal, scores, at([-1, 0, 0], concentration=[7, 0, 0]), concentration=[0.5, -0.8, 0.4]
    ),
    "RelaxedBernoulliLogits": _row(dist.RelaxedBernoulliLogits, bins, at(0.5, logits=0), temperature=0.7, logits=0.4),
    "RightCensoredDistribution": _row(
        lambda loc, scale, censored: dist.RightCensoredDistribution(dist.Normal(loc, scale), censored > 0.5),
        bins,
        at(0.3, ("loc", "scale", "value"), censored=1),
        loc=0.3,
        scale=1.4,
        censored=0,
    ),
    "RightTruncatedDistribution": _row(
        lambda loc, scale, high: dist.RightTruncatedDistribution(dist.Normal(loc, scale), high),
        bins,
        at(0.1, high=0.3),
        loc=0.3,
        scale=1.4,
        high=0.9,
    ),
    "RightTruncatedGamma": _row(
        lambda c, rate, high: dist.RightTruncatedGamma(dist.Gamma(c, rate), high),
        bins,
        order=1,
        c=1.7,
        rate=1.4,
        high=1.5,
    ),
    "SineBivariateVonMises": _row(
        dist.SineBivariateVonMises,
        torus,
        lanes=1,
        phi_loc=0.3,
        psi_loc=-0.4,
        phi_concentration=1.7,
        psi_concentration=2.4,
        correlation=0.8,
    ),
    "SineSkewed": _row(
        lambda loc, c, s: dist.SineSkewed(dist.VonMises(loc, c).to_event(1), s),
        scores,
        at([0.2], s=[0]),
        loc=[0.3],
        c=[1.7],
        s=[0.4],
    ),
    "SoftLaplace": _row(dist.SoftLaplace, bins, at(0.3, ("loc", "scale", "value")), loc=0.3, scale=1.4),
    "StudentT": _row(dist.StudentT, bins, at(0.3, ("df", "loc", "scale", "value")), df=5.5, loc=0.3, scale=1.4),
    "TransformedDistribution": _row(
        lambda loc, scale: dist.TransformedDistribution(dist.Normal(loc, scale), transforms.ExpTransform()),
        bins,
        loc=0.3,
        scale=0.7,
    ),
    "TruncatedPolyaGamma": _row(lambda: dist.TruncatedPolyaGamma(), bins),
    "TwoSidedTruncatedDistribution": _row(
        lambda loc, scale, low, high: dist.TwoSidedTruncatedDistribution(dist.Normal(loc, scale), low, high),
        bins,
        at(0.5, low=0.3),
        loc=0.3,
        scale=1.4,
        low=-0.5,
        high=1.9,
    ),
    "TwoSidedTruncatedGamma": _row(
        lambda c, rate, low, high: dist.TwoSidedTruncatedGamma(dist.Gamma(c, rate), low, high),
        bins,
        order=1,
        c=1.7,
        rate=1.4,
        low=0.5,
        high=2.5,
    ),
    "Uniform": _row(dist.Uniform, bins, low=-0.5, high=1.5),
    "VonMises": _row(
        dist.VonMises,
        bins,
        at(0.3, ("loc", "concentration", "value")),
        at(0.35, concentration=800),
        loc=0.3,
        concentration=1.7,
    ),
    "Weibull": _row(
        dist.Weibull, bins, at(1, ("scale", "concentration", "value"), concentration=1), scale=1.4, concentration=1.7
    ),
    "Wishart": _row(lambda c, scale: dist.Wishart(c, scale_tril=jnp.tril(scale)), scores, c=4.5, scale=L2),
    "WishartCholesky": _row(
        lambda c, scale: dist.WishartCholesky(c, scale_tril=jnp.tril(scale)), scores, c=4.5, scale=L2
    ),
    "ZeroInflatedLogits": _row(
        lambda gate, logits: dist.ZeroInflatedLogits(dist.Bernoulli(logits=logits), gate),
        counts,
        at(0, gate=0, logits=0),
        at(1, gate=0, logits=0),
        gate=-0.5,
        logits=0.7,
    ),
    "ZeroInflatedPoisson": _row(
        dist.ZeroInflatedPoisson, counts, at(0, rate=0, side=1), at(0, ("gate",), gate=1, side=-1), gate=0.3, rate=1.8
    ),
    "ZeroInflatedProbs": _row(
        lambda gate, logits: dist.ZeroInflatedProbs(dist.Bernoulli(logits=logits), gate),
        counts,
        at(0, logits=0),
        at(0, ("gate",), gate=1, side=-1),
        at(0, ("gate",), gate=0, side=1),
        gate=0.3,
        logits=0.7,
    ),
    "ZeroSumNormal": _row(lambda s: dist.ZeroSumNormal(s, (4,)), scores, s=1.3),
    "a NamedTuple": _row(Triangular, bins, width=1.4),
    "an Equinox module": _row(Pair, scores, rate=1.4, probs=0.4),
    "FlowJAX's Normal": _row(flowjax.distributions.Normal, bins, loc=0.3, scale=1.4),
    "a flow": _row(lambda flow: eqx.combine(flow, flow_rest), scores, flow=flow_arrays),
}
