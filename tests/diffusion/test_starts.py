"""What skips a part of a run, or takes another model for it, leads where the whole run does."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.problems import PROCESSES, mixture

from variate.diffusion import (
    DataPrediction,
    DPMSolverPP,
    Flow,
    GaussianMixture,
    Rescaled,
    Stitched,
    exact_ends,
    sample,
    teleported,
    uniform_log_snr,
)

PROCESS = PROCESSES["variance preserving"]
MEAN, COVARIANCE = [0.4, -0.2], [[0.5, 0.2], [0.2, 0.3]]
NORMAL = GaussianMixture(PROCESS, [1.0], [MEAN], [COVARIANCE])
NOISE = jax.random.normal(jax.random.key(0), (20, 2))


def leads_to_the_end(covariance: Any) -> None:
    found = teleported(PROCESS, NOISE, MEAN, covariance, [1.0, 0.2])
    flow = exact_ends(NORMAL, NOISE, [1.0, 0.2], tolerance=1e-9)
    np.testing.assert_allclose(found, flow.values, atol=1e-7)


def test_normal_data_are_teleported_along_their_flow() -> None:
    leads_to_the_end(COVARIANCE)


def test_with_another_covariance_they_are_not() -> None:
    with pytest.raises(AssertionError):
        leads_to_the_end(np.diag(np.diag(COVARIANCE)))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="noise, mean and covariance must be of shapes"):
        teleported(PROCESS, NOISE, [0.0], COVARIANCE, [1.0, 0.2])
    with pytest.raises(ValueError, match="times must fall"):
        teleported(PROCESS, NOISE, MEAN, COVARIANCE, [0.2, 1.0])


def test_a_covariance_that_is_none_is_refused() -> None:
    for covariance, words in (
        ([[1.0, 5.0], [0.0, 1.0]], "covariance must be symmetric"),
        ([[-1.0, 0.0], [0.0, -1.0]], "covariance must be positive semidefinite, got one with the eigenvalue -1"),
        ([[np.nan, 0.0], [0.0, 1.0]], "covariance must be finite"),
    ):
        with pytest.raises(ValueError, match=words):
            teleported(PROCESS, NOISE, MEAN, covariance, [1.0, 0.2])
    with pytest.raises(ValueError, match="mean must be finite"):
        teleported(PROCESS, NOISE, [np.nan, 0.0], COVARIANCE, [1.0, 0.2])
    whole = teleported(PROCESS, [[1, 2]], MEAN, COVARIANCE, [1.0, 0.2])  # whole numbers, in a list
    np.testing.assert_array_equal(whole, teleported(PROCESS, jnp.asarray([[1.0, 2.0]]), MEAN, COVARIANCE, [1.0, 0.2]))


def test_each_of_two_models_is_asked_at_its_own_times() -> None:
    zero, one = (DataPrediction(PROCESS, lambda x, t, c=c: jnp.full_like(x, c)) for c in (0.0, 1.0))
    both = Stitched(zero, one, 0.5)
    asked = [float(both.data(jnp.zeros(1), t)[0]) for t in (0.9, 0.5, 0.49, 0.1)]
    assert asked == [0.0, 0.0, 1.0, 1.0]


def test_a_stitched_run_is_one_run_after_another() -> None:
    times, model = uniform_log_snr(PROCESS, 6), mixture(PROCESS)
    whole = sample(jax.random.key(1), Stitched(model, model, times[3]), DPMSolverPP(), times, (5, 2))
    np.testing.assert_allclose(whole.values, sample(jax.random.key(1), model, DPMSolverPP(), times, (5, 2)).values)


def test_a_denoiser_of_one_process_serves_another() -> None:
    flow = Flow()
    lent, own = Rescaled(flow, mixture(PROCESSES["EDM"])), mixture(flow)
    for t in (0.1, 0.5, 0.9):
        for x in NOISE[:3]:
            np.testing.assert_allclose(lent.data(x, t), own.data(x, t), rtol=1e-9)
            np.testing.assert_allclose(lent.noise(x, t), own.noise(x, t), rtol=1e-9)
    with pytest.raises(ValueError, match="denoiser must be one on EDM"):
        Rescaled(flow, own)
