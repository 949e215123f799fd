"""DPM-Solver-v3 is exact where its statistics say all, and of its order whatever they say."""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.problems import POINTS, PROCESSES, Planned, ends, extrapolated, led, mixture

from variate.diffusion import (
    DPMSolverPP,
    DPMSolverV3,
    GaussianMixture,
    UniPC,
    fit_dpm_solver_v3,
    sample,
    uniform_log_snr,
)
from variate.diffusion.fitted.dpm_solver_v3 import Statistics
from variate.diffusion.processes.base import exact_levels

PROCESS = PROCESSES["variance preserving"]
MODEL = mixture(PROCESS)
MEAN, VARIANCE = np.array([0.7, -0.4]), np.array([0.3, 0.1])
# Of two components, so that what was compiled for the mixture serves for it too.
NORMAL = GaussianMixture(PROCESS, [0.4, 0.6], [MEAN] * 2, [np.diag(VARIANCE)] * 2)
SPAN = (1.0, 1e-3)  # of the schedules
FEW = uniform_log_snr(PROCESS, 4)


@pytest.fixture(scope="module")
def fitted() -> DPMSolverV3:
    return fit_dpm_solver_v3(jax.random.key(0), MODEL, SPAN, (64, 2))


@pytest.fixture(scope="module")
def of_normal() -> DPMSolverV3:
    return fit_dpm_solver_v3(jax.random.key(0), NORMAL, SPAN, (64, 2))


def made(statistics: Statistics, order: int = 2) -> DPMSolverV3:
    return DPMSolverV3(statistics=statistics, times=SPAN, probe=(), order=order)


def known(half_log_snr: np.ndarray) -> Statistics:
    r"""Of normal data: $\epsilon = \sigma (x - \alpha m) / (\alpha^2 v + \sigma^2)$, so that f is -l m."""
    ratio = np.exp(-2 * half_log_snr)[:, None]
    linear = ratio / (VARIANCE + ratio)
    return Statistics(half_log_snr, linear, VARIANCE / (VARIANCE + ratio), 0 * linear, -linear * MEAN)


def test_statistics_of_normal_data_are_those_of_theory(of_normal: DPMSolverV3) -> None:
    found = of_normal.statistics
    for one, exact in zip(found[:3], known(found.half_log_snr)[:3], strict=True):
        np.testing.assert_allclose(one, exact, rtol=1e-10)
    np.testing.assert_allclose(found.mean, known(found.half_log_snr).mean, atol=1e-12)


def test_what_other_coordinates_say_grows_at_first_as_theory_has_it(fitted: DPMSolverV3) -> None:
    r"""Where there is much noise, $d \approx m + e^{2 \lambda} C y$, so $f - E f$ is $-e^{2 \lambda} C_{12} y_2$.

    There y falls as $e^{-\lambda}$, so f grows as $e^\lambda$, up to its next term, which is of that size itself.
    """
    found = fitted.statistics
    np.testing.assert_allclose(found.growth[0], 1, atol=np.exp(found.half_log_snr[0]))


@pytest.mark.parametrize("steps", [1, 3])
def test_it_is_exact_for_normal_data(steps: int) -> None:
    """But for the interpolation of the statistics, by splines of order four: a formula would stay as it is."""
    times = uniform_log_snr(PROCESS, steps, *SPAN)
    level, start = exact_levels(PROCESS, times[[0, -1]]), jax.random.normal(jax.random.key(1), (POINTS, 2))
    (first, last), scale = level.alpha, np.sqrt(level.alpha[:, None] ** 2 * VARIANCE + level.sigma[:, None] ** 2)
    exact = last * MEAN + scale[1] / scale[0] * (np.asarray(start) - first * MEAN)
    ends = np.log(level.alpha) - np.log(level.sigma)
    errors = [
        np.sqrt(np.mean((led(made(known(np.linspace(*ends, n))), NORMAL, times, start, part=1) - exact) ** 2))
        for n in (51, 101, 201)
    ]
    assert 0.5 * np.log2(errors[0] / errors[2]) > 3.5


@pytest.mark.slow
@pytest.mark.table
def test_it_is_of_its_order_with_any_statistics() -> None:
    grid = np.linspace(-6, 2, 200)
    waves = [np.stack([np.sin(grid + shift), np.cos(0.7 * grid)], axis=1) for shift in range(3)]
    some = Statistics(grid, 0.5 + 0.3 * waves[0], 0.5 - 0.3 * waves[0], waves[1], waves[2])
    times = [uniform_log_snr(PROCESS, n, end=PROCESS.time_of(np.array([0.5]))[0]) for n in (32, 64, 128, 256)]
    start = PROCESS.sigma(jnp.asarray(times[0][0])) * jax.random.normal(jax.random.key(1), (POINTS, 2))
    exact = ends(MODEL, start, times[0][0], times[0][-1])
    plans = {len(at): made(some).plan(PROCESS, at) for at in times}

    def errors(change: Any, counts: slice) -> list[float]:
        solvers = [(Planned(change(plans[len(at)])), at) for at in times[counts]]
        return [np.sqrt(np.mean((led(solver, MODEL, at, start) - exact) ** 2)) for solver, at in solvers]

    found, doubt = extrapolated(errors(lambda plan: plan, slice(4)))
    assert abs(found - 3) <= 2 * doubt
    mutants = {
        "no mean in a step": (lambda plan: plan.shift, 0),
        "the mean is left in": (lambda plan: plan.mean, 0),
        "another linear part": (lambda plan: plan.of_data, 0.9),
        "an older one without its growth": (lambda plan: plan.x.history[1], 0.99),
    }

    def mutant(where: Any, factor: float) -> Any:
        return lambda plan: eqx.tree_at(where, plan, factor * where(plan))

    for where, factor in mutants.values():
        coarse, fine = errors(mutant(where, factor), slice(1, 3))
        assert np.log2(coarse / fine) < 2.5


def test_it_ends_nearer_with_the_statistics_of_the_model(fitted: DPMSolverV3) -> None:
    """Than `UniPC`, by five times the error of the mean over fresh draws."""
    exact, before, after = (
        np.asarray(sample(jax.random.key(1), MODEL, solver, times, (200, 2)).values)
        for solver, times in ((DPMSolverPP(), uniform_log_snr(PROCESS, 400)), (UniPC(), FEW), (fitted, FEW))
    )
    gain = np.log(np.mean((before - exact) ** 2, axis=1) / np.mean((after - exact) ** 2, axis=1))
    assert np.mean(gain) > 5 * np.std(gain) / np.sqrt(len(gain))


def test_it_comes_back_from_a_file(fitted: DPMSolverV3, tmp_path: Path) -> None:
    fitted.save(tmp_path / "solver.npz")
    again = DPMSolverV3.load(tmp_path / "solver.npz")
    to_no_noise = np.append(FEW, 0.0)
    one, two = (sample(jax.random.key(1), MODEL, it, FEW, (5, 2)).values for it in (fitted, again))
    np.testing.assert_array_equal(one, two)
    assert again.order == fitted.order
    assert np.all(sample(jax.random.key(1), MODEL, again, to_no_noise, (5, 2)).finite)


def test_another_model_or_other_times_are_refused(fitted: DPMSolverV3) -> None:
    with pytest.raises(ValueError, match="times must lie between those of the statistics"):
        sample(jax.random.key(1), MODEL, fitted, [1.0, 1e-4], (5, 2))
    with pytest.raises(ValueError, match="fitted to another model"):
        sample(jax.random.key(1), NORMAL, fitted, FEW, (5, 2))
    with pytest.raises(ValueError, match="order must be a positive integer up to 3"):
        fit_dpm_solver_v3(jax.random.key(1), MODEL, SPAN, (5, 2), order=4)
