"""A parameter out of range is an error that names it; one that is traced is a boolean."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax import Array
from jax.nn import softmax
from programs.counted import COUNTED
from programs.laws import FAST, build, loosely
from programs.measured import MEASURED
from programs.rows import OWN

from variate.programs.distributions import check_parameters, parameters_valid

ROWS = COUNTED | MEASURED | OWN
HALVES = jnp.ones(2) / 2

# What is wrong, and the words for it.
WRONG = [
    (lambda: dist.Normal(0.0, -1.0), "Normal(scale) must be greater than 0, got scale = -1."),
    (lambda: dist.Normal(jnp.array([0.0, jnp.nan]), 1.0), "Normal(loc) must be finite, got loc[1] = nan"),
    (lambda: dist.Gamma(jnp.inf, 1.0), "Gamma(concentration) must be finite, got concentration = inf"),
    (lambda: dist.LogNormal(0.0, 0.0), "LogNormal(scale) must be greater than 0, got scale = 0."),
    (lambda: dist.Bernoulli(1.5), "BernoulliProbs(probs) must be between 0 and 1, got probs = 1.5"),
    (lambda: dist.Bernoulli(logits=jnp.inf), "BernoulliLogits(logits) must be finite, got logits = inf"),
    (
        lambda: dist.Binomial(-1, 0.5),
        "BinomialProbs(total_count) must be a whole number of at least 0, got total_count = -1",
    ),
    (lambda: dist.Poisson(-2.0), "Poisson(rate) must be at least 0, got rate = -2."),
    (
        lambda: dist.Categorical(jnp.array([[0.5, 0.5], [0.5, 0.4]])),
        "CategoricalProbs(probs) must be probabilities that sum to 1 along the last axis, got probs[1] = [0.5, 0.4]",
    ),
    (
        lambda: dist.Dirichlet(jnp.array([[1.0, 2.0], [3.0, -1.0]])),
        "Dirichlet(concentration) must be greater than 0, got concentration[1, 1] = -1.",
    ),
    (
        lambda: dist.LowerTruncatedPowerLaw(-0.5, 1.0),
        "LowerTruncatedPowerLaw(alpha) must be less than -1, got alpha = -0.5",
    ),
    (
        lambda: dist.BetaProportion(1.0, 1.0),
        "BetaProportion(mean) must be between 0 and 1, both excluded, got mean = 1.",
    ),
    (lambda: dist.Uniform(1.0, 0.5), "Uniform(high) must be greater than low, got high = 0.5"),
    (lambda: dist.Uniform(0.0, jnp.array([1.0, jnp.inf])), "Uniform(high) must be finite, got high[1] = inf"),
    (lambda: dist.DiscreteUniform(3, 2), "DiscreteUniform(high) must be at least low, got high = 2"),
    (
        lambda: dist.TruncatedNormal(0.0, 1.0, low=2.0, high=1.0),
        "TwoSidedTruncatedDistribution(high) must be greater than low, got high = 1.",
    ),
    (
        lambda: dist.TruncatedNormal(0.0, 1.0, low=jnp.nan, high=1.0),
        "TwoSidedTruncatedDistribution(low) must be a number, got low = nan",
    ),
    (
        lambda: dist.MultivariateNormal(0.0, scale_tril=jnp.array([[1.0, 0.0], [0.0, -1.0]])),
        "MultivariateNormal(scale_tril) must be a lower triangular matrix with a positive diagonal, got scale_tril =",
    ),
    (
        lambda: dist.Wishart(1.0, scale_tril=jnp.eye(3)),
        "Cholesky(concentration) must be finite and greater than 2 (3 x 3 matrices), got concentration = 1.",
    ),
    (
        lambda: dist.OrderedLogistic(0.0, jnp.array([1.0, 0.0])),
        "OrderedLogistic(cutpoints) must be increasing along the last axis, got cutpoints = [1., 0.]",
    ),
    (
        lambda: dist.Normal(jnp.zeros(3), -1.0).to_event(1).expand((2,)).mask(False),
        "Normal(scale) must be greater than 0, got scale",
    ),
    (
        lambda: dist.ZeroInflatedProbs(dist.Poisson(jnp.array([1.0, -1.0])), 0.5),
        "Poisson(rate) must be at least 0, got rate[1] = -1.",
    ),
    (
        lambda: dist.TransformedDistribution(dist.Normal(jnp.nan, 1.0), dist.transforms.ExpTransform()),
        "Normal(loc) must be finite, got loc = nan",
    ),
    (
        lambda: dist.MixtureSameFamily(dist.Categorical(HALVES), dist.Normal(jnp.zeros(2), jnp.array([1.0, -1.0]))),
        "Normal(scale) must be greater than 0, got scale[1] = -1.",
    ),
    (
        lambda: dist.MixtureGeneral(dist.Categorical(HALVES / 2), [dist.Normal(0.0, 1.0)] * 2),
        "CategoricalProbs(probs) must be probabilities that sum to 1 along the last axis, got probs = [0.25, 0.25]",
    ),
]


@pytest.mark.parametrize(("make", "message"), WRONG)
def test_a_wrong_parameter_is_named(make: Any, message: str) -> None:
    with numpyro.validation_enabled(False):
        d = loosely(make)()
    with pytest.raises(ValueError, match=r"^the draw 'gate': ") as error:
        check_parameters(d, "gate")
    assert message in str(error.value)
    assert not parameters_valid(d)

    @jax.jit
    def traced(d: Any) -> Array:
        check_parameters(d, "gate")  # has nothing to say: the values are not known
        return parameters_valid(d)

    assert not traced(d)
    with pytest.raises(ValueError, match=r"^the draw 'gate': "):
        jax.jit(lambda: check_parameters(d, "gate"))()


@pytest.mark.wide
@pytest.mark.parametrize("name", ROWS)
def test_right_parameters_pass(name: str) -> None:
    row = ROWS[name]
    check_parameters(build(row), name)
    valid = jax.jit(lambda arrays: parameters_valid(build(row, **arrays)), compiler_options=FAST)
    assert valid(row.parameters)


def test_a_bound_of_a_truncated_distribution_may_be_infinite() -> None:
    check_parameters(dist.TruncatedNormal(0.0, 1.0, low=-jnp.inf, high=1.0), "x")


def test_many_probabilities_in_single_precision() -> None:
    probs = softmax(3 * jax.random.normal(jax.random.key(0), (64, 4096), jnp.float32))
    for off, valid in ((0, True), (4e-6, True), (1e-4, False)):
        with numpyro.validation_enabled(False):
            d = loosely(dist.CategoricalProbs)(probs * (1 + off))
        assert parameters_valid(d) == valid
    assert not np.any(loosely(dist.constraints.simplex)(probs * (1 + 4e-6)))  # NumPyro refuses them
