"""The probability flow of processes with velocities: against autodiff of the density of all variables, and by order."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.laws import Altered
from diffusion.problems import extrapolated, halves_draw_the_same_law, led
from jax.scipy.stats import multivariate_normal
from scipy.integrate import solve_ivp

from variate.diffusion import (
    DDIM,
    EDM,
    GDDIM,
    SSCS,
    Augmented,
    AugmentedProcess,
    GaussianMixture,
    Level,
    VariancePreserving,
    critically_damped,
    sample,
)

DAMPED = critically_damped()
MEANS, VARIANCES, WEIGHTS = np.array([[-0.5, 0.3], [0.6, -0.2]]), np.array([0.2, 0.4]), np.array([0.4, 0.6])
MODEL = Augmented(DAMPED, GaussianMixture(EDM(), WEIGHTS, MEANS, VARIANCES))
FIRST, LAST = 1.0, 0.1


def log_density(process: Any, z: Any, t: Any) -> Any:
    """Of all variables, which are a mixture of normals in each coordinate of the data."""
    mean, covariance = process.moments(t)
    logs = [
        jnp.log(w) + jnp.sum(jax.vmap(multivariate_normal.logpdf, (1, 0, None))(z, jnp.outer(m, mean), spread))
        for w, m, v in zip(WEIGHTS, MEANS, VARIANCES, strict=True)
        for spread in [v * jnp.outer(mean, mean) + covariance]
    ]
    return jax.nn.logsumexp(jnp.array(logs))


THREE = AugmentedProcess(
    np.diag([0.3, 0.0, 2.0]), [[0, -2, 0], [2, 0, -1], [0, 1, 0]], [[1, 0.2, 0], [0.2, 0.5, 0], [0, 0, 2]], [0.1, 0.2]
)


@pytest.mark.parametrize("process", [DAMPED, THREE])
def test_the_noise_is_the_score(process: AugmentedProcess) -> None:
    model = Augmented(process, MODEL.denoiser)
    for seed, t in enumerate((0.05, 0.5)):
        z = jax.random.normal(jax.random.key(seed), (len(process.stationary), 2))
        root = process.sigma(t)
        noise = model.predict(z, Level(t, process.moments(t)[0], root)).noise
        score = jax.grad(lambda z, t=t: log_density(process, z, t))(z)
        np.testing.assert_allclose(-jnp.linalg.solve(root.T, noise), score, rtol=1e-7, atol=1e-9)


@pytest.fixture(scope="module")
def ends() -> tuple[jax.Array, np.ndarray]:
    """Points of the first time and where the flow leads them: dz/dt = F z - D grad log p."""
    start = jnp.tensordot(DAMPED.sigma(FIRST), jax.random.normal(jax.random.key(1), (2, 8, 2)), 1).swapaxes(0, 1)
    score = jax.vmap(jax.grad(lambda z, t: log_density(DAMPED, z, t)), (0, None))

    @jax.jit
    def speed(t: Any, flat: Any) -> Any:
        z = flat.reshape(start.shape)
        return (
            jnp.einsum("ij,njd->nid", DAMPED.drift, z) - jnp.einsum("ij,njd->nid", DAMPED.friction, score(z, t))
        ).ravel()

    found = solve_ivp(speed, (FIRST, LAST), np.asarray(start).ravel(), "DOP853", rtol=1e-11, atol=1e-12)
    return start, found.y[:, -1].reshape(start.shape)


def order(solver: Any, ends: tuple[jax.Array, np.ndarray]) -> tuple[float, float]:
    errors = []
    for steps in (32, 64, 128, 256):
        found = led(solver, MODEL, np.linspace(FIRST, LAST, steps + 1), ends[0])
        errors.append(float(np.sqrt(np.mean((found - ends[1]) ** 2))))
    return extrapolated(errors)


@pytest.mark.parametrize("stated", [1, 2])
def test_the_order_is_the_one_stated(stated: int, ends: tuple[jax.Array, np.ndarray]) -> None:
    found, doubt = order(GDDIM(stated), ends)
    assert abs(found - stated) <= 2 * doubt
    mutants = {
        1: [Altered(GDDIM(1), lambda plan: plan.held, lambda held: 0.5 * held)],
        2: [GDDIM(1), Altered(GDDIM(2), lambda plan: plan.slope, lambda slope: 0.5 * slope)],
    }
    for mutant in mutants[stated]:  # here, since they share the compiled program
        found, doubt = order(mutant, ends)
        assert abs(found - stated) > 2 * doubt


def test_a_point_is_reached_in_two_steps() -> None:
    """With the noise that the process has there, whatever its coordinates: by moments of 20,000 draws."""
    point = jnp.asarray([0.7, -0.3])
    model = Augmented(THREE, GaussianMixture(EDM(), [1.0], [point], [0.0]))
    run = sample(jax.random.key(0), model, GDDIM(), [1.0, 0.6, 0.2], (10_000, 3, 2))
    rest = run.values - run.values.mean(0)[None]  # the start is off by what is left of the point there, a constant
    white = jnp.einsum("ij,njd->ndi", jnp.linalg.inv(THREE.sigma(0.2)), rest).reshape(-1, 3)
    z = (white.T @ white / len(white) - jnp.eye(3)) * np.sqrt(len(white)) / np.sqrt(1 + np.eye(3))
    assert jnp.max(jnp.abs(z)) < 5.7  # six of them: 7e-8 in all


def test_what_does_not_fit_is_refused() -> None:
    key, times = jax.random.key(0), [1.0, 0.7, 0.5]
    plain = GaussianMixture(VariancePreserving(), WEIGHTS, MEANS, VARIANCES)
    with pytest.raises(TypeError, match="process must be augmented"):
        sample(key, plain, GDDIM(), times, (2, 2))
    with pytest.raises(TypeError, match="AugmentedProcess"):
        sample(key, MODEL, DDIM(), times, (2, 2, 2))
    with pytest.raises(ValueError, match="with an axis of variables"):
        sample(key, MODEL, GDDIM(), times, (2, 3, 2))
    with pytest.raises(ValueError, match="times must end where there is noise"):
        sample(key, MODEL, GDDIM(), [1.0, 0.5, 0.0], (2, 2, 2))
    with pytest.raises(ValueError, match="order must be"):
        GDDIM(3)
    with pytest.raises(ValueError, match="denoiser must be one on EDM"):
        Augmented(DAMPED, plain)


@pytest.mark.parametrize("solver", [GDDIM(), SSCS()])
def test_half_precision_draws_the_same_law(solver: Any) -> None:
    """Means and second moments within five standard errors of single precision's: 1e-5 of false alarms in all."""
    halves_draw_the_same_law(MODEL, solver, np.geomspace(1.0, 0.1, 9), (2, 2))
