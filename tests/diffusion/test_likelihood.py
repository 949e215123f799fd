"""The flow's ends and its log densities, against closed forms and another integrator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.problems import PROCESSES, ends, mixture

from variate.diffusion import Flow, NoisePrediction, exact_ends, log_likelihood, log_likelihood_by_probes

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
    exact = log_likelihood(MODEL, POINTS)
    assert np.all(exact.converged)
    np.testing.assert_allclose(exact.value, truth, atol=1e-6)
    np.testing.assert_array_equal(exact.left_out, 0)
    without_noise = jax.vmap(MODEL.log_density)(POINTS)  # the bound tells the density of the data from it
    assert np.max(np.abs(exact.value - without_noise)) > 1e-4
    found = log_likelihood_by_probes(jax.random.key(0), MODEL, POINTS, 64, prior=prior, tolerance=1e-8)
    assert np.all(found.converged)
    assert found.stderr is not None
    z = (np.asarray(found.value) - truth) / np.asarray(found.stderr)
    assert np.all(np.abs(z) < 5.3)  # alpha = 1e-6 with eight points of 64 probes
    assert np.sum(z**2) > 0.14  # alpha = 1e-6 too: error bars are not far too wide
    assert not np.any(log_likelihood(MODEL, POINTS[:1], max_steps=3).converged)


@pytest.mark.parametrize("name", ["variance preserving", "EDM"])
def test_what_a_network_leaves_out_is_said(name: str) -> None:
    """A normal prior is off by a thousandth and more; what is said of it is right to the fourth order in its signal."""
    model = mixture(PROCESSES[name])
    network, horizon = NoisePrediction(model.process, model.noise), model.process.horizon
    truth = jax.vmap(lambda x: model.log_density(x, model.process.cutoff))(POINTS)
    found = log_likelihood(network, POINTS)
    assert np.max(np.abs(found.value - truth)) > 1e-4
    np.testing.assert_allclose(found.value + found.left_out, truth, atol=1e-6)
    level = model.process.level(horizon)
    squares = jnp.sum(model.means**2 + model.variances, axis=1)
    norm = 0.5 * (level.alpha / level.sigma) ** 2 * jnp.exp(model.log_weights) @ squares
    assert np.max(np.abs(found.value + found.left_out + norm - truth)) > 1e-6  # it is not without this part


def test_where_no_data_are_left_nothing_is_left_out() -> None:
    model = mixture(Flow())
    assert (
        log_likelihood(NoisePrediction(model.process, model.noise), POINTS[:1], time=0.9, tolerance=1e-3).left_out == 0
    )


def test_a_prior_may_be_given() -> None:
    given = log_likelihood(NoisePrediction(PROCESS, MODEL.noise), POINTS[:1], prior=prior, tolerance=1e-6)
    np.testing.assert_allclose(given.value, MODEL.log_density(POINTS[0], PROCESS.cutoff), atol=1e-4)
    assert given.left_out == 0


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="times must end where there is noise left"):
        exact_ends(MODEL, POINTS, (1.0, 0.0))
    with pytest.raises(ValueError, match=r"time must be between 0 and 1\.0"):
        log_likelihood(MODEL, POINTS, time=0.0)
    with pytest.raises(TypeError, match="model must be a denoiser"):
        log_likelihood(lambda x, t: x, POINTS)
    with pytest.raises(ValueError, match="probes must be"):
        log_likelihood_by_probes(jax.random.key(0), MODEL, POINTS, 1)
    with pytest.raises(ValueError, match=r"prior must return one number for one point, got float64\[2\]"):
        log_likelihood(MODEL, POINTS, prior=lambda x: x)
    with pytest.raises(TypeError, match="prior must be a function of a point at the horizon"):
        log_likelihood(MODEL, POINTS, prior=1.0)
    for f in (lambda x: exact_ends(MODEL, x, (1.0, 0.5)).values, lambda x: log_likelihood(MODEL, x).value):
        np.testing.assert_array_equal(f([[1, 2]]), f(jnp.asarray([[1.0, 2.0]])))
        with pytest.raises(TypeError, match="must be points of real numbers, one a row, got 'x'"):
            f("x")
