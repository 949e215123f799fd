"""Steps in parallel make the draws of steps in turn, in fewer rounds."""

import jax
import numpy as np
import pytest
from diffusion.problems import PROCESSES, mixture

from variate.diffusion import DDIM, DPMSolverPP, Heun, sample, sample_parallel, uniform

PROCESS = PROCESSES["variance preserving"]
MODEL = mixture(PROCESS)


def test_parallel_draws_are_those_in_turn() -> None:
    times, solver, shape = uniform(PROCESS, 60), DDIM(0.5), (5, 2)  # whose noise is the same in every round
    turn = sample(jax.random.key(0), MODEL, solver, times, shape).values
    exact = sample_parallel(jax.random.key(0), MODEL, solver, times, shape, window=16, tolerance=0.0)
    np.testing.assert_allclose(exact.values, turn, atol=1e-12)
    assert np.all(exact.rounds <= 60)
    assert np.all(exact.finite)
    near = sample_parallel(jax.random.key(0), MODEL, solver, times, shape, window=16, tolerance=0.01)
    assert np.all(near.rounds < 40)
    assert 1e-12 < np.max(np.abs(near.values - turn)) < 0.05
    # A round that stops at once has not converged: the bound tells the two apart.
    rough = sample_parallel(jax.random.key(0), MODEL, solver, times, shape, window=16, tolerance=1e6)
    assert np.all(rough.rounds == 4)
    assert np.max(np.abs(rough.values - turn)) > 0.05
    assert "in at most 4 rounds of 16 evaluations each" in repr(rough)


@pytest.mark.parametrize("solver", [Heun(), DPMSolverPP()])
def test_a_solver_that_keeps_something_is_refused(solver: object) -> None:
    with pytest.raises(ValueError, match="solver must ask once a step and keep nothing"):
        sample_parallel(jax.random.key(0), MODEL, solver, uniform(PROCESS, 5), (2, 2), window=3)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="tolerance must not be negative"):
        sample_parallel(jax.random.key(0), MODEL, DDIM(), uniform(PROCESS, 5), (2, 2), window=3, tolerance=-1.0)
    with pytest.raises(ValueError, match="window must be"):
        sample_parallel(jax.random.key(0), MODEL, DDIM(), uniform(PROCESS, 5), (2, 2), window=0)
