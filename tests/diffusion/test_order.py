"""Solvers of the probability flow converge with the order that they state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.laws import LAWS
from diffusion.problems import POINTS, PROCESSES, ends, extrapolated, mixture

from variate.diffusion import Process, Solver, sample, uniform_log_snr

STEPS = (32, 64, 128, 256)


def order(solver: Solver, process: Process) -> tuple[float, float]:
    """The order, extrapolated to no step at all, and by how much two extrapolations of it differ."""
    model, times = mixture(process), uniform_log_snr(process, 2)
    start = process.sigma(jnp.asarray(times[0])) * jax.random.normal(jax.random.key(1), (POINTS, 2))
    exact = ends(model, start, times[0], times[-1])
    errors = []
    for steps in STEPS:
        run = sample(jax.random.key(0), model, solver, uniform_log_snr(process, steps), (POINTS, 2), start=start)
        errors.append(np.sqrt(np.mean((run.values - exact) ** 2)))
    return extrapolated(errors)


# On few solvers and processes, since updates know no more than levels; all solvers are in test_moments.py.
CASES = [(name, "variance preserving") for name in ("DDIM", "Heun", "DPM-Solver++")] + [
    ("Heun", "EDM"),
    ("DPM-Solver++", "flow"),
]


@pytest.mark.parametrize(("name", "process"), CASES)
def test_the_order_is_the_one_stated(name: str, process: str) -> None:
    found, doubt = order(LAWS[name].solver, PROCESSES[process])
    assert abs(found - LAWS[name].order) <= 2 * doubt
