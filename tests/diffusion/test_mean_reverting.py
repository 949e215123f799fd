"""Solvers on a process that leads to a degraded version of the data are the MR sampler, and no less exact there."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.laws import LAWS, NOISY, half_an_older_one
from diffusion.problems import led

from variate.diffusion import (
    DDIM,
    DataPrediction,
    DPMSolver,
    DPMSolverPP,
    EVODiff,
    GaussianMixture,
    MeanReverting,
    NoisePrediction,
    SDEDPMSolver,
    SDEDPMSolverPP,
    VariancePreserving,
    sample,
    teleported,
    uniform_log_snr,
)
from variate.diffusion.processes.base import exact_levels
from variate.diffusion.solvers.base import data

SCALE = 0.2
PLAIN = VariancePreserving()
PROCESS = MeanReverting(SCALE, PLAIN)
NORMAL: Any = (np.array([0.4, -0.2]), np.diag([0.05, 0.02]))
SOLVERS = {name: law.solver for name, law in (LAWS | NOISY).items()}
BENT = {"ER-SDE, 1", "ER-SDE, 2", "accelerated DDIM"}  # which see the ratio of noise to signal itself
OTHERS = {"GENIE", "EVODiff"}  # whose updates are not linear


@pytest.mark.wide
@pytest.mark.parametrize("name", [name for name in SOLVERS if name not in BENT | OTHERS])
def test_a_plan_is_that_of_the_plain_process_in_units_of_the_noise(name: str) -> None:
    """So orders are those that solvers have on it: $x / \\lambda$ is the plain process of data in these units."""
    times = uniform_log_snr(PLAIN, 6)
    found, plain = (SOLVERS[name].plan(process, times) for process in (PROCESS, PLAIN))

    def numbers(plan: Any, unit: float) -> list[Any]:
        both = [terms for terms in (plan.x, plan.anchor) if terms is not None]
        size = 1.0 if plan.kept is data else unit
        rows = [(terms.x, 1.0) for terms in both] + [(terms.anchor, 1.0) for terms in both]
        rows += [(column, size) for terms in both for column in terms.history] + [(t.noise, unit) for t in both]
        return [None if column is None else column * factor for column, factor in rows]

    def same(unit: float) -> None:
        for one, other in zip(numbers(found, 1.0), numbers(plain, unit), strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-8)

    same(SCALE)
    if plain.kept is not data or plain.x.noise is not None:
        with pytest.raises(AssertionError):
            same(2 * SCALE)


def test_runs_near_the_end_of_the_flow_with_the_square_of_their_steps() -> None:
    model = GaussianMixture(PROCESS, [1.0], [NORMAL[0]], [NORMAL[1]])
    start = SCALE * jax.random.normal(jax.random.key(0), (20, 2))
    end = teleported(PROCESS, start, *NORMAL, [1.0, 0.1])

    def order(solver: Any) -> float:
        runs = [uniform_log_snr(PROCESS, steps, end=0.1) for steps in (32, 64)]
        coarse, fine = (np.sqrt(np.mean((led(solver, model, times, start) - end) ** 2)) for times in runs)
        return float(np.log2(coarse / fine))

    assert order(DPMSolverPP()) > 1.5 > max(map(order, half_an_older_one(DPMSolverPP()).values()))


MU, START = jnp.asarray([0.4, -0.3]), jnp.asarray([[0.9, 0.2]])
TIMES = np.array([0.6, 0.45])


def network(x: Any, t: Any) -> Any:
    return jnp.tanh(x) + t


def one_step(solver: Any, prediction: Any) -> np.ndarray:
    model = prediction(PROCESS, lambda y, t: network(y + MU, t) - (MU if prediction is DataPrediction else 0.0))
    draws = sample(jax.random.key(0), model, solver, TIMES, (1, 2), start=START - MU[None])
    return np.asarray(draws.values[0] + MU)


def by_the_source(of_data: bool, fresh: bool) -> tuple[np.ndarray, float]:
    """The MR sampler's step of order one without its noise, which goes in around mu; and the size of that noise."""
    (alpha_s, alpha_t), (sigma_s, sigma_t) = exact_levels(PROCESS, TIMES)[1:]
    h = np.log(alpha_t / sigma_t) - np.log(alpha_s / sigma_s)
    x, mu, found = np.asarray(START[0]), np.asarray(MU), np.asarray(network(START[0], TIMES[0]))
    if not of_data:
        noise = -(1 + fresh) * sigma_t * np.expm1(h) * found
        return alpha_t / alpha_s * x + (1 - alpha_t / alpha_s) * mu + noise, sigma_t * np.sqrt(np.expm1(2 * h)) * fresh
    kept, decay = sigma_t / sigma_s * np.exp(-h * fresh), -np.expm1(-(1 + fresh) * h)
    rest = 1 - kept - alpha_t * decay
    return kept * x + rest * mu + alpha_t * decay * found, sigma_t * np.sqrt(-np.expm1(-2 * h)) * fresh


STEPS: dict[str, tuple[Callable[[], Any], bool]] = {
    "DDIM": (DDIM, True),
    "DPM-Solver": (lambda: DPMSolver(1), False),
    "DPM-Solver++": (lambda: DPMSolverPP(1), True),
    "EVODiff": (EVODiff, True),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_of_the_flow_is_that_of_the_source(name: str) -> None:
    make, of_data = STEPS[name]
    found = one_step(make(), DataPrediction if of_data else NoisePrediction)
    np.testing.assert_allclose(found, by_the_source(of_data, False)[0], rtol=1e-12)
    assert not np.allclose(found, by_the_source(not of_data, False)[0])


def test_steps_with_noise_are_those_of_the_source() -> None:
    """The two solvers draw the same noise for a key, so it can be told from what they move by."""

    def drawn(solver: Any, of_data: bool) -> np.ndarray:
        moved, size = by_the_source(of_data, True)
        return (one_step(solver, DataPrediction if of_data else NoisePrediction) - moved) / size

    np.testing.assert_allclose(drawn(SDEDPMSolver(1), False), drawn(SDEDPMSolverPP(1), True), rtol=1e-10)
    assert not np.allclose(drawn(DDIM(1.0), True), drawn(SDEDPMSolver(1), True))
