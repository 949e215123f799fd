"""Denoisers: closed forms against quadrature and derivatives, and what is made of others against what it should be."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.problems import PROCESSES, mixture

from variate.diffusion import (
    DDIM,
    EDM,
    AnglePrediction,
    ClassifierFreeGuidance,
    ClassifierGuidance,
    DataPrediction,
    DataSet,
    Denoiser,
    DynamicThreshold,
    EpsilonScaling,
    ExactDenoiser,
    GaussianMixture,
    Level,
    Mixture,
    NoisePrediction,
    Prediction,
    Product,
    ScorePrediction,
    StaticThreshold,
    VelocityPrediction,
    check_denoiser,
    edm,
    sample,
)

PROCESS = PROCESSES["variance preserving"]
MODEL = mixture(PROCESS)
PARTS = [
    GaussianMixture(PROCESS, [1.0], MODEL.means[k : k + 1], np.asarray(c)[None])
    for k, c in enumerate([[[0.2, 0.1], [0.1, 0.3]], [[0.4, 0.0], [0.0, 0.1]]])
]
POINTS = np.random.default_rng(0).normal(size=(7, 2))
LEVELS = PROCESS.level(jnp.asarray([0.02, 0.3, 0.6, 0.9]))
XS = jnp.asarray(np.random.default_rng(1).normal(size=(4, 5, 2)))


def asked(model: Denoiser, x: Any = XS, levels: Level = LEVELS) -> Prediction:
    """Its predictions at five points of each of four times."""
    each = jax.vmap(model.predict, (0, None))
    return jax.jit(jax.vmap(each))(x, levels)


def same(model: Denoiser, expected: Denoiser, rtol: float = 1e-9) -> None:
    for found, wanted in zip(asked(model), asked(expected), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol)


# Closed forms.


def by_quadrature(model: ExactDenoiser, density: Callable[[Any], Any]) -> None:
    """In one dimension: the density of a noisy point, and the mean of the data behind it, are integrals."""
    data, step = np.linspace(-6, 6, 6001, retstep=True)
    found = jax.jit(lambda x, t: (model.log_density(x, t), model.data(x, t)))
    for t in (0.1, 0.5):
        level = model.process.level(t)
        alpha, sigma = float(level.alpha), float(level.sigma)
        for x in (-0.7, 0.4):
            joint = density(data) * np.exp(-0.5 * ((x - alpha * data) / sigma) ** 2) / np.sqrt(2 * np.pi) / sigma
            total = joint.sum() * step
            wanted = np.log(total), [(joint * data).sum() * step / total]
            for one, other in zip(found(jnp.asarray([x]), t), wanted, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-9)


def normals(x: Any) -> Any:
    return sum(w * np.exp(-0.5 * (x - m) ** 2 / v) / np.sqrt(2 * np.pi * v) for w, m, v in zip(*NORMALS, strict=True))


NORMALS = ([0.3, 0.7], [-1.0, 0.5], [0.04, 0.09])


def test_a_mixture_of_normals_is_what_quadrature_finds() -> None:
    weights, means, variances = NORMALS
    column = np.asarray(means)[:, None]
    by_quadrature(GaussianMixture(PROCESS, weights, column, variances), normals)
    with pytest.raises(AssertionError):
        by_quadrature(GaussianMixture(PROCESS, weights, column, np.sqrt(variances)), normals)


EXACT: dict[str, ExactDenoiser] = {
    "mixture of normals": MODEL,
    "data set": DataSet(PROCESS, POINTS, block=3),
    "mixture of models": Mixture([PARTS[0], DataSet(PROCESS, POINTS)], [1.0, 3.0]),
}


class Half(ExactDenoiser):
    """The mutant: the density of the halved exponent."""

    model: ExactDenoiser

    @property
    def process(self) -> Any:
        return self.model.process

    def predict(self, x: Any, level: Level) -> Prediction:
        return self.model.predict(x, level)

    def log_marginal(self, x: Any, level: Level) -> Any:
        return 0.5 * self.model.log_marginal(x, level)


def knows_its_score(model: ExactDenoiser) -> None:
    """The score is the gradient of the log density, and both forms of a prediction make up the point."""
    slope = jax.jit(jax.vmap(jax.vmap(jax.grad(model.log_marginal), (0, None))))(XS, LEVELS)
    found = asked(model)
    alpha, sigma = (np.asarray(value)[:, None, None] for value in LEVELS[1:])
    np.testing.assert_allclose(-found.noise / sigma, slope, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(alpha * found.data + sigma * found.noise, XS, rtol=1e-9)


@pytest.mark.parametrize("name", EXACT)
def test_the_score_is_the_gradient_of_the_log_density(name: str) -> None:
    knows_its_score(EXACT[name])


def test_of_another_density_it_is_not() -> None:
    with pytest.raises(AssertionError):
        knows_its_score(Half(MODEL))


def test_a_data_set_is_a_mixture_of_normals_without_variance() -> None:
    masses = GaussianMixture(PROCESS, np.ones(7), POINTS, np.zeros(7))
    for block in (3, 256):
        same(DataSet(PROCESS, POINTS, block), masses)
    with pytest.raises(AssertionError):
        same(DataSet(PROCESS, POINTS[:6]), masses)
    x, level = XS[0, 0], PROCESS.level(0.3)
    np.testing.assert_allclose(DataSet(PROCESS, POINTS, 3).log_marginal(x, level), masses.log_marginal(x, level))


def test_draws_of_a_data_set_are_its_points() -> None:
    run = sample(jax.random.key(2), DataSet(PROCESS, POINTS, 3), DDIM(), edm(PROCESS, 30), (40, 2))
    apart = np.linalg.norm(np.asarray(run.values)[:, None] - POINTS, axis=-1)
    np.testing.assert_allclose(apart.min(axis=1), 0, atol=1e-9)
    assert len(set(apart.argmin(axis=1))) > 1


# Parameterizations.

SAYS: dict[str, Any] = {
    "data": (DataPrediction, MODEL.data),
    "noise": (NoisePrediction, MODEL.noise),
    "score": (ScorePrediction, MODEL.score),
    "velocity": (VelocityPrediction, MODEL.velocity),
    "angle": (AnglePrediction, lambda x, t: PROCESS.alpha(t) * MODEL.noise(x, t) - PROCESS.sigma(t) * MODEL.data(x, t)),
}


@pytest.mark.parametrize("name", SAYS)
def test_every_parameterization_is_the_same_model(name: str) -> None:
    kind, function = SAYS[name]
    same(kind(PROCESS, function), MODEL)
    _, other = SAYS[{"velocity": "angle", "angle": "velocity", "noise": "score"}.get(name, "noise")]
    with pytest.raises(AssertionError):
        same(kind(PROCESS, other), MODEL)


DATA = jax.vmap(MODEL.draw)(jax.random.split(jax.random.key(7), 300))


@pytest.mark.parametrize("name", ["noise", "velocity"])
def test_a_wrong_parameterization_is_told_from_the_right_one(name: str) -> None:
    kind, function = SAYS[name]
    wrong = NoisePrediction if name != "noise" else DataPrediction
    with pytest.raises(ValueError, match=f"the same function as {kind.__name__} is surely better"):
        check_denoiser(jax.random.key(0), wrong(PROCESS, function), DATA)


def test_a_right_one_has_the_error_of_an_exact_denoiser() -> None:
    """For one normal it is known: the variance of the noise given the point."""
    model = GaussianMixture(PROCESS, [1.0], [[0.3, -0.2]], [0.25])
    data = jax.vmap(model.draw)(jax.random.split(jax.random.key(8), 2000))
    errors = check_denoiser(jax.random.key(1), model, data)
    level = PROCESS.level(jnp.asarray(np.geomspace(1e-3, 1.0, 5)))
    known = 0.25 * level.alpha**2 / (0.25 * level.alpha**2 + level.sigma**2)
    assert np.all(np.abs(np.asarray(errors.value - known)) < 5.3 * np.asarray(errors.stderr))  # 1e-7 each


# What is made of others.


def share(x: Any, t: Any) -> Any:
    """log p_t(the first part | x)."""
    return jnp.log(0.4) + PARTS[0].log_density(x, t) - MODEL.log_density(x, t)


def test_a_mixture_of_models_is_the_model_of_the_mixture() -> None:
    same(Mixture(PARTS, [2.0, 3.0]), MODEL)
    with pytest.raises(AssertionError):
        same(Mixture(PARTS), MODEL)


def test_an_exact_classifier_leads_to_the_condition() -> None:
    same(ClassifierGuidance(MODEL, share), PARTS[0], 1e-8)
    with pytest.raises(AssertionError):
        same(ClassifierGuidance(MODEL, share, 2.0), PARTS[0], 1e-8)


def test_guidance_without_a_classifier_is_of_the_scores() -> None:
    guided = ClassifierFreeGuidance(PARTS[0], MODEL, 3.0)
    same(ClassifierFreeGuidance(PARTS[0], MODEL, 1.0), PARTS[0])
    same(guided, Product([PARTS[0], MODEL], [3.0, -2.0]))
    same(guided, ClassifierGuidance(MODEL, share, 3.0), 1e-8)
    with pytest.raises(AssertionError):
        same(guided, ClassifierFreeGuidance(PARTS[0], MODEL, 2.0))  # w for s = 1 + w


def test_a_product_has_the_sum_of_the_scores() -> None:
    class Score(ExactDenoiser):
        process: Any

        def predict(self, x: Any, level: Level) -> Prediction:
            slope = jax.grad(self.log_marginal)(x, level)
            return Prediction((x + level.sigma**2 * slope) / level.alpha, -level.sigma * slope)

        def log_marginal(self, x: Any, level: Level) -> Any:
            return 2 * PARTS[0].log_marginal(x, level) + 0.5 * PARTS[1].log_marginal(x, level)

    same(Product(PARTS, [2.0, 0.5]), Score(PROCESS), 1e-8)
    with pytest.raises(AssertionError):
        same(Product(PARTS, [2.0, 0.4]), Score(PROCESS), 1e-8)


def test_thresholds_keep_the_data_in_range() -> None:
    x, level = jnp.asarray([0.1, -2.0, 3.0, 0.5]), EDM().level(0.5)
    model = DataPrediction(EDM(), lambda x, t: x)
    static = StaticThreshold(model, 1.0).predict(x, level)
    np.testing.assert_allclose(static.data, [0.1, -1.0, 1.0, 0.5])
    np.testing.assert_allclose(static.data + 0.5 * static.noise, x)
    dynamic = DynamicThreshold(model, 2 / 3, 1.0).predict(x, level)  # the quantile is 2, between two of the four
    np.testing.assert_allclose(dynamic.data, [0.05, -1.0, 1.0, 0.25])
    np.testing.assert_allclose(dynamic.data + 0.5 * dynamic.noise, x)
    within = DataPrediction(EDM(), lambda x, t: x / 4)
    same_as = within.predict(x, level)
    for kept in (StaticThreshold(within, 1.0), DynamicThreshold(within, 2 / 3, 1.0)):
        np.testing.assert_array_equal(kept.predict(x, level), same_as)


@pytest.mark.parametrize("factor", [1.01, lambda t: 1.0 + 0.02 * t])
def test_scaled_noise_is_that_of_a_function_that_says_less(factor: Any) -> None:
    number = factor if callable(factor) else lambda t: factor
    same(EpsilonScaling(MODEL, factor), NoisePrediction(PROCESS, lambda x, t: MODEL.noise(x, t) / number(t)))
    with pytest.raises(AssertionError):
        same(EpsilonScaling(MODEL, factor), MODEL)


@pytest.mark.parametrize("threshold", [StaticThreshold, functools.partial(DynamicThreshold, quantile=0.5)])
def test_a_threshold_lets_failures_be_seen(threshold: Any) -> None:
    for broken in (np.inf, -np.inf, np.nan):
        model = DataPrediction(PROCESS, lambda x, t, broken=broken: x.at[0].set(broken))
        found = threshold(model).predict(jnp.zeros(4), PROCESS.level(jnp.asarray(0.5)))
        assert np.isnan(found.data[0])
        assert not np.isfinite(found.noise[0])
