"""Denoisers refuse what they cannot use, and say what they expected."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.problems import PROCESSES, mixture

from variate.diffusion import (
    EDM,
    ClassifierFreeGuidance,
    ClassifierGuidance,
    DataSet,
    DynamicThreshold,
    EpsilonScaling,
    Mixture,
    NoisePrediction,
    Product,
    StaticThreshold,
    check_denoiser,
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
    "one datum": (lambda: check_denoiser(KEY, MODEL, [[1.0, 2.0]]), ValueError, "data must be two or more"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name: str) -> None:
    make, error, words = BAD[name]
    with pytest.raises(error, match=words):
        make()
