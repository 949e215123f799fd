"""Losses have the values that they must have at a denoiser that is known, and couplings the least cost."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.problems import PROCESSES

from variate.demo import digit_denoiser
from variate.diffusion import (
    EDM,
    DPMSolverPP,
    GaussianMixture,
    NoiseAndShare,
    NoisePrediction,
    Process,
    coupled,
    data,
    denoising_loss,
    edm,
    noise,
    sample,
    sliced_score_loss,
    variance_loss,
    velocity,
)

ROWS, VARIANCE, TIME = 20_000, 0.3, 0.4
LEAST: dict[str, tuple[Any, Callable[[Any, Any, float], float]]] = {
    # What is left of the variance of each form once x is known, from that of the noise.
    "noise": (noise, lambda level, slopes, left: left),
    "data": (data, lambda level, slopes, left: left * (level.sigma / level.alpha) ** 2),
    "velocity": (
        velocity,
        lambda level, slopes, left: left * (slopes.sigma - slopes.alpha * level.sigma / level.alpha) ** 2,
    ),
}


@pytest.fixture(scope="module")
def rows() -> jax.Array:
    return jnp.sqrt(VARIANCE) * jax.random.normal(jax.random.key(0), (ROWS, 2))


def losses(process: Process, rows: jax.Array, form: Any, scale: float) -> float:
    """Of the exact denoiser of the rows' law, whose noise is multiplied by `scale`."""
    exact = GaussianMixture(process, [1.0], [[0.0, 0.0]], [VARIANCE])
    model = NoisePrediction(process, lambda x, t: scale * exact.noise(x, t))
    times = jnp.full(ROWS, TIME)
    return float(denoising_loss(jax.random.key(1), model, rows, times, form=form))


@pytest.mark.wide
@pytest.mark.parametrize("form", LEAST)
@pytest.mark.parametrize("process", PROCESSES)
def test_the_least_loss_is_the_variance_that_is_left(process: str, form: str, rows: jax.Array) -> None:
    """Within five standard errors: the mean of 2 ROWS squares of normals has a relative one of ROWS ** -0.5."""
    chosen, (what, least) = PROCESSES[process], LEAST[form]
    level, slopes = chosen.level(TIME), chosen.slopes(TIME)
    kept = float(level.alpha**2 * VARIANCE)
    expected = float(least(level, slopes, kept / (kept + float(level.sigma) ** 2)))
    assert abs(losses(chosen, rows, what, 1.0) / expected - 1) < 5 / np.sqrt(ROWS)
    assert losses(chosen, rows, what, 0.8) > losses(chosen, rows, what, 1.0)  # on the same noise


def test_the_sliced_score_loss_is_least_at_the_score(rows: jax.Array) -> None:
    def loss(variance: jax.Array) -> jax.Array:
        return sliced_score_loss(jax.random.key(2), lambda x: -x / variance, rows)

    at = jnp.asarray(VARIANCE)
    assert abs(float(loss(at)) + 1 / VARIANCE) < 5 * np.sqrt(6 / ROWS) / VARIANCE  # -v'v/V + |x|^2/2V^2: -2/V + 1/V
    slope = float(jax.grad(loss)(at))
    assert abs(slope) < 5 * np.sqrt(10 / ROWS) / VARIANCE**2  # the mean of v'v/V^2 - |x|^2/V^3


def test_coupled_noise_costs_least() -> None:
    start, some = jax.random.normal(jax.random.key(3), (2, 6, 3))
    found = coupled(start, some)
    costs = [float(jnp.sum((start[jnp.asarray(order)] - some) ** 2)) for order in itertools.permutations(range(6))]
    assert float(jnp.sum((found - some) ** 2)) == pytest.approx(min(costs), rel=1e-12)
    np.testing.assert_array_equal(np.sort(found, axis=0), np.sort(start, axis=0))


def test_the_network_that_is_shipped_draws_digits() -> None:
    """Nearest to digits of the label asked for: of a network that knows nothing one in ten would be."""
    network, (images, labels) = digit_denoiser.saved(), digit_denoiser.digits()
    for label in (0, 7):
        model = digit_denoiser.denoiser(network, label)
        run = sample(jax.random.key(label), model, DPMSolverPP(), edm(EDM(), 15), (40, 64), dtype=jnp.float32)
        far = jnp.sum((run.values[:, None] - images[None]) ** 2, axis=-1)
        right = int(jnp.sum(labels[jnp.argmin(far, axis=1)] == label))
        assert right >= 20  # by chance once in 10^10


def test_a_perturbed_input_costs_what_the_model_makes_of_it(rows: jax.Array) -> None:
    """The exact noise is c x with c = sigma / (alpha^2 V + sigma^2), so the loss grows by (c sigma gamma)^2."""
    process, gamma = PROCESSES["EDM"], 2.0
    level = process.level(TIME)
    exact = GaussianMixture(process, [1.0], [[0.0, 0.0]], [VARIANCE])
    found = denoising_loss(jax.random.key(1), exact, rows, jnp.full(ROWS, TIME), perturbation=gamma)
    share = float(level.sigma**2 / (level.alpha**2 * VARIANCE + level.sigma**2))
    assert abs(float(found) / (1 - share + (share * gamma) ** 2) - 1) < 5 / np.sqrt(ROWS)


FEW, KEY, NETWORK = jnp.ones((5, 2)), jax.random.key(0), NoisePrediction(EDM(), lambda x, t: x)
MIDDLE = jnp.full(5, 0.5)
SHARED = NoiseAndShare(EDM(), lambda x, t: (x, x))
BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "weights of another axis": (
        lambda: denoising_loss(KEY, NETWORK, FEW, MIDDLE, weights=MIDDLE[:, None]),
        ValueError,
        r"weights must be 5 real numbers, one for each row, got float64\[5,1\]",
    ),
    "one time": (lambda: denoising_loss(KEY, NETWORK, FEW, 0.5), ValueError, "times must be 5 real numbers"),
    "times beyond": (
        lambda: denoising_loss(KEY, NETWORK, FEW, 200 * MIDDLE),
        ValueError,
        r"times must lie between 0 and 80\.0, the horizon, got numbers between 100 and 100",
    ),
    "less noise than none": (
        lambda: denoising_loss(KEY, NETWORK, FEW, MIDDLE, perturbation=-0.1),
        ValueError,
        "perturbation must not be negative",
    ),
    "an old key": (
        lambda: denoising_loss(jax.random.PRNGKey(0), NETWORK, FEW, MIDDLE),
        TypeError,
        "key must be a typed key",
    ),
    "a word for a form": (
        lambda: denoising_loss(KEY, NETWORK, FEW, MIDDLE, form="noise"),
        TypeError,
        "form must be a function",
    ),
    "noise of another shape": (
        lambda: denoising_loss(KEY, NETWORK, FEW, MIDDLE, start=FEW[:1]),
        ValueError,
        r"start must be of the shape \(5, 2\)",
    ),
    "a bare network": (lambda: denoising_loss(KEY, lambda x, t: x, FEW, MIDDLE), TypeError, "model must be a denoiser"),
    "no points": (lambda: sliced_score_loss(KEY, jnp.negative, 0.5), TypeError, "rows must be points"),
    "fewer points": (lambda: coupled(FEW, FEW[:3]), ValueError, "start and rows must be of one shape"),
    "points that are none": (lambda: coupled(jnp.nan * FEW, FEW), ValueError, "start must be finite"),
    "traced points": (lambda: jax.jit(coupled)(FEW, FEW), TypeError, "start must be numbers, which `jit`"),
    "later times": (
        lambda: variance_loss(KEY, SHARED, FEW, MIDDLE, 2 * MIDDLE),
        ValueError,
        r"earlier must be times between 0 and `times`, got 1\.0 for 0\.5 in row 0",
    ),
    "no shares": (
        lambda: variance_loss(KEY, NETWORK, FEW, MIDDLE, MIDDLE / 2),
        TypeError,
        "model must be a NoiseAndShare",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name: str) -> None:
    make, error, words = BAD[name]
    with pytest.raises(error, match=words):
        make()
