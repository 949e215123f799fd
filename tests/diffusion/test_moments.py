"""On normal data every law is known without a run: orders, mutants, and what is exact."""

import itertools
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import numpy as np
import pytest
from diffusion.laws import LAWS, NOISY, one
from diffusion.moments import laws
from diffusion.problems import PROCESSES, extrapolated, reached

from variate.diffusion import (
    DEIS,
    ERSDE,
    DPMSolver,
    DPMSolverPP,
    Flow,
    SASolver,
    Solver,
    UniPC,
    edm,
    uniform,
    uniform_log_snr,
)
from variate.diffusion.processes.base import exact_levels

# Plans are made in double precision by functions that no version of JAX changes.
pytestmark = pytest.mark.spared

MEAN, VARIANCE = 0.7, 0.3
PROCESS = PROCESSES["variance preserving"]
ALL = {name: law for name, law in (LAWS | NOISY).items() if name not in ("GENIE", "EVODiff")}  # linear ones
FEW, MANY = (32, 64, 128, 256), (64, 128, 256, 512)
SHORT = {"UniPC", "SA-Solver", "SA-Solver, noise in the middle"}  # where two errors cancel until steps are short


@cache
def times(steps: int) -> np.ndarray:
    return uniform_log_snr(PROCESS, steps, end=reached(PROCESS))


def errors(solver: Solver, steps: tuple[int, ...]) -> list[float]:
    """Of the variance at the end; the mean is exact at every step."""
    level = exact_levels(PROCESS, reached(PROCESS))
    ends = [laws(solver, PROCESS, times(n), MEAN, VARIANCE)[-1] for n in steps]
    return [abs(variance - level.alpha**2 * VARIANCE - level.sigma**2) for _, variance in ends]


@pytest.mark.wide
@pytest.mark.parametrize("name", ALL)
def test_the_order_is_the_one_stated(name: str) -> None:
    found, doubt = extrapolated(errors(ALL[name].solver, MANY if name in SHORT else FEW))
    assert abs(found - ALL[name].order) <= 2 * doubt


@pytest.mark.wide
@pytest.mark.parametrize(("name", "mutant"), [(name, mutant) for name in ALL for mutant in ALL[name].mutants])
def test_a_mutant_is_of_a_lower_order(name: str, mutant: str) -> None:
    coarse, fine = errors(ALL[name].mutants[mutant], (16, 32))
    assert np.log2(coarse / fine) < ALL[name].order - 0.5


OF_NOISE = {"SDE-DPM-Solver, 1", "SDE-DPM-Solver"}  # which put in more noise than a prediction at the start undoes


@pytest.mark.wide
@pytest.mark.parametrize("name", [*(name for name in NOISY if name not in OF_NOISE), "DPM-Solver++, 3", "UniPC"])
def test_a_point_is_reached_exactly(name: str) -> None:
    """All predictions of a point mass are the same, so that nothing is left but the process: at every step."""
    at = edm(PROCESS, 20)
    level, found = exact_levels(PROCESS, at), laws(ALL[name].solver, PROCESS, at, MEAN, 0.0)
    np.testing.assert_allclose(found[:, 0], level.alpha * MEAN, rtol=1e-12)
    np.testing.assert_allclose(found[:, 1], level.sigma**2, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("of_noise", [False, True])
def test_a_plan_that_ends_without_noise_is_finite(of_noise: bool) -> None:
    for at in (edm(PROCESS, 3), edm(PROCESS, 20)):
        for order, growth in itertools.product((1, 2, 3), (math.expm1, one)):
            plan = UniPC(order, growth, of_noise).plan(PROCESS, at)
            assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(plan))


def test_data_alone_may_be_the_start_of_a_solver_of_predicted_data() -> None:
    process = Flow()  # no signal at its horizon
    at = uniform(process, 10)
    found = laws(DPMSolverPP(3), process, at, MEAN, 0.0)
    np.testing.assert_allclose(found[:, 1], at**2, rtol=1e-12)
    with pytest.raises(ValueError, match="some of the data is left to predict noise"):
        DPMSolver().plan(process, at)


NO_ARGUMENT: dict[str, Any] = {"growth": lambda: 1.0}
BAD: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "order": (lambda: DEIS(4), ValueError, "order must be a positive integer up to 3"),
    "corrector": (lambda: SASolver(corrector=5), ValueError, "corrector must be a positive integer up to 4"),
    "tau": (lambda: SASolver(-1.0), ValueError, "tau must not be negative"),
    "growth": (lambda: UniPC(**NO_ARGUMENT), TypeError, "growth must be a function of the step h"),
    "scale": (
        lambda: ERSDE(1, lambda rho: rho**0.5).plan(PROCESS, uniform(PROCESS, 3)),
        ValueError,
        "scale must grow at least as fast",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name: str) -> None:
    make, error, words = BAD[name]
    with pytest.raises(error, match=words):
        make()
