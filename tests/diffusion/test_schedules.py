"""Schedules: they fall from start to end, and what they hold equal is equal."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from variate.diffusion import (
    EDM,
    Flow,
    Interpolant,
    Process,
    VariancePreserving,
    beta,
    cosine,
    edm,
    uniform,
    uniform_log_snr,
)
from variate.diffusion.processes.base import exact_levels


def log_ratio(process: Process, times: Any) -> Any:
    level = exact_levels(process, times)
    return np.log(level.sigma / level.alpha)


# Each schedule with what grows by equal amounts along it (but for the last step of `edm`, to no noise), and a mutant.
ROWS: dict[str, tuple[Any, Callable[[Process, Any], Any], Any]] = {
    "uniform": (uniform, lambda process, t: t, uniform_log_snr),
    "log snr": (uniform_log_snr, log_ratio, uniform),
    "edm": (edm, lambda process, t: np.exp(log_ratio(process, t[:-1]) / 7), uniform_log_snr),
    "cosine": (cosine, lambda process, t: np.arctan(np.exp(log_ratio(process, t))), uniform_log_snr),
    "beta": (beta, lambda process, t: stats.beta.cdf((t - t[-1]) / (t[0] - t[-1]), 0.6, 0.6), uniform),
}


def steps_equally(schedule: Any, measure: Callable[[Process, Any], Any], process: Process) -> None:
    times = schedule(process, 6)
    assert times.shape == (7,)
    assert times[0] == process.horizon
    assert times[-1] == (0 if schedule is edm else process.cutoff)
    assert np.all(np.diff(times) < 0)
    differences = np.diff(measure(process, times))
    np.testing.assert_allclose(differences, differences[0], rtol=1e-9)


@pytest.mark.wide
@pytest.mark.parametrize("process", [VariancePreserving(), EDM()])
@pytest.mark.parametrize("name", ROWS)
def test_steps_are_equal_in_what_they_should_be(name: str, process: Process) -> None:
    schedule, measure, mutant = ROWS[name]
    steps_equally(schedule, measure, process)
    with pytest.raises(AssertionError):
        steps_equally(mutant, measure, process)


def test_the_angle_may_start_without_data_and_end_without_noise() -> None:
    import jax.numpy as jnp

    turning = Interpolant(lambda t: jnp.cos(jnp.pi / 2 * t), lambda t: jnp.sin(jnp.pi / 2 * t))
    np.testing.assert_allclose(cosine(turning, 4, end=0.0), [1.0, 0.75, 0.5, 0.25, 0.0], atol=1e-12)
    assert cosine(Flow(), 2, end=0.0)[1] == pytest.approx(0.5)


def test_a_beta_distribution_of_ones_is_uniform() -> None:
    np.testing.assert_allclose(beta(EDM(), 5, 10.0, 1.0, 1.0, 1.0), uniform(EDM(), 5, 10.0, 1.0))


@pytest.mark.parametrize("schedule", [beta, cosine])
def test_times_outside_the_process_are_refused(schedule: Any) -> None:
    with pytest.raises(ValueError, match="start and end must be times with"):
        schedule(Flow(), 5, 2.0)
    with pytest.raises(ValueError, match="a must be"):
        beta(Flow(), 5, a=0.0)
