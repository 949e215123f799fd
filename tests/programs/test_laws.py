"""Every distribution obeys the two laws; NumPyro's own densities and samplers do not where ours replace them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from programs.counted import COUNTED
from programs.laws import ALPHA, FAST, Methods, bins, build, draw, loosely, p_value, worst_derivative
from programs.measured import MEASURED
from programs.rows import OWN
from scipy import stats

from variate.programs import distributions

ROWS = COUNTED | MEASURED | OWN
NOT_IN_THE_TABLE = {
    "Distribution": "is abstract",
    "Delta": "has no density: its draws are one point",
    "Unit": "draws nothing",
    "ImproperUniform": "cannot be drawn from",
    "IntervalCensoredDistribution": "draws a number, and its density takes the two ends of an interval",
    "GaussianCopulaBeta": "draws with a package that is no dependency",
}
NUMPYRO = Methods(loosely(lambda d, x: d.log_prob(x)), loosely(lambda d, key: d.sample(key)))
WRONG_DENSITIES = {
    "BernoulliLogits",
    "BernoulliProbs",
    "BetaBinomial",
    "BetaNegativeBinomial",
    "BinomialLogits",
    "BinomialProbs",
    "DoublyTruncatedPowerLaw",
    "GammaPoisson",
    "GeometricProbs",
    "HurdleGamma",
    "HurdlePoisson",
    "HurdleProbs",
    "MixtureGeneral",
    "MixtureSameFamily",
    "MixtureSameFamily of Bernoullis",
    "MultinomialProbs",
    "NegativeBinomial2",
    "NegativeBinomialProbs",
    "Poisson",
    "ProjectedNormal",
    "ProjectedNormal in space",
    "ZeroInflatedLogits",
    "ZeroInflatedPoisson",
    "ZeroInflatedProbs",
}


@pytest.mark.wide
@pytest.mark.slow
@pytest.mark.table
@pytest.mark.parametrize("name", ROWS)
def test_both_laws_hold(name: str, key: Array) -> None:
    row = ROWS[name]
    drawn = draw(row, key)
    assert p_value(row, drawn) >= ALPHA
    if row.parameters or row.law is bins:
        assert worst_derivative(row, drawn) <= 1
    if name in WRONG_DENSITIES:
        assert worst_derivative(row, drawn, NUMPYRO) > 1
    if (mean := jax.jit(lambda: distributions.mean(build(row)), compiler_options=FAST)()) is not None:
        assert deviates(np.asarray(drawn), np.asarray(mean)) >= ALPHA


def deviates(drawn: np.ndarray, mean: np.ndarray) -> float:
    """How probable it is that draws of this mean are so far from it, by the worst of the coordinates (z-tests)."""
    errors = np.std(drawn, axis=0) / len(drawn) ** 0.5
    far = np.abs(np.mean(drawn, axis=0) - mean) / np.where(errors == 0, np.finfo(float).tiny, errors)
    return float(np.min(2 * stats.norm.sf(far)) * mean.size)


def test_means_that_numpyro_has_wrong_are_not_used(key: Array) -> None:
    """Else `Conditional` would be; and the test sees those that are."""
    for i, name in enumerate(("InverseWishartCholesky", "ProjectedNormal", "SineSkewed")):
        law = build(ROWS[name])
        assert distributions.mean(law) is None
        drawn = np.asarray(draw(ROWS[name], jax.random.fold_in(jax.random.clone(key), i)))
        assert deviates(drawn, np.broadcast_to(np.asarray(law.mean), drawn.shape[1:])) < ALPHA


def test_every_distribution_of_numpyro_is_in_the_table() -> None:
    public = {name: getattr(dist, name) for name in {*vars(dist), *dist.__all__}}
    classes = {name for name, x in public.items() if isinstance(x, type) and issubclass(x, dist.Distribution)}
    found: set[str] = set()
    for row in (COUNTED | MEASURED).values():
        jax.eval_shape(lambda arrays, row=row: found.add(type(build(row, **arrays)).__name__), row.parameters)
    assert classes == found | NOT_IN_THE_TABLE.keys()
    assert not found & NOT_IN_THE_TABLE.keys()


def test_numpyros_own_polya_gamma_sampler_is_wrong(key: Array) -> None:
    assert p_value(ROWS["TruncatedPolyaGamma"], draw(ROWS["TruncatedPolyaGamma"], key, NUMPYRO)) < ALPHA


@pytest.mark.parametrize("name", ["HurdleLogits", "HurdlePoisson", "HurdleProbs"])
def test_numpyros_own_hurdle_sampler_uses_a_key_twice(name: str, key: Array) -> None:
    with pytest.raises(jax.errors.KeyReuseError):
        draw(ROWS[name], key, NUMPYRO, 2)


def _scaled(d: Any, key: Array) -> Any:
    return 1.1 * distributions.sample(d, key)


def _seldom(d: Any, key: Array) -> Any:
    first, second = jax.random.split(key)
    return jnp.where(jax.random.bernoulli(first, 0.05), 0, distributions.sample(d, second))


def _deaf(d: Any, x: Array) -> Array:
    """Without the derivative in the scale."""
    return distributions.log_prob(dist.Normal(d.loc, jax.lax.stop_gradient(d.scale)), x)


@pytest.mark.wide
@pytest.mark.parametrize(
    ("name", "law", "mutant"),
    [
        ("Normal", p_value, Methods(sample=_scaled)),
        ("HurdleGamma", p_value, Methods(sample=_seldom)),
        ("Poisson", p_value, Methods(sample=_seldom)),
        ("MultivariateNormal", p_value, Methods(sample=_scaled)),
        ("SineBivariateVonMises", p_value, Methods(sample=_scaled)),
        ("Dirichlet", p_value, Methods(lambda d, x: distributions.log_prob(dist.Dirichlet(1.1 * d.concentration), x))),
        ("Normal", p_value, Methods(lambda d, x: 0.1 + distributions.log_prob(d, x))),
        ("Poisson", p_value, Methods(lambda d, x: 0.1 + distributions.log_prob(d, x))),
        ("Normal", worst_derivative, Methods(_deaf)),
    ],
)
def test_a_mutant_breaks_the_law(name: str, law: Callable[..., float], mutant: Methods, key: Array) -> None:
    drawn = draw(ROWS[name], key, mutant)
    assert law(ROWS[name], drawn, mutant) < ALPHA if law is p_value else law(ROWS[name], drawn, mutant) > 1


def test_a_wrong_second_derivative_breaks_the_law(key: Array) -> None:
    @jax.custom_jvp
    def square(x: Array) -> Array:
        return x * x

    square.defjvps(lambda tangent, result, x: 2 * jax.lax.stop_gradient(x) * tangent)
    row = ROWS["Normal"]
    drawn = draw(row, key)
    right = Methods(lambda d, x: -0.5 * ((x - d.loc) / d.scale) ** 2 - jnp.log(d.scale))
    wrong = Methods(lambda d, x: -0.5 * square((x - d.loc) / d.scale) - jnp.log(d.scale))
    assert worst_derivative(row, drawn, right) <= 1 < worst_derivative(row, drawn, wrong)
