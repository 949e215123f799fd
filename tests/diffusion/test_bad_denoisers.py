"""Denoisers refuse what they cannot use, and say what they expected."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.laws import LAWS, NOISY
from diffusion.problems import PROCESSES, mixture

from variate.diffusion import (
    EDM,
    ClassifierFreeGuidance,
    ClassifierGuidance,
    DataSet,
    DynamicThreshold,
    EpsilonScaling,
    GaussianMixture,
    Interpolant,
    Mixture,
    NoisePrediction,
    Product,
    Solver,
    StaticThreshold,
    beta,
    check_denoiser,
    cosine,
    critically_damped,
    edm,
    sample,
    uniform,
    uniform_log_snr,
)

PROCESS = PROCESSES["variance preserving"]
MODEL = mixture(PROCESS)
PARTS = [MODEL, MODEL]
POINTS = np.ones((7, 2))
X = jnp.ones(2)
OTHER = mixture(EDM())
KEY = jax.random.key(0)
BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no unconditional model": (lambda: ClassifierFreeGuidance(MODEL, None, 2.0), TypeError, "unconditional must be"),
    "a function for a model": (lambda: StaticThreshold(lambda x, t: x), TypeError, "model must be a denoiser"),
    "two processes": (lambda: ClassifierFreeGuidance(MODEL, OTHER, 2.0), ValueError, "must share a process"),
    "a scale in words": (lambda: ClassifierFreeGuidance(MODEL, MODEL, "2"), TypeError, "scale must be"),
    "a number for a classifier": (lambda: ClassifierGuidance(MODEL, 0.5), TypeError, "log_probability must be a func"),
    "a classifier of points": (lambda: ClassifierGuidance(MODEL, lambda x: x), TypeError, "a point and the time, 2 in"),
    "many probabilities": (
        lambda: ClassifierGuidance(MODEL, lambda x, t: x).predict(X, PROCESS.level(0.5)),
        ValueError,
        "log_probability must return one number",
    ),
    "a mixture with a network": (
        lambda: Mixture([MODEL, NoisePrediction(PROCESS, MODEL.noise)]),
        TypeError,
        r"models\[1\] must know its log density.*NoisePrediction does not",
    ),
    "no list": (lambda: Product(MODEL, [1.0]), TypeError, "models must be a list of denoisers"),
    "a weight too few": (lambda: Product(PARTS, [1.0]), ValueError, "weights must be 2 finite numbers"),
    "weights below zero": (lambda: Mixture(PARTS, [1.0, -1.0]), ValueError, "weights must be positive"),
    "no bound": (lambda: StaticThreshold(MODEL, 0.0), ValueError, "bound must be"),
    "a quantile of two": (lambda: DynamicThreshold(MODEL, 2.0), ValueError, "quantile must be"),
    "no factor": (lambda: EpsilonScaling(MODEL, -1.0), ValueError, "factor must be"),
    "points that are none": (lambda: DataSet(PROCESS, [np.nan]), ValueError, "points must be finite"),
    "draws of another shape": (
        lambda: DataSet(PROCESS, POINTS).data(jnp.zeros(3), 0.5),
        ValueError,
        r"of shape \(2,\), the draws of \(3,\)",
    ),
    "a number for a network": (
        lambda: NoisePrediction(PROCESS, 0.5),
        TypeError,
        "function must be a function of a point and the time, 2 in all, got",
    ),
    "complex numbers": (
        lambda: NoisePrediction(PROCESS, lambda x, t: 1j * x.astype(complex)).data(X, 0.5),
        TypeError,
        "the denoiser must return real numbers",
    ),
    "numbers in words": (
        lambda: GaussianMixture(PROCESS, ["a"], [[0.0]], [1.0]),
        TypeError,
        "weights must be an array",
    ),
    "ragged means": (lambda: GaussianMixture(PROCESS, [1, 1], [[0.0], [1, 2]], [1, 1]), TypeError, "means must be an"),
    "no components": (lambda: GaussianMixture(PROCESS, [], np.zeros((0, 2)), []), ValueError, "k and d at least 1"),
    "a negative variance": (lambda: GaussianMixture(PROCESS, [1.0], [[0.0]], [-1.0]), ValueError, "the eigenvalue -1"),
    "a word for a point": (lambda: MODEL.data("a", 0.5), TypeError, "x must be a point, an array of real num.*'a'"),
    "a word for a time": (lambda: MODEL.noise(X, "a"), TypeError, "t must be one time, a real number, got 'a'"),
    "many times": (lambda: MODEL.velocity(X, X), TypeError, r"t must be one time, a real number, got float64\[2\]"),
    "a time too late": (lambda: MODEL.data(X, 2.0), ValueError, "t must lie between 0 and 1.0, the horizon, got 2.0"),
    "no time": (lambda: MODEL.log_density(X, np.nan), ValueError, "t must lie between 0 and 1.0"),
    "no noise": (lambda: MODEL.score(X, 0.0), ValueError, "t must be a time at which there is noise, got 0.0"),
    "a number for a key": (lambda: MODEL.draw(3), TypeError, "must be the key, got 3"),
    "many scales": (lambda: ClassifierFreeGuidance(MODEL, MODEL, X), ValueError, "scale must be one number, got"),
    "words for data": (lambda: check_denoiser(KEY, MODEL, ["a", "b"]), TypeError, "data must be points"),
    "NumPy's functions": (lambda: Interpolant(np.cos, np.sin), TypeError, "data must be made of what JAX can trace"),
    "one datum": (lambda: check_denoiser(KEY, MODEL, [[1.0, 2.0]]), ValueError, "data must be two or more"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name: str) -> None:
    make, error, words = BAD[name]
    with pytest.raises(error, match=words):
        make()


def test_points_of_whole_numbers_in_a_list_are_points() -> None:
    np.testing.assert_array_equal(MODEL.data([1, 2], 0.5), MODEL.data(jnp.asarray([1.0, 2.0]), 0.5))


UNTRACED: dict[str, Callable[..., Any]] = {
    "NumPy": lambda x, t: np.tanh(x),
    "an array of NumPy": lambda x, t: np.asarray(x),
    "a float": lambda x, t: x * float(t),
    "a branch": lambda x, t: x if t > 0.5 else 2 * x,
    "PyTorch": lambda x, t: x.numpy(),
}


@pytest.mark.parametrize("name", UNTRACED)
def test_what_cannot_be_traced_is_refused_in_words(name: str) -> None:
    model = NoisePrediction(PROCESS, UNTRACED[name])
    with pytest.raises(TypeError, match=r"function must be made of what JAX can trace.*got <lambda>.*pure_callback"):
        sample(KEY, model, LAWS["DDIM"].solver, [1.0, 0.5, 0.1], (2, 2))


def test_a_network_s_own_mistake_is_its_own() -> None:
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        NoisePrediction(PROCESS, lambda x, t: np.absent(x)).data(X, 0.5)  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    "name", ["DDIM", "Euler", "Heun", "DPM-Solver++(2S)", "UniPC", "GENIE", "EVODiff", "SA-Solver"]
)
def test_solvers_of_every_kind_refuse_bad_input(name: str) -> None:
    solver: Solver = (LAWS | NOISY)[name].solver
    times = [1.0, 0.6, 0.3, 0.1]
    wrong: list[tuple[Any, Any, Any, type[Exception], str]] = [
        (MODEL, times[::-1], (2, 2), ValueError, "times must fall"),
        (MODEL, [1.5, *times], (2, 2), ValueError, "times must lie between 0 and 1.0"),
        (MODEL, [*times, -0.1], (2, 2), ValueError, "times must lie between 0 and 1.0"),
        (MODEL, times, (2, 3), ValueError, r"one of points of shape \(2,\)"),
        (NoisePrediction(PROCESS, lambda x, t: x[:1]), times, (2, 2), ValueError, "an array like the point"),
        (
            NoisePrediction(PROCESS, lambda x, t: x.astype(complex)),
            times,
            (2, 2),
            TypeError,
            "must return real numbers",
        ),
        (NoisePrediction(PROCESS, lambda x, t: np.tanh(x)), times, (2, 2), TypeError, "function must be made of"),
    ]
    for model, some, shape, error, words in wrong:
        with pytest.raises(error, match=words):
            sample(KEY, model, solver, some, shape)


@pytest.mark.parametrize("schedule", [uniform, uniform_log_snr, edm, cosine, beta])
def test_schedules_of_augmented_processes_are_refused(schedule: Any) -> None:
    with pytest.raises(TypeError, match=r"process must be one of the data alone.*its times are any that fall"):
        schedule(critically_damped(), 5)
