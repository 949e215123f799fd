"""Solvers of the probability flow converge with the order that they state."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.laws import LAWS
from diffusion.problems import POINTS, PROCESSES, ends, extrapolated, led, mixture

from variate.diffusion import Solver, uniform_log_snr

# Plans are made in double precision by functions that no version of JAX changes.
pytestmark = pytest.mark.spared

STEPS = (32, 64, 128, 256)


@functools.cache
def times(name: str, steps: int) -> np.ndarray:
    return uniform_log_snr(PROCESSES[name], steps)


@functools.cache
def exact(name: str) -> tuple[jax.Array, np.ndarray]:
    """Where the points start and end on a process."""
    process = PROCESSES[name]
    first, *_, last = times(name, STEPS[0])
    start = process.sigma(jnp.asarray(first)) * jax.random.normal(jax.random.key(1), (POINTS, 2))
    return start, ends(mixture(process), start, first, last)


def order(solver: Solver, name: str) -> tuple[float, float]:
    """The order, extrapolated to no step at all, and by how much two extrapolations of it differ."""
    process, (start, end) = PROCESSES[name], exact(name)
    errors = []
    for steps in STEPS:
        values = led(solver, mixture(process), times(name, steps), start)
        errors.append(np.sqrt(np.mean((values - end) ** 2)))
    return extrapolated(errors)


# On few solvers and processes, since updates know no more than levels; all linear ones are in test_moments.py.
CASES = [(name, "variance preserving") for name in ("DDIM", "Heun", "DPM-Solver++", "GENIE", "EVODiff")] + [
    ("Heun", "EDM"),
    ("DPM-Solver++", "flow"),
]


@pytest.mark.wide
@pytest.mark.parametrize(("name", "process"), CASES)
def test_the_order_is_the_one_stated(name: str, process: str) -> None:
    law = LAWS[name]
    found, doubt = order(law.solver, process)
    assert abs(found - law.order) <= 2 * doubt
    for mutant in law.mutants.values():  # here, since they share the compiled program
        found, doubt = order(mutant, process)
        assert abs(found - law.order) > 2 * doubt


@pytest.mark.parametrize("name", LAWS)
def test_a_step_takes_as_many_evaluations_as_stated(name: str) -> None:
    process = PROCESSES["flow"]
    assert len(LAWS[name].solver.plan(process, uniform_log_snr(process, 5)).level.time) == 5 * LAWS[name].evaluations
