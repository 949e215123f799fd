"""Steps that know only where they start: what they are equal to, and the exact law of a chain on normal data."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.moments import laws
from diffusion.problems import PROCESSES

from variate.diffusion import (
    DDIM,
    Ancestral,
    DPMSolverPPSinglestep,
    DPMSolverSinglestep,
    Euler,
    Flow,
    Process,
    Solver,
    edm,
    uniform,
    uniform_log_snr,
)


def same(one: Any, other: Any) -> bool:
    pairs = [(one.x.x, other.x.x), (one.x.history[0], other.x.history[0])]
    if one.x.noise is not None:
        pairs.append((one.x.noise, other.x.noise))
    return all(np.allclose(a, b, rtol=1e-10, atol=1e-12) for a, b in pairs)


@pytest.mark.parametrize(("name", "expected"), [("EDM", True), ("flow", True), ("variance preserving", False)])
def test_euler_is_ddim_where_signal_and_noise_are_straight(name: str, expected: bool) -> None:
    process, times = PROCESSES[name], edm(PROCESSES[name], 7)
    assert same(Euler().plan(process, times), DDIM().plan(process, times)) == expected


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_the_ancestral_chain_is_ddim_with_all_its_noise(process: Process) -> None:
    times = edm(process, 7)
    assert same(Ancestral().plan(process, times), DDIM(1.0).plan(process, times))
    assert not same(Ancestral(0.1).plan(process, times), DDIM(1.0).plan(process, times))


def test_the_larger_variance_of_ddpm_is_that_of_the_process() -> None:
    process, times = PROCESSES["variance preserving"], uniform(PROCESSES["variance preserving"], 7)
    added = process.transition(jnp.asarray(times[1:]), jnp.asarray(times[:-1]))[1]
    np.testing.assert_allclose(Ancestral(1.0).plan(process, times).x.noise, added, rtol=1e-10)


def off(solver: Solver, process: Process, std: float) -> float:
    """By how much the mean and the variance of normal draws are off, after five steps."""
    times = uniform_log_snr(process, 5)
    at = process.level(times[-1])
    mean, variance = laws(solver, process, times, 0.7, std**2)[-1]
    exact = (float(at.alpha) * std) ** 2 + float(at.sigma) ** 2
    return abs(mean - 0.7 * float(at.alpha)) + abs(variance - exact)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_the_ancestral_chain_draws_normal_data_exactly(process: Process) -> None:
    assert off(Ancestral(0.5), process, 0.5) < 1e-12
    assert off(Ancestral(0.5), process, 0.6) > 1e-4
    assert off(Ancestral(), process, 0.5) > 1e-4


def test_a_step_that_ends_without_noise_takes_one_evaluation() -> None:
    process = PROCESSES["EDM"]
    for solver in (DPMSolverSinglestep(3), DPMSolverPPSinglestep(3)):
        assert len(solver.plan(process, edm(process, 4)).level.time) == 3 * 3 + 1


def test_a_flow_may_start_from_pure_noise_where_data_are_predicted() -> None:
    process = Flow()
    plan = DPMSolverPPSinglestep(2).plan(process, uniform(process, 4))
    assert len(plan.level.time) == 1 + 3 * 2
    assert math.isclose(plan.x.x[0] + plan.x.history[0][0], 1.0)  # x_t = t x + (1 - t) data
    with pytest.raises(ValueError, match="some of the data is left to predict noise"):
        DPMSolverSinglestep(2).plan(process, uniform(process, 4))


def test_bad_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="data_std must not be negative"):
        Ancestral(-1.0)
    with pytest.raises(ValueError, match="the order of DPMSolverSinglestep must be 2 or 3, got 1"):
        DPMSolverSinglestep(1)
    with pytest.raises(ValueError, match="the order of DPMSolverPPSinglestep must be 2 or 3, got 4"):
        DPMSolverPPSinglestep(4)
