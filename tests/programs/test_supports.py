"""Elements and finite supports: their log probabilities add up to the density, and their probabilities to 1."""

from typing import Any

import flowjax.distributions
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from jax.nn import sigmoid
from programs.laws import loosely
from programs.rows import Triangular

from variate.programs.distributions import (
    element_log_probs,
    element_probs,
    elementwise,
    log_prob,
    sample,
    support,
    unmasked,
)
from variate.programs.supports import constants_of

ZEROS = jnp.zeros((2, 3))
BITS = jnp.array([[0, 1, 1], [1, 0, 1]])


CONSTANTS = {
    "triangle": (dist.constraints.lower_cholesky, (2, 2), (1,)),
    "correlations": (dist.constraints.corr_cholesky, (3, 3), (0, 1, 2, 5)),
    "matrix": (dist.constraints.corr_matrix, (2, 2), (0, 3)),
    "several": (dist.constraints.independent(dist.constraints.corr_cholesky, 1), (2, 2, 2), (0, 1, 4, 5)),
    "full": (dist.constraints.positive_definite, (2, 2), ()),
    "simplex": (dist.constraints.simplex, (3,), ()),
    "edges unknown": (dist.constraints.dependent, (), ()),
}


@pytest.mark.wide
@pytest.mark.parametrize("name", CONSTANTS)
def test_elements_that_no_value_has_otherwise(name: str) -> None:
    support, shape, places = CONSTANTS[name]
    assert constants_of(support, shape) == places


ELEMENTS = {
    "Normal to_event": lambda: dist.Normal(ZEROS, 1.0).to_event(1),
    "all to_event": lambda: dist.Normal(ZEROS, 1.0).to_event(2),
    "to_event twice": lambda: dist.Normal(ZEROS, 1.0).to_event(1).to_event(1),
    "expanded to_event": lambda: dist.Normal(ZEROS, 1.0).to_event(1).expand((4, 2)),
    "outer expansion": lambda: dist.ExpandedDistribution(dist.Normal(ZEROS[:1], 1.0).to_event(1), (4, 2)),
    "masked to_event": lambda: dist.Normal(ZEROS, 1.0).to_event(1).mask(jnp.array([True, False])),
    "masked inside": lambda: dist.Normal(ZEROS, 1.0).mask(BITS == 1).to_event(2),
    "masked expansion": lambda: dist.Bernoulli(logits=ZEROS).to_event(1).expand((4, 2)).mask(jnp.arange(2) == 1),
    "not at all": lambda: dist.Normal(ZEROS, 1.0).to_event(1).mask(False),
    "vectors": lambda: dist.Dirichlet(jnp.ones((2, 3))).to_event(1),
    "batch": lambda: dist.Normal(ZEROS, 1.0),
    "a user's own": lambda: Triangular(jnp.ones(())),
}


@pytest.mark.wide
@pytest.mark.parametrize("name", ELEMENTS)
def test_element_densities_add_up(name: str, key: Array) -> None:
    d = loosely(ELEMENTS[name])()
    x = sample(d, key)
    whole, parts = log_prob(d, x), jax.jit(lambda d, x: log_prob(elementwise(d), x))(d, x)
    assert parts.shape[: whole.ndim] == whole.shape
    np.testing.assert_allclose(jnp.sum(parts, axis=tuple(range(whole.ndim, parts.ndim))), whole, rtol=1e-14)
    sizes = {"vectors": (2,), "a user's own": (), "batch": (2, 3), "not at all": (2, 3)}
    assert parts.shape == sizes.get(name, x.shape)


FINITE = {
    "BernoulliLogits": (lambda: dist.Bernoulli(logits=ZEROS + 0.3), [0, 1]),
    "BernoulliProbs": (lambda: dist.Bernoulli(ZEROS + 0.3), [0, 1]),
    "BinomialLogits": (lambda: dist.Binomial(9, logits=ZEROS + 0.3), range(10)),
    "BinomialProbs": (lambda: dist.Binomial(np.array([9, 9, 9]), ZEROS + 0.3), range(10)),
    "BetaBinomial": (lambda: dist.BetaBinomial(1.7, 2.4, 40), range(41)),
    "CategoricalLogits": (lambda: dist.Categorical(logits=jnp.ones((2, 3, 4))), range(4)),
    "CategoricalProbs": (lambda: dist.Categorical(jnp.array([0.2, 0.0, 0.8])), range(3)),
    "DiscreteUniform": (lambda: dist.DiscreteUniform(-1, np.array([4, 4])), range(-1, 5)),
    "OrderedLogistic": (lambda: dist.OrderedLogistic(0.3, jnp.array([-0.5, 0.4])), range(3)),
    "ZeroInflatedProbs": (lambda: dist.ZeroInflatedProbs(dist.Binomial(3, 0.2), 0.3), range(4)),
    "ZeroInflatedLogits": (lambda: dist.ZeroInflatedLogits(dist.Binomial(3, 0.2), 0.3), range(4)),
    "to_event": (lambda: dist.Bernoulli(ZEROS + 0.3).to_event(2), [0, 1]),
    "expanded": (lambda: dist.Binomial(3, ZEROS[:1] + 0.3).expand((5, 2, 3)), range(4)),
    "expanded vectors": (lambda: dist.Categorical(jnp.ones(4) / 4).expand((2, 3)).to_event(1), range(4)),
    "masked": (lambda: dist.Bernoulli(ZEROS + 0.3).to_event(1).mask(jnp.array([True, False])), [0, 1]),
    "not at all": (lambda: dist.Bernoulli(ZEROS + 0.3).mask(False), [0, 1]),
}


@pytest.mark.wide
@pytest.mark.parametrize("name", FINITE)
def test_probabilities_of_a_finite_support_sum_to_one(name: str) -> None:
    make, values = FINITE[name]
    d = loosely(make)()
    table = element_log_probs(d)
    np.testing.assert_array_equal(support(d), jnp.array(values))
    element = elementwise(unmasked(d))
    assert table.shape == (len(values), *element.batch_shape)
    np.testing.assert_allclose(jnp.sum(jnp.exp(table), axis=0), 1, rtol=0, atol=1e-10)
    for row, value in zip(table, values, strict=True):
        np.testing.assert_array_equal(row, log_prob(element, jnp.full(element.batch_shape, value)))
    np.testing.assert_allclose(jax.jit(lambda: element_log_probs(d))(), table, rtol=1e-12)
    np.testing.assert_allclose(element_probs(d), jnp.exp(table), rtol=1e-12)


@pytest.mark.wide
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    "make", [dist.BernoulliProbs, lambda p: dist.CategoricalProbs(jnp.stack([1 - p, p])).expand((3,)).to_event(1)]
)
def test_probabilities_have_derivatives_at_the_edge(make: Any, p: float, dtype: Any) -> None:
    slope = jax.jacfwd(lambda p: element_probs(make(p)))(jnp.asarray(p, dtype))
    np.testing.assert_array_equal(
        slope, jnp.broadcast_to(jnp.array([-1, 1]).reshape(2, *(1,) * (slope.ndim - 1)), slope.shape)
    )


def test_element_probabilities_of_traced_parameters() -> None:
    def make(logits: Array) -> Any:
        return dist.Binomial(3, logits=logits).to_event(1)

    def mean(logits: Array) -> Array:
        d = make(logits)
        values = support(d)
        assert values is not None
        return jnp.sum(jnp.exp(element_log_probs(d)) * values[:, None].astype(float))

    logits = jnp.array([0.0, 0.5, -2.0])
    slope = 3 * sigmoid(logits) * (1 - sigmoid(logits))
    np.testing.assert_allclose(jax.jit(jax.grad(mean))(logits), slope, rtol=1e-12)
    batch = jax.jit(jax.vmap(jax.grad(mean)))(jnp.stack([logits, logits + 1]))
    np.testing.assert_allclose(batch[0], slope, rtol=1e-12)
    curvature = slope * (1 - 2 * sigmoid(logits))
    np.testing.assert_allclose(jnp.diag(jax.hessian(mean)(logits)), curvature, rtol=1e-10, atol=1e-15)


def test_no_support() -> None:
    cases = [
        dist.Normal(0.0, 1.0),
        dist.Poisson(1.0),
        dist.Multinomial(3, jnp.ones(3) / 3),
        dist.MixtureSameFamily(dist.Categorical(jnp.ones(2) / 2), dist.Bernoulli(jnp.ones(2) / 2)),
        dist.Binomial(np.array([2, 3]), 0.5),
        dist.DiscreteUniform(0, np.array([2, 3])),
        dist.ZeroInflatedProbs(dist.DiscreteUniform(1, 3), 0.5),  # NumPyro lists 1, 2, 3
        flowjax.distributions.Normal(0.0, 1.0),
        Triangular(jnp.ones(())),
    ]
    for d in cases:
        assert support(d) is None
    with pytest.raises(ValueError, match="Normal has no finite support"):
        element_log_probs(cases[0])

    def traced(n: Array) -> Array:
        assert support(dist.Binomial(n, 0.5)) is None
        assert support(dist.DiscreteUniform(0, n)) is None
        return n

    jax.jit(traced)(jnp.array(3))
    jax.vmap(traced)(jnp.array([3, 4]))


def test_a_mask_changes_the_density_and_not_the_draw(key: Array) -> None:
    base = dist.Bernoulli(ZEROS + 0.3)
    masked = base.mask(BITS == 1).to_event(1)
    np.testing.assert_array_equal(sample(masked, key), sample(base, jax.random.clone(key)))
    np.testing.assert_array_equal(log_prob(masked, BITS), jnp.sum(jnp.where(BITS == 1, log_prob(base, BITS), 0.0), 1))
    np.testing.assert_array_equal(log_prob(unmasked(masked), BITS), jnp.sum(log_prob(base, BITS), 1))
