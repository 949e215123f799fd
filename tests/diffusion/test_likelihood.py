"""The flow's ends and its log densities, against closed forms and another integrator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.problems import PROCESSES, ends, mixture

from variate.diffusion import exact_ends, log_likelihood, log_likelihood_by_probes

PROCESS = PROCESSES["variance preserving"]
MODEL = mixture(PROCESS)
POINTS = jax.random.normal(jax.random.key(2), (8, 2))


def prior(x: jax.Array) -> jax.Array:
    return MODEL.log_density(x, PROCESS.horizon)


def test_the_exact_ends_are_those_of_another_integrator() -> None:
    run = exact_ends(MODEL, POINTS, (1.0, 0.5, 0.001))
    assert np.all(run.converged)
    np.testing.assert_allclose(run.values, ends(MODEL, POINTS, 1.0, 0.001), atol=1e-8)


def test_log_densities_are_exact_and_probes_state_their_error() -> None:
    truth = jax.vmap(lambda x: MODEL.log_density(x, PROCESS.cutoff))(POINTS)
    exact = log_likelihood(MODEL, POINTS, prior=prior)
    assert np.all(exact.converged)
    np.testing.assert_allclose(exact.value, truth, atol=1e-6)
    without_noise = jax.vmap(MODEL.log_density)(POINTS)  # the bound tells the density of the data from it
    assert np.max(np.abs(exact.value - without_noise)) > 1e-4
    found = log_likelihood_by_probes(jax.random.key(0), MODEL, POINTS, 64, prior=prior, tolerance=1e-8)
    assert np.all(found.converged)
    assert found.stderr is not None
    z = (np.asarray(found.value) - truth) / np.asarray(found.stderr)
    assert np.all(np.abs(z) < 5.3)  # alpha = 1e-6 with eight points of 64 probes
    assert np.sum(z**2) > 0.14  # alpha = 1e-6 too: error bars are not far too wide
    assert not np.any(log_likelihood(MODEL, POINTS[:1], max_steps=3).converged)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="times must end where there is noise left"):
        exact_ends(MODEL, POINTS, (1.0, 0.0))
    with pytest.raises(ValueError, match=r"time must be between 0 and 1\.0"):
        log_likelihood(MODEL, POINTS, time=0.0)
    with pytest.raises(TypeError, match="model must be a denoiser"):
        log_likelihood(lambda x, t: x, POINTS)
    with pytest.raises(ValueError, match="probes must be"):
        log_likelihood_by_probes(jax.random.key(0), MODEL, POINTS, 1)
    for f in (lambda x: exact_ends(MODEL, x, (1.0, 0.5)).values, lambda x: log_likelihood(MODEL, x).value):
        np.testing.assert_array_equal(f([[1, 2]]), f(jnp.asarray([[1.0, 2.0]])))
        with pytest.raises(TypeError, match="must be points of real numbers, one a row, got 'x'"):
            f("x")
