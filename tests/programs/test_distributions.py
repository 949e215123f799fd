"""Exact values and scores where they are known, and what counts as a distribution."""

from typing import Any

import flowjax.distributions
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from programs.counted import COUNTED
from programs.laws import FAST, build, loosely
from programs.measured import MEASURED
from programs.rows import OWN, Pair, Triangular
from scipy import stats

from variate.programs import supports
from variate.programs.distributions import (
    drawn_log_prob,
    is_discrete,
    is_distribution,
    log_prob,
    sample,
)
from variate.programs.structure import take_apart
from variate.programs.supports import support_of

ROWS = COUNTED | MEASURED | OWN
ZEROS = jnp.zeros((2, 3))
BITS = jnp.array([[0, 1, 1], [1, 0, 1]])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_score_at_a_logit_of_zero(n: int, dtype: Any) -> None:
    make = dist.BernoulliLogits if n == 1 else lambda logits: dist.BinomialLogits(logits, n)

    @jax.jit
    def derivatives(logit: Array, x: int | Array) -> tuple[Array, Array, Array]:
        density = lambda logit: log_prob(make(logit), x)  # noqa: E731
        return jax.grad(density)(logit), jax.grad(jax.grad(density))(logit), jax.hessian(density)(logit)

    for x in range(n + 1):
        assert derivatives(jnp.zeros((), dtype), x) == (x - n / 2, -n / 4, -n / 4)


WRAPPERS = {
    "bare": lambda logits: dist.Bernoulli(logits=logits),
    "to_event": lambda logits: dist.Bernoulli(logits=logits).to_event(1),
    "expanded": lambda logits: dist.Bernoulli(logits=logits[:1]).expand((2, 3)),
    "masked": lambda logits: dist.Bernoulli(logits=logits).mask(BITS == 1),
    "masked to_event expanded": lambda logits: (
        dist.Bernoulli(logits=logits).to_event(2).expand((4,)).mask(jnp.arange(4) < 2)
    ),
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
    bits = BITS.astype(float)
    weight = {"masked": bits, "masked to_event expanded": 2.0}.get(name, 1.0)
    expected = weight * (bits - 0.5)
    if name == "expanded":
        expected = expected.at[0].add(expected[1]).at[1].set(0)
    np.testing.assert_allclose(score, expected, rtol=0, atol=1e-15)


EXACT = [
    (dist.BernoulliLogits(jnp.nan, validate_args=False), 0, jnp.nan),
    (dist.BernoulliProbs(jnp.nan, validate_args=False), 0, jnp.nan),
    (dist.BernoulliLogits(0.3, validate_args=False), 0.25, 0.25 * 0.3 - np.log1p(np.exp(0.3))),  # a grey pixel
    (dist.BernoulliProbs(0.3, validate_args=False), 0.25, 0.25 * np.log(0.3) + 0.75 * np.log(0.7)),
    (dist.GeometricProbs(1.0), 0, 0.0),
    (dist.Poisson(0.0), 0, 0.0),
    (dist.Poisson(0.0), 1, -jnp.inf),
    (dist.BetaBinomial(100.0, 0.5, 40), 13, stats.betabinom(40, 100.0, 0.5).logpmf(13)),
    (dist.ZeroInflatedProbs(dist.Poisson(2000.0), 0.0), 0, -2000.0),
    (dist.HurdleProbs(dist.Poisson(2.0), 1.0), 1, -jnp.inf),
    (
        dist.MixtureSameFamily(dist.Categorical(jnp.array([0.0, 1.0])), dist.Normal(jnp.array([0.0, 60.0]), 1.0)),
        0.0,
        -1800 - 0.5 * np.log(2 * np.pi),
    ),
]


@pytest.mark.wide
@pytest.mark.parametrize(("d", "x", "value"), EXACT)
def test_exact_values(d: Any, x: Any, value: float) -> None:
    np.testing.assert_allclose(log_prob(d, x), value, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(log_prob)(d, x), value, rtol=1e-12)


@pytest.mark.parametrize(("logit", "x", "value"), [(jnp.inf, 1, 0.0), (jnp.inf, 0, -jnp.inf), (-jnp.inf, 0, 0.0)])
def test_an_infinite_logit_that_numpyro_could_not_see(logit: float, x: int, value: float) -> None:
    assert jax.jit(lambda logit: log_prob(dist.BernoulliLogits(logit), x))(logit) == value


@pytest.mark.wide
@pytest.mark.parametrize("name", [*COUNTED, "DoublyTruncatedPowerLaw", "ProjectedNormal", "MixtureGeneral"])
def test_densities_are_numpyros_where_it_is_right(name: str, key: Array) -> None:

    def densities(key: Array) -> tuple[Array, Array]:
        d = build(ROWS[name])
        x = sample(d, key)
        return log_prob(d, x), loosely(d.log_prob)(x)

    ours, theirs = jax.jit(densities, compiler_options=FAST)(key)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rate", [0.0, jnp.nan])
def test_a_hurdle_over_nothing_but_zeros_comes_to_an_end(rate: float, key: Array) -> None:
    d = dist.HurdleProbs(dist.Poisson(rate, validate_args=False), 0.5)
    assert np.all(np.asarray(jax.jit(jax.vmap(lambda key: sample(d, key)))(jax.random.split(key, 8))) <= 0)


@pytest.mark.wide
@pytest.mark.parametrize("name", MEASURED)
def test_a_distribution_made_anew_knows_its_support(name: str, key: Array) -> None:
    """NumPyro forgets Levy's, and then cannot say whether a value is in it."""
    d = build(MEASURED[name])
    anew = take_apart(d)[1].build(take_apart(d)[0])
    assert type(support_of(anew)) is type(support_of(d))
    whether = lambda key: jnp.sum(drawn_log_prob(anew, sample(d, key), checked=True))  # noqa: E731
    assert jax.eval_shape(whether, key).shape == ()


def test_a_density_below_the_edge_of_levy_is_zero() -> None:
    d = jax.tree.map(lambda leaf: leaf, dist.Levy(0.3, 1.4))
    assert not bool(supports.checked(d, jnp.asarray(0.2)).inside)
    nested = jax.tree.map(lambda leaf: leaf, dist.Levy(jnp.zeros(3), 1.4).to_event(1))
    assert bool(supports.checked(nested, jnp.ones(3)).inside)


def test_is_distribution() -> None:
    mine = (Triangular(jnp.ones(())), Pair(jnp.ones(()), jnp.ones(()) / 2))
    for d in (dist.Normal(0.0, 1.0), flowjax.distributions.Normal(0.0, 1.0), *mine):
        assert is_distribution(d)
    for other in (Triangular, dist.Normal, 3.0, None, jnp.ones(3), np.random.default_rng(0), object()):
        assert not is_distribution(other)

    class Unregistered:
        sample = log_prob = lambda self, x: x

    assert not is_distribution(Unregistered())


@pytest.mark.parametrize("name", ROWS)
def test_is_discrete(name: str) -> None:
    shapes: list[Any] = []

    def look(parameters: dict[str, Any], key: Array) -> Array:
        d = build(ROWS[name], **parameters)
        value = sample(d, key)
        shapes.append(is_discrete(d, jax.eval_shape(lambda: value)))
        shapes.append(is_discrete(d, value))
        return log_prob(d, value)

    jax.eval_shape(look, ROWS[name].parameters, jax.random.key(0))
    atoms = ("HurdleGamma", "HurdleLogNormal")
    expected = name == "an Equinox module" or (name in COUNTED and name not in atoms)
    assert shapes == [expected, expected]


SINGLE = """BernoulliLogits BinomialProbs Poisson ZeroInflatedProbs HurdlePoisson MixtureSameFamily GammaPoisson
BetaBinomial DoublyTruncatedPowerLaw""".split()


@pytest.mark.wide
@pytest.mark.parametrize("name", SINGLE)
def test_single_precision(name: str, key: Array) -> None:
    row = ROWS[name]
    single = {k: jnp.asarray(v, jnp.float32) for k, v in row.parameters.items()}

    def slopes(key: Array) -> list[dict[str, Array]]:
        x = sample(build(row, **single), key)
        density = lambda parameters: jnp.sum(log_prob(build(row, **parameters), x))  # noqa: E731
        return [jax.grad(density)(parameters) for parameters in (single, row.parameters)]

    for rough, exact in zip(*map(jax.tree.leaves, jax.jit(slopes, compiler_options=FAST)(key)), strict=True):
        np.testing.assert_allclose(rough, exact, rtol=1e-3, atol=1e-4)
