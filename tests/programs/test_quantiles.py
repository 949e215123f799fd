"""A draw made of uniforms follows its law."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from jax.random import clone
from programs.counted import COUNTED
from programs.laws import ALPHA, Methods, build, draw, loosely, p_value
from programs.measured import MEASURED
from scipy import stats

from variate import draw as vt_draw
from variate.programs.quantiles import Transport, transport
from variate.programs.staging import stage
from variate.programs.uniforms import layout

ROWS = COUNTED | MEASURED


def made_of(d: Any, key: Array) -> Transport | None:
    """How a distribution of the table is made of uniforms."""
    with jax.debug_key_reuse(False):  # of some of NumPyro's samplers, which are not used
        shape = jax.eval_shape(loosely(lambda key: d.sample(key)), key)
    leaves = jax.tree.leaves(shape)
    return transport(d, leaves[0].shape, leaves[0].dtype) if len(leaves) == 1 else None


def known(name: str) -> bool:
    found: list[Any] = []
    row = ROWS[name]
    jax.eval_shape(
        lambda arrays, key: found.append(made_of(build(row, **arrays), key)), row.parameters, jax.random.key(0)
    )
    return found[0] is not None and math.prod(found[0].shape) > 0


def by_uniforms(d: Any, key: Array) -> Any:
    found = made_of(d, key)
    assert found is not None
    return found.value(jax.random.uniform(key, found.shape, float))


# Asked of every law where tests are collected, it would be seconds of every process.
UNKNOWN = {
    "BetaNegativeBinomial",
    "CAR",
    "CirculantNormal",
    "DirichletMultinomial",
    "EulerMaruyama",
    "FoldedDistribution",
    "GaussianCopula",
    "GaussianRandomWalk",
    "GaussianStateSpace",
    "HurdleGamma",
    "HurdleLogNormal",
    "HurdleLogits",
    "HurdlePoisson",
    "HurdleProbs",
    "InverseWishart",
    "InverseWishartCholesky",
    "LKJ",
    "LKJCholesky",
    "LKJCholesky of vines",
    "LeftCensoredDistribution",
    "LowRankMultivariateNormal",
    "MatrixNormal",
    "MixtureSameFamily of Bernoullis",
    "MultinomialLogits",
    "MultinomialProbs",
    "MultivariateStudentT",
    "ProjectedNormal",
    "ProjectedNormal in space",
    "RightCensoredDistribution",
    "SineBivariateVonMises",
    "SineSkewed",
    "TruncatedPolyaGamma",
    "Wishart",
    "WishartCholesky",
    "ZeroInflatedPoisson",
    "ZeroSumNormal",
}
KNOWN = sorted(ROWS.keys() - UNKNOWN)


@pytest.mark.wide
@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_a_draw_made_of_uniforms_follows_the_law(name: str, key: Array) -> None:
    assert p_value(ROWS[name], draw(ROWS[name], key, Methods(sample=by_uniforms))) >= ALPHA


def test_laws_are_known_or_not() -> None:
    """So that one whose quantiles are added, or are lost, is one whose draws are tested."""
    assert {name for name in ROWS if not known(name)} == UNKNOWN


def test_the_laws_that_are_in_daily_use_are_known() -> None:
    usual = "Normal Uniform Gamma Beta Exponential LogNormal StudentT Cauchy Laplace HalfNormal Weibull InverseGamma "
    usual += "BernoulliLogits BernoulliProbs CategoricalLogits BinomialProbs Poisson GeometricProbs Dirichlet "
    usual += "MultivariateNormal MixtureSameFamily MixtureGeneral NegativeBinomial2 VonMises Pareto Gumbel"
    assert set(usual.split()) <= set(KNOWN)


SCIPY = {
    "gamma": (lambda: dist.Gamma(2.3, 1.5), stats.gamma(2.3, scale=1 / 1.5)),
    "gamma of small shape": (lambda: dist.Gamma(0.01, 1.5), stats.gamma(0.01, scale=1 / 1.5)),
    "gamma of large shape": (lambda: dist.Gamma(1000.0, 1.5), stats.gamma(1000.0, scale=1 / 1.5)),
    "inverse gamma": (lambda: dist.InverseGamma(2.0, 3.0), stats.invgamma(2.0, scale=3.0)),
    "beta": (lambda: dist.Beta(2.0, 3.0), stats.beta(2.0, 3.0)),
    "beta at the ends": (lambda: dist.Beta(0.05, 0.3), stats.beta(0.05, 0.3)),
    "student": (lambda: dist.StudentT(2.5, 1.0, 2.0), stats.t(2.5, 1.0, 2.0)),
    "weibull": (lambda: dist.Weibull(1.5, 2.0), stats.weibull_min(2.0, scale=1.5)),
    "von mises": (lambda: dist.VonMises(0.0, 2.0), stats.vonmises(2.0)),
    "poisson": (lambda: dist.Poisson(3.4), stats.poisson(3.4)),
    "poisson of large rate": (lambda: dist.Poisson(1e4), stats.poisson(1e4)),
    "negative binomial": (lambda: dist.NegativeBinomial2(3.0, 0.4), stats.nbinom(0.4, 0.4 / 3.4)),
    "geometric": (lambda: dist.Geometric(0.3), stats.geom(0.3, loc=-1)),
    "binomial": (lambda: dist.Binomial(7, 0.3), stats.binom(7, 0.3)),
}


@pytest.mark.wide
@pytest.mark.parametrize("name", SCIPY)
def test_quantiles_are_those_of_scipy(name: str) -> None:
    make, law = SCIPY[name]
    u = (np.arange(1, 512) - 0.3) / 512
    found = transport(loosely(lambda: make().expand(u.shape))(), u.shape, jnp.zeros(()).dtype)
    assert found is not None
    assert found.shape == u.shape
    np.testing.assert_allclose(jax.jit(found.value)(jnp.asarray(u)), law.ppf(u), rtol=1e-9, atol=1e-12)


def test_no_uniform_makes_an_infinity_in_single_precision() -> None:
    u = jnp.asarray([0.0, 1e-30, 1 - 2.0**-26, 1.0])
    for law in (dist.Normal(jnp.float32(0), jnp.float32(1)), dist.Gamma(jnp.float32(2), jnp.float32(1))):
        found = transport(law.expand((4,)), (4,), jnp.float32)
        assert found is not None
        values = found.value(u)
        assert values.dtype == jnp.float32
        assert jnp.all(jnp.isfinite(values))


def test_draws_without_known_quantiles_or_a_key_of_their_own_keep_their_keys() -> None:
    def program(key: Array) -> Array:
        first, second, third = jax.random.split(key, 3)
        a = vt_draw(first, dist.Normal(0.0, 1.0), name="a")
        b = vt_draw(second, dist.Normal(0.0, 1.0), name="b") + jax.random.normal(clone(second))
        c = vt_draw(third, dist.FoldedDistribution(dist.Normal(0.0, 1.0)), name="c")
        return a + b + c

    found = layout(stage(program, jax.random.key(0))[0], {})
    assert found.labels == ["a"]
    assert "FoldedDistribution" in found.kept[2]
    assert "`random_bits`" in found.kept[1]
