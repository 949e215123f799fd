"""Fitted solvers end nearer to where they should than those that they start from, and know what they were fitted to."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.problems import PROCESSES, mixture

from variate.diffusion import (
    DDIM,
    DataPrediction,
    DataSet,
    DPMSolverPP,
    DualFast,
    Fitted,
    GaussianMixture,
    PredictorCorrector,
    Restart,
    SDEDPMSolverPP,
    Searched,
    UniPC,
    edm,
    fit,
    fit_compensation,
    fit_schedule,
    sample,
    sample_parallel,
    uniform,
    uniform_log_snr,
)
from variate.diffusion.fitted.base import probed
from variate.diffusion.fitted.coefficients import Errors
from variate.diffusion.fitted.trajectories import trajectories
from variate.diffusion.processes.base import exact_levels

PROCESS = PROCESSES["variance preserving"]
MODEL = mixture(PROCESS)
TIMES = uniform_log_snr(PROCESS, 4)


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return fit(jax.random.key(0), MODEL, DPMSolverPP(), TIMES, (64, 2))


@pytest.mark.slow
@pytest.mark.table
def test_it_ends_nearer(fitted: Fitted) -> None:
    """Five times, of the size of its own errors: what it started from is a formula of order two."""
    fine = uniform_log_snr(PROCESS, 400)
    exact, before, after = (
        np.asarray(sample(jax.random.key(1), MODEL, solver, times, (200, 2)).values)
        for solver, times in ((DPMSolverPP(), fine), (DPMSolverPP(), TIMES), (fitted, TIMES))
    )
    far = [np.mean((x - exact) ** 2, axis=1) for x in (before, after)]
    gain = np.log(far[0] / far[1])
    assert np.mean(gain) > 5 * np.std(gain) / np.sqrt(len(gain))
    # What it says of itself is of other draws, and is as large: the mean square within its own spread.
    assert abs(np.mean(far[1]) - fitted.after.rms**2) < 5 * np.std(far[1]) * np.sqrt(1 / 200 + 1 / 64)
    assert fitted.after.rms < fitted.before.rms


def test_exact_trajectories_are_known_between_their_points() -> None:
    """Of normal data of sd s the flow is x = c sqrt(s^2 alpha^2 + sigma^2), and lines between points are off by h^2."""
    model = GaussianMixture(PROCESS, [1.0], [[0.0, 0.0]], [0.25])
    path = trajectories(jax.random.key(0), model, TIMES, (5, 2), along=True)
    level = PROCESS.level(jnp.linspace(TIMES[-1], TIMES[0], 9)[1:-1])
    at = exact_levels(PROCESS, TIMES[:1])
    spread = np.hypot(0.5 * level.alpha, level.sigma) / np.hypot(0.5 * at.alpha, at.sigma)
    exact = np.asarray(path.start) * spread[:, None, None]
    assert path.ratios is not None
    step = np.max(np.diff(path.ratios))  # what a point of the next interval would be off by
    np.testing.assert_allclose(path.at(level), exact, rtol=step**2)


def test_times_stay_between_the_first_and_the_last() -> None:
    """From here least squares try times at which the slope of the noise is infinite, unless they are held."""
    model = GaussianMixture(PROCESS, [0.3, 0.7], [[-1.0, 0.0], [1.0, 0.5]], [0.04, 0.09])
    times = uniform_log_snr(PROCESS, 6)
    made = fit(jax.random.key(0), model, DDIM(), times, (32, 2))
    asked = made.stages.level.time
    assert np.all((times[-1] * (1 - 1e-12) <= asked) & (asked <= times[0]))
    assert made.after.median < made.before.median / 10


def test_a_model_without_a_derivative_is_refused() -> None:
    sharp = DataPrediction(PROCESS, lambda x, t: MODEL.data(x, t) + 0 * jnp.sqrt(0 * x))
    with pytest.raises(ValueError, match="model: it cannot be fitted to, for its derivatives are not all finite"):
        fit(jax.random.key(0), sharp, DDIM(), TIMES, (4, 2))


@pytest.mark.slow
@pytest.mark.table
def test_along_the_way_it_ends_nearer_too() -> None:
    """By least squares of ends and ways, then of ends alone, which it says of draws that it was not fitted to."""
    along = fit(jax.random.key(0), MODEL, DPMSolverPP(), TIMES, (64, 2), forgiven=1e6, along=True)
    assert along.after.rms < along.before.rms
    ends = fit(jax.random.key(1), MODEL, along, TIMES, (64, 2))
    assert ends.after.median < along.after.median < along.before.median


def test_a_fitted_schedule_ends_nearer() -> None:
    times = fit_schedule(jax.random.key(2), MODEL, DPMSolverPP(), TIMES, (64, 2))
    assert times[0] == TIMES[0]
    assert times[-1] == pytest.approx(TIMES[-1], rel=1e-12)
    assert np.all(np.diff(times) < 0)
    exact, before, after = (
        np.asarray(sample(jax.random.key(1), MODEL, DPMSolverPP(), some, (200, 2)).values)
        for some in (uniform_log_snr(PROCESS, 400), TIMES, times)
    )
    far = [np.mean((x - exact) ** 2, axis=1) for x in (before, after)]
    gain = np.log(far[0] / far[1])
    assert np.mean(gain) > 5 * np.std(gain) / np.sqrt(len(gain))


def test_it_comes_back_from_a_file(fitted: Fitted, tmp_path: Path) -> None:
    fitted.save(tmp_path / "solver")  # by this name
    again = Fitted.load(tmp_path / "solver")
    one, two = (sample(jax.random.key(1), MODEL, solver, TIMES, (5, 2)).values for solver in (fitted, again))
    np.testing.assert_array_equal(one, two)
    assert again.after == fitted.after


def test_most_draws_may_end_exactly_where_they_should() -> None:
    points = DataSet(PROCESS, np.asarray([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.5]]))
    made = fit(jax.random.key(0), points, DPMSolverPP(), edm(PROCESS, 6), (16, 2))
    assert made.before.median == 0
    assert made.after.rms <= made.before.rms


def test_it_runs_inside_jit(fitted: Fitted) -> None:
    inside = jax.jit(lambda key: sample(key, MODEL, fitted, TIMES, (5, 2)).values)(jax.random.key(1))
    alone = sample(jax.random.key(1), MODEL, fitted, TIMES, (5, 2)).values
    np.testing.assert_allclose(inside, alone, rtol=1e-12)


def test_another_model_or_schedule_is_refused(fitted: Fitted) -> None:
    with pytest.raises(ValueError, match="times must be those that the solver was fitted for"):
        sample(jax.random.key(1), MODEL, fitted, uniform(PROCESS, 4), (5, 2))
    with pytest.raises(ValueError, match="fitted to another model"):
        sample(jax.random.key(1), mixture(PROCESSES["EDM"]), fitted, TIMES, (5, 2))


def test_what_is_fitted_begins_from_a_solver_of_the_same_model(fitted: Fitted) -> None:
    other = GaussianMixture(PROCESS, [1.0], [[3.0, 3.0]], [0.5])
    for make in (fit, fit_schedule):
        with pytest.raises(ValueError, match="fitted to another model"):
            make(jax.random.key(0), other, fitted, TIMES, (4, 2))
    with pytest.raises(TypeError, match=r"solver must be one for any times.*got an object of type Fitted"):
        fit_schedule(jax.random.key(0), MODEL, fitted, TIMES, (4, 2))
    for make, solver in ((fit, DPMSolverPP(3)), (fit_compensation, UniPC(3))):
        with pytest.raises(ValueError, match="as many evaluations as the solver's order, 3, or more, got 1"):
            make(jax.random.key(0), MODEL, solver, TIMES[[0, -1]], (4, 2))


def test_other_files_are_refused(fitted: Fitted, tmp_path: Path) -> None:
    fitted.save(tmp_path / "whole")
    (tmp_path / "text").write_text("no solver")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "half").write_bytes((tmp_path / "whole").read_bytes()[:300])
    np.save(tmp_path / "array.npy", np.ones(3))
    np.savez(tmp_path / "arrays.npz", told=np.asarray("{}"))
    for name in ("text", "empty", "half", "array.npy", "arrays.npz"):
        with pytest.raises(ValueError, match=f"path must be a file that save wrote of Fitted, got .*{name}"):
            Fitted.load(tmp_path / name)
    with pytest.raises(ValueError, match="path must be a file that save wrote of Searched"):
        Searched.load(tmp_path / "whole")
    nothing: Any = None
    for use in (Fitted.load, fitted.save):
        with pytest.raises(TypeError, match="path must be the name of a file, got None"):
            use(nothing)


def test_another_model_is_refused_also_for_one_evaluation() -> None:
    """Whose times are the first, at which models hardly differ, and the last, at which they say what they are asked."""
    ends, other = TIMES[[0, -1]], GaussianMixture(PROCESS, [1.0], [[1.0, 2.0]], [0.3])
    made = fit(jax.random.key(0), MODEL, DDIM(), ends, (4, 2))
    assert np.all(sample(jax.random.key(1), MODEL, made, ends, (5, 2)).finite)
    with pytest.raises(ValueError, match="fitted to another model"):
        sample(jax.random.key(1), other, made, ends, (5, 2))


@pytest.mark.parametrize("within", [lambda one: Restart(one, []), PredictorCorrector, lambda one: DualFast(one, 0.1)])
def test_another_model_is_refused_within_other_solvers(within: Any) -> None:
    """What one evaluation a step makes, which all of them take."""
    plan = DDIM().plan(PROCESS, TIMES)
    errors, probe = Errors(0.0, 0.0), tuple(probed(MODEL, TIMES, (2,)).tolist())
    made = Fitted(stages=plan, times=tuple(TIMES.tolist()), before=errors, after=errors, probe=probe)
    key, other = jax.random.key(1), DataPrediction(PROCESS, lambda x, t: 0.5 * x)
    for seed in range(2):  # the second time, it is known to be the right one
        assert np.all(sample(jax.random.key(seed), MODEL, within(made), TIMES, (5, 2)).finite)
    with pytest.raises(ValueError, match="fitted to another model"):
        sample(key, other, within(made), TIMES, (5, 2))
    with pytest.raises(ValueError, match="fitted to another model"):
        sample_parallel(key, other, made, TIMES, (5, 2), window=2)


def test_what_draws_noise_is_not_fitted() -> None:
    with pytest.raises(ValueError, match="must not draw noise"):
        fit(jax.random.key(0), MODEL, DDIM(1.0), TIMES, (4, 2))
    for solver in (SDEDPMSolverPP(), PredictorCorrector(DDIM())):
        with pytest.raises(ValueError, match="must not draw noise"):
            fit_schedule(jax.random.key(0), MODEL, solver, TIMES, (4, 2))
