"""What a program asks of a distribution: exact values where they are known, elements, supports, parameters."""

from typing import Any

import flowjax.distributions
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from jax.nn import log_softmax, sigmoid, softmax
from programs.counted import COUNTED
from programs.laws import Row, build, loosely
from programs.measured import MEASURED
from programs.rows import OWN, Pair, Triangular
from variate.programs import distributions
from variate.programs.distributions import (
    check_parameters,
    element_log_probs,
    elementwise,
    is_discrete,
    is_distribution,
    log_prob,
    parameters_valid,
    sample,
    support,
    unmasked,
)

ROWS = COUNTED | MEASURED | OWN
ZEROS = jnp.zeros((2, 3))
BITS = jnp.array([[0, 1, 1], [1, 0, 1]])


# -- a logit of exactly 0 --


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_score_at_a_logit_of_zero(n: int, dtype: Any) -> None:
    make = dist.BernoulliLogits if n == 1 else lambda logits: dist.BinomialLogits(logits, n)
    for x in range(n + 1):
        density = lambda logit, x=x: log_prob(make(logit), x)  # noqa: E731
        assert jax.grad(density)(jnp.zeros((), dtype)) == x - n / 2
        assert jax.grad(jax.grad(density))(jnp.zeros((), dtype)) == -n / 4
        assert jax.jit(jax.hessian(density))(jnp.zeros((), dtype)) == -n / 4


WRAPPERS = {
    "bare": lambda logits: dist.Bernoulli(logits=logits),
    "to_event": lambda logits: dist.Bernoulli(logits=logits).to_event(1),
    "expanded": lambda logits: dist.Bernoulli(logits=logits[:1]).expand((2, 3)),
    "masked": lambda logits: dist.Bernoulli(logits=logits).mask(BITS == 1),
    "masked to_event expanded": lambda logits: dist.Bernoulli(logits=logits).to_event(2).expand((4,)).mask(jnp.arange(4) < 2),
    "zero inflated": lambda logits: dist.ZeroInflatedProbs(dist.Bernoulli(logits=logits), 0.0),
    "mixture": lambda logits: dist.MixtureSameFamily(
        dist.Categorical(jnp.ones(2) / 2), dist.Bernoulli(logits=jnp.stack([logits, logits], -1))
    ),
    "general mixture": lambda logits: dist.MixtureGeneral(
        dist.Categorical(logits=jnp.zeros(2)), [dist.Bernoulli(logits=logits), dist.Bernoulli(logits=logits)]
    ),
    "inside a user's own": lambda logits: Wrapped(dist.Bernoulli(logits=logits)),
}


@jax.tree_util.register_pytree_node_class
class Wrapped:
    def __init__(self, base: Any) -> None:
        self.base = base

    def sample(self, key: Array) -> Array:
        return self.base.sample(key)

    def log_prob(self, x: Array) -> Array:
        return self.base.log_prob(x)

    def tree_flatten(self) -> tuple[tuple[Any], None]:
        return (self.base,), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple[Any]) -> "Wrapped":
        return cls(*children)


@pytest.mark.parametrize("name", WRAPPERS)
def test_score_at_a_logit_of_zero_reaches_through_wrappers(name: str) -> None:
    make = loosely(WRAPPERS[name])
    score = jax.jit(jax.grad(lambda logits: jnp.sum(log_prob(make(logits), BITS))))(ZEROS)
    weight = {"masked": BITS, "masked to_event expanded": 2 * jnp.ones_like(BITS)}.get(name, jnp.ones_like(BITS))
    expected = weight * (BITS - 0.5)
    if name == "expanded":
        expected = expected.at[0].add(expected[1]).at[1].set(0)
    np.testing.assert_allclose(score, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("d", "x", "value"),
    [
        (dist.BernoulliLogits(jnp.inf, validate_args=False), 1, 0.0),
        (dist.BernoulliLogits(jnp.inf, validate_args=False), 0, -jnp.inf),
        (dist.BernoulliLogits(-jnp.inf, validate_args=False), 0, 0.0),
        (dist.BernoulliLogits(jnp.nan, validate_args=False), 0, jnp.nan),
        (dist.BernoulliProbs(jnp.nan, validate_args=False), 0, jnp.nan),
        (dist.BernoulliLogits(0.3, validate_args=False), 0.25, 0.25 * 0.3 - np.log1p(np.exp(0.3))),  # a grey pixel
        (dist.GeometricProbs(1.0), 0, 0.0),
        (dist.Poisson(0.0), 0, 0.0),
        (dist.Poisson(0.0), 1, -jnp.inf),
        (dist.ZeroInflatedProbs(dist.Poisson(2000.0), 0.0), 0, -2000.0),
        (dist.MixtureSameFamily(dist.Categorical(jnp.array([0.0, 1.0])), dist.Normal(jnp.array([0.0, 60.0]), 1.0)), 0.0, -1800 - 0.5 * np.log(2 * np.pi)),
    ],
)  # fmt: skip
def test_exact_values(d: Any, x: Any, value: float) -> None:
    np.testing.assert_allclose(log_prob(d, x), value, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(log_prob)(d, x), value, rtol=1e-12)


def test_densities_are_numpyros_where_it_is_right() -> None:
    for row in (COUNTED | MEASURED).values():
        d = build(row)
        if isinstance(d, dist.SineBivariateVonMises):
            continue
        x = sample(d, jax.random.key(0))
        np.testing.assert_allclose(log_prob(d, x), loosely(d.log_prob)(x), rtol=1e-5, atol=1e-6)
