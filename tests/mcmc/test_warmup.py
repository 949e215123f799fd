"""The warm-up finds the scale of a target and the step size that is accepted as often as wanted."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import variate as vt
from variate.mcmc import HMC, MAMS, NUTS, ChEES, DelayedRejection
from variate.mcmc.adaptation import DualAveraging, Warmup, scale
from variate.mcmc.base import Info
from variate.protocols import Adaptation, Move, Steps

ROOT = np.array([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [30.0, 5.0, 20.0]])
COVARIANCE = ROOT @ ROOT.T


def log_density(x: jax.Array) -> jax.Array:
    return -0.5 * x @ jnp.linalg.solve(jnp.asarray(COVARIANCE), x)


def roundness(found: np.ndarray) -> float:
    """The condition of the target in the coordinates of a scale, 1 where it is round."""
    return float(np.linalg.cond(np.linalg.solve(found, np.linalg.solve(found, COVARIANCE).T)))


def elsewhere(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions that are no draws of the target, and the gradients there."""
    x = np.random.default_rng(0).uniform(-1, 3, (count, 3))
    return x, np.array(jax.vmap(jax.grad(log_density))(jnp.asarray(x)))


def test_gradients_tell_the_scale_of_a_normal_law_from_draws_of_another() -> None:
    x, gradients = elsewhere(100_000)
    assert roundness(scale.of_gradients(x, gradients, dense=True)) < 1.01
    assert roundness(scale.of_draws(x, dense=True)) > 1_000
    assert roundness(np.linalg.cholesky(COVARIANCE)) < 1 + 1e-6


def test_without_gradients_it_is_that_of_the_draws() -> None:
    """Of n draws sd are known to 1 / sqrt(2n), three of them tested at 1e-6 in all.

    Eigenvalues of the covariance are off by those of a Gaussian orthogonal matrix over sqrt(n), which are 15 apart with
    a probability below 1e-9.
    """
    n = 100_000
    x = np.random.default_rng(1).normal(size=(n, 3)) @ ROOT.T
    assert roundness(scale.of_draws(x, dense=True)) < 1 + 15 / n**0.5
    close = stats.norm.isf(1e-6 / 6) / (2 * n) ** 0.5
    np.testing.assert_allclose(scale.of_draws(x, dense=False), np.sqrt(np.diag(COVARIANCE)), rtol=close)


def test_a_coordinate_that_stands_still_keeps_its_scale() -> None:
    x, gradients = elsewhere(50)
    x[:, 1], gradients[:, 1] = 2.0, 0.0
    for dense in (False, True):
        for found in (scale.of_draws(x, dense=dense), scale.of_gradients(x, gradients, dense=dense)):
            assert np.all(np.isfinite(found))
            assert (found[1, 1] if dense else found[1]) == pytest.approx(1.0)


@pytest.mark.parametrize("kernel", [HMC(), DelayedRejection()])
def test_positions_that_are_no_numbers_have_no_scale(kernel: Any) -> None:
    x, gradients = elsewhere(25)
    lost = np.r_[x, np.full((1, 3), np.inf), x], np.r_[gradients, np.zeros((1, 3)), np.full((25, 3), np.nan)]
    warmup = Warmup(kernel, 3, 20, float)

    def after(x: np.ndarray, gradients: np.ndarray) -> np.ndarray:
        told = Info(np.ones(len(x)), *[np.zeros(len(x), bool)] * 2)
        steps = Steps(x, gradients if isinstance(kernel, HMC) else None, told)
        return np.asarray(warmup.proceed(warmup.begin(), 0, [steps]).scale)

    if isinstance(kernel, HMC):
        np.testing.assert_array_equal(after(*lost), after(x, gradients))
    np.testing.assert_array_equal(after(lost[0][25:26], lost[1][25:26]), np.eye(3))


def test_scales_that_are_too_far_apart_for_a_triangle_are_those_of_coordinates() -> None:
    x, gradients = elsewhere(50)
    spread = np.array([1e-200, 1.0, 1e100])
    found = scale.of_gradients(x * spread, gradients * 1e-100, dense=True)
    assert np.all(np.isfinite(found))
    assert np.all(np.diag(found) > 0)


@pytest.mark.parametrize("wanted", [0.3, 0.8])
def test_the_step_size_is_that_at_which_as_many_are_accepted_as_wanted(wanted: float) -> None:
    def step(tuning: DualAveraging, _: Any) -> tuple[DualAveraging, None]:
        return tuning.learned(jnp.exp(-100 * tuning.step_size), wanted), None

    tuning, _ = jax.lax.scan(step, DualAveraging.around(jnp.asarray(1.0)), length=5_000)
    assert float(jnp.exp(-100 * tuning.averaged)) == pytest.approx(wanted, abs=0.01)


def test_windows_double_and_leave_an_eighth_for_the_step_size() -> None:
    assert Warmup(NUTS(), 3, 20, float).ends == [1, 2, 4, 8, 18]
    assert Warmup(NUTS(), 3, 40, float).ends == [1, 2, 4, 8, 16, 35]
    assert Warmup(NUTS(), 3, 1, float).ends == []
    assert isinstance(Warmup(NUTS(), 3, 20, float), Adaptation)


@pytest.mark.wide
@pytest.mark.parametrize("kernel", [NUTS(), HMC(num_steps=4), ChEES(), MAMS()])
def test_what_is_left_open_is_found(kernel: Any, key: jax.Array) -> None:
    """Of a target with a condition of 10,000, on which the same kernel in its own coordinates gets nowhere."""
    k1, k2 = jax.random.split(key)
    draws = vt.sample(k1, log_density, jnp.ones(3), kernel=kernel)
    assert draws.doubts() == []
    assert float(np.mean(draws.acceptance)) > 0.7
    assert float(np.mean(draws.evaluations)) < 12
    found = draws.expect(lambda x: jnp.outer(x, x))
    # False alarms: 1e-6 for all six.
    assert np.all(np.abs(found.value - COVARIANCE) < stats.t.isf(1e-6 / 12, found.degrees) * found.stderr)
    step = np.sqrt(np.min(np.linalg.eigvalsh(COVARIANCE)))
    plain = vt.sample(k2, log_density, jnp.ones(3), kernel=HMC(step, 4, 1.0))
    assert len(plain.doubts()) > 0


@pytest.mark.parametrize("steps", [1, 30, 60])
def test_a_short_warm_up_is_one_too(steps: int, key: jax.Array) -> None:
    draws = vt.sample(key, lambda x: -0.5 * x @ x, jnp.ones(2), num_warmup=steps, num_samples=10)
    assert draws.warmup.acceptance.shape == (4, 25 * -(-steps // 25))
    assert draws.acceptance.shape == (4, 10)


@pytest.mark.parametrize(("lost", "wanted"), [(0, 0.8), (1, 0.9), (4, 0.9), (5, 0.95)])
def test_the_more_steps_diverge_the_more_are_to_be_accepted(lost: int, wanted: float) -> None:
    """Of the 1,000 steps of the last window, those before it do not count."""
    warmup = Warmup(NUTS(), 1, 20, float)
    none = np.zeros((25, 4), bool)
    x = np.random.default_rng(0).normal(size=(25, 4, 1))

    def steps(divergent: np.ndarray) -> Steps:
        return Steps(x, -x, Info(np.ones((25, 4)), ~none, divergent))

    some = none.copy()
    some.flat[:lost] = True
    window = [steps(~none)] * 8 + [steps(some)] + [steps(none)] * 9
    assert float(warmup.proceed(warmup.begin(), 17, window).wanted) == pytest.approx(wanted)
    assert float(warmup.proceed(warmup.begin(), 7, window[:8]).wanted) == pytest.approx(0.8)


def test_what_is_given_is_kept(key: jax.Array) -> None:
    tuned = Warmup(HMC(0.1, 3, 2.0), 3, 20, float).begin()
    kernel = tuned.learned(Move((), (), Info(jnp.ones(4), *[jnp.zeros(4, bool)] * 2))).kernel(log_density)
    assert (kernel.step_size, kernel.scale) == (0.1, 2.0)
