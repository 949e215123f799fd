"""What is changed in a run against the errors of a network, or of long steps: each against its formula."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.problems import PROCESSES, mixture

from variate.diffusion import (
    DDIM,
    ConjugateDDIM,
    DPMSolver,
    DPMSolverPP,
    DualFast,
    Flow,
    Genie,
    Heun,
    NoisePrediction,
    SDEDPMSolverPP,
    TimeShifted,
    VariancePreserving,
    sample,
    uniform,
    uniform_log_snr,
)
from variate.diffusion.processes.base import exact_levels

PROCESS = PROCESSES["variance preserving"]
START = jnp.asarray([[0.8, -1.1]])
TIMES = uniform_log_snr(PROCESS, 5)
MATRIX = jnp.asarray([[0.5, 0.2], [0.1, 0.4]])


def told(x: Any, t: Any) -> Any:
    return MATRIX @ x * (0.5 + t)


def growing(t: Any) -> Any:
    return 0.3 * (1 - t)


@pytest.mark.wide
@pytest.mark.parametrize("solver", [DDIM(), DPMSolver(), DPMSolverPP(3), Heun(), SDEDPMSolverPP()])
def test_noise_is_led_away_from_the_first(solver: Any) -> None:
    """Of one draw whose start is known, the same as a model that predicts the noise so in the first place."""

    def end(solver: Any, function: Callable[[Any, Any], Any]) -> Any:
        model = NoisePrediction(PROCESS, function)
        return np.asarray(sample(jax.random.key(0), model, solver, TIMES, (1, 2), start=START).values)

    def away(sign: float) -> Callable[[Any, Any], Any]:
        first = told(START[0], TIMES[0])
        return lambda x, t: told(x, t) + sign * growing(t) * (told(x, t) - first)

    found = end(DualFast(solver, growing), told)
    np.testing.assert_allclose(found, end(solver, away(1.0)), rtol=1e-9)
    for mutant in (away(-1.0), away(0.0)):
        assert np.max(np.abs(found - end(solver, mutant))) > 1e-3
    np.testing.assert_allclose(end(DualFast(solver, 0.0), told), end(solver, told), rtol=1e-12)


def asked_at(spread: float, t: float, **options: float) -> float:
    """The time at which a network is asked for a point whose coordinates have a variance."""
    x = jnp.asarray([1.0, -1.0, 0.5, -0.5, 2.0])
    x = (x - jnp.mean(x)) * np.sqrt(spread / np.var(x, ddof=1)) + 0.3
    asked = NoisePrediction(PROCESS, lambda x, t: jnp.full_like(x, t))
    return float(TimeShifted(asked, 0.2, **options).noise(x, t)[0])


def test_a_network_is_asked_at_the_time_whose_noise_a_point_has() -> None:
    def variance(t: float, data: float) -> float:
        level = exact_levels(PROCESS, [t])
        return (level.sigma[0] ** 2 + level.alpha[0] ** 2 * data).item()

    for data in (0.0, 0.3):
        for time in (0.4, 0.456, 0.5):
            assert np.isclose(asked_at(variance(time, data), 0.44, data_variance=data), time)  # one of the candidates
        assert np.isclose(asked_at(variance(0.7, data), 0.44, data_variance=data), 0.54)  # the end of the window
        assert np.isclose(asked_at(variance(0.1, data), 0.44, data_variance=data), 0.34)
        assert np.isclose(asked_at(10.0, 0.98, data_variance=data), 1.0)  # the horizon
        assert np.isclose(asked_at(0.0, 0.05, data_variance=data), PROCESS.cutoff)
    assert not np.isclose(asked_at(variance(0.456, 0.3), 0.44), 0.456)
    assert asked_at(variance(0.5, 0.0), 0.44, cutoff=0.44) == 0.44


def test_the_point_stays_what_it_is_where_the_time_is_shifted() -> None:
    level, x = PROCESS.level(0.4), jnp.asarray([1.0, -2.0, 0.4])
    found = TimeShifted(NoisePrediction(PROCESS, lambda x, t: t * x), 0.3).predict(x, level)
    np.testing.assert_allclose(level.alpha * found.data + level.sigma * found.noise, x)


NODES, MASSES = np.polynomial.legendre.leggauss(400)


def by_quadrature(process: Any, rate: float, times: np.ndarray) -> tuple[Any, Any]:
    """Euler's steps on z, with what multiplies the noise from the drift and the diffusion, as the source has it."""

    def grows(time: Any) -> Any:
        return np.exp(rate * time) / exact_levels(process, time).alpha

    s, t = times[:-1], times[1:]
    at = s[:, None] + (t - s)[:, None] * 0.5 * (NODES + 1)
    pushes = grows(at) * np.asarray(process.diffusion(jnp.asarray(at))) ** 2 / 2 / exact_levels(process, at).sigma
    pushed = (t - s) * 0.5 * (pushes @ MASSES)
    return grows(s) * (1 + rate * (t - s)) / grows(t), pushed / grows(t)


@pytest.mark.parametrize("process", [PROCESS, PROCESSES["flow"]], ids=["variance preserving", "flow"])
def test_a_conjugate_step_is_eulers_after_a_change_of_variables(process: Any) -> None:
    times = uniform(process, 4, end=0.05)

    def same(plan: Any, wanted: tuple[Any, Any]) -> None:
        np.testing.assert_allclose((plan.x.x, plan.x.history[0]), wanted, rtol=1e-8)

    same(ConjugateDDIM(-0.7).plan(process, times), by_quadrature(process, -0.7, times))
    with pytest.raises(AssertionError):
        same(ConjugateDDIM(-0.7).plan(process, times), by_quadrature(process, 0.7, times))
    ddim: Any = DPMSolver(1).plan(process, times)
    same(ConjugateDDIM(0.0).plan(process, times), (ddim.x.x, ddim.x.history[0]))


def test_the_noise_is_integrated_to_every_digit_down_to_none() -> None:
    """By parts and along a square, since the standard deviation starts like a root."""
    process, rate, root = VariancePreserving(), 1.5, np.sqrt(0.3) * 0.5 * (NODES + 1)

    def grown(time: Any) -> Any:
        at = exact_levels(process, time)
        return np.exp(rate * time) * at.sigma / at.alpha

    wanted = rate * np.sqrt(0.3) * 0.5 * (MASSES @ (2 * root * grown(root**2))) - grown(0.3)
    found: Any = ConjugateDDIM(rate).plan(process, np.array([0.3, 0.0]))
    np.testing.assert_allclose(found.x.history[0], [wanted], rtol=1e-10)


MODEL = mixture(PROCESS)
BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no solver": (lambda: DualFast(MODEL, 0.1), TypeError, "solver must be one of vt.diffusion"),
    "not linear": (lambda: DualFast(Genie(), 0.1).plan(PROCESS, TIMES), TypeError, "solver must have linear stages"),
    "a strength below zero": (lambda: DualFast(DDIM(), -0.1), ValueError, "strength must not be negative"),
    "at one time": (
        lambda: DualFast(DDIM(), lambda t: t - 0.5).plan(PROCESS, TIMES),
        ValueError,
        "strength must not be negative, got .* at time",
    ),
    "no signal": (lambda: DualFast(DDIM(), 0.1).plan(Flow(), uniform(Flow(), 3)), ValueError, "some of the data"),
    "no rate": (lambda: ConjugateDDIM(np.inf), ValueError, "rate must be a finite number"),
    "no model": (lambda: TimeShifted(None, 0.1), TypeError, "model must be a denoiser"),
    "no window": (lambda: TimeShifted(MODEL, 0.0), ValueError, "window must be a positive number"),
    "a cutoff below zero": (lambda: TimeShifted(MODEL, 0.1, -1.0), ValueError, "cutoff must not be negative"),
    "one coordinate": (
        lambda: TimeShifted(MODEL, 0.1).noise(jnp.ones(1), 0.5),
        ValueError,
        "two coordinates or more to have a variance",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name: str) -> None:
    make, error, words = BAD[name]
    with pytest.raises(error, match=words):
        make()


def test_a_solver_that_was_made_for_one_model_still_looks_at_it() -> None:
    class Made:
        def plan(self, process: Any, times: Any) -> Any:
            return DDIM().plan(process, times)

        def check_model(self, model: Any, event: Any) -> None:
            raise ValueError(f"another model, for draws of {event}")

    with pytest.raises(ValueError, match=r"another model, for draws of \(2,\)"):
        sample(jax.random.key(0), MODEL, DualFast(Made(), 0.1), TIMES, (1, 2))
