"""Compensated predictions are those of the paper's loop, and UniPC's with ratios of one; learned, they end nearer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.problems import PROCESSES, Planned, mixture

from variate.diffusion import DPMSolverPP, Fitted, UniPC, fit_compensation, sample, uniform_log_snr
from variate.diffusion.fitted.compensation import compensated
from variate.diffusion.processes.base import exact_levels

PROCESS = PROCESSES["variance preserving"]
MODEL = mixture(PROCESS)
TIMES = uniform_log_snr(PROCESS, 5)
RATIOS = np.array([0.7, 1.2, 0.8, 1.1])
START = jax.random.normal(jax.random.key(1), (20, 2))


def polynomial(nodes: list[float], values: list[np.ndarray], at: float) -> np.ndarray:
    """Through some values, by Neville's scheme."""
    values = list(values)
    for width in range(1, len(nodes)):
        for i in range(len(nodes) - width):
            low, high = nodes[i], nodes[i + width]
            values[i] = ((at - high) * values[i] - (at - low) * values[i + 1]) / (low - high)
    return values[0]


def loop(corrects_as_asked: bool = False, keeps_what_was_asked: bool = False) -> np.ndarray:
    """UniPC of order one as published, with the newest prediction of its buffer moved before each step."""
    level, x = exact_levels(PROCESS, TIMES), np.asarray(START)
    step = np.exp(-np.diff(np.log(level.alpha / level.sigma)))
    asked = jax.vmap(lambda x, t: MODEL.data(x, t), (0, None))
    buffer = [np.asarray(asked(jnp.asarray(x), TIMES[0]))]
    for i in range(len(TIMES) - 1):
        newest = as_asked = buffer[-1]
        if i:
            nodes, at = TIMES[max(i - 2, 0) : i + 1], RATIOS[i - 1] * TIMES[i] + (1 - RATIOS[i - 1]) * TIMES[i - 1]
            newest = polynomial(list(nodes), buffer[-len(nodes) :], at)
            buffer[-1] = buffer[-1] if keeps_what_was_asked else newest
        mass = level.alpha[i + 1] * (1 - step[i])
        ahead = level.sigma[i + 1] / level.sigma[i] * x + mass * newest
        if i + 2 < len(TIMES):
            found = np.asarray(asked(jnp.asarray(ahead), TIMES[i + 1]))
            x = ahead + 0.5 * mass * (found - (as_asked if corrects_as_asked else newest))
            buffer.append(found)
    return ahead


def test_it_is_the_loop_of_the_paper() -> None:
    made = compensated(UniPC(1), PROCESS, TIMES)(RATIOS)
    found = sample(jax.random.key(0), MODEL, Planned(made), TIMES, START.shape, start=START).values
    np.testing.assert_allclose(found, loop(), rtol=1e-9, atol=1e-9)
    for mutant in (loop(corrects_as_asked=True), loop(keeps_what_was_asked=True)):
        assert np.max(np.abs(found - mutant)) > 1e-3


@pytest.mark.parametrize("solver", [UniPC(1), UniPC(2), UniPC(3), UniPC(2, of_noise=True)])
def test_ratios_of_one_are_no_compensation(solver: UniPC) -> None:
    made, plain = compensated(solver, PROCESS, TIMES)(np.ones(4)), solver.plan(PROCESS, TIMES)
    np.testing.assert_array_equal(made.x.x, plain.x.x)
    for age, weights in enumerate(made.x.history):
        given = plain.x.history[age] if age < plain.depth else None
        np.testing.assert_allclose(weights, np.zeros(5) if given is None else given, atol=1e-14)


def test_learned_ratios_end_nearer() -> None:
    """By five times the error of the mean over fresh draws, from sixteen trajectories."""
    fitted = fit_compensation(jax.random.key(0), MODEL, UniPC(), TIMES, (16, 2))
    assert isinstance(fitted, Fitted)
    assert fitted.after.rms < fitted.before.rms
    exact, before, after = (
        np.asarray(sample(jax.random.key(1), MODEL, solver, times, (200, 2)).values)
        for solver, times in ((DPMSolverPP(), uniform_log_snr(PROCESS, 400)), (UniPC(), TIMES), (fitted, TIMES))
    )
    gain = np.log(np.mean((before - exact) ** 2, axis=1) / np.mean((after - exact) ** 2, axis=1))
    assert np.mean(gain) > 5 * np.std(gain) / np.sqrt(len(gain))


def test_what_is_not_unipc_is_refused() -> None:
    with pytest.raises(TypeError, match=r"solver must be UniPC\(\) of some order"):
        fit_compensation(jax.random.key(0), MODEL, DPMSolverPP(), TIMES, (4, 2))
