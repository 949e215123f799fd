"""What solvers with noise end with has the law of noisy data: two samples, of a law that is not normal."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.laws import NOISY, Altered
from diffusion.problems import Planned, mixture
from scipy.stats import ks_2samp, kstwobign

from variate.diffusion import Ancestral, Heun, Restart, VariancePreserving, sample, uniform_log_snr

pytestmark = [pytest.mark.slow, pytest.mark.spared]

PROCESS = VariancePreserving()
DATA = mixture(PROCESS)
# The end has noise still, or the last of the steps of a solver of order one would be most of its error.
TIMES = uniform_log_snr(PROCESS, 128, end=0.05)
DRAWS, WRONG, MISSED = 20_000, 1e-6, 1e-3
DIRECTIONS = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
# Kolmogorov's and Smirnov's test of two samples in each direction; and how much nearer to each other the functions of
# two samples may be than those of their laws, by the inequality of Dvoretzky, Kiefer, Wolfowitz and Massart for each.
CRITICAL = float(kstwobign.isf(WRONG / len(DIRECTIONS))) * math.sqrt(2 / DRAWS)
SEEN = CRITICAL + 2 * math.sqrt(math.log(4 / MISSED) / (2 * DRAWS))

SOLVERS: dict[str, Any] = {name: law.solver for name, law in NOISY.items()} | {
    "ancestral of DDPM": Ancestral(),
    "Restart": Restart(Heun(), 2 * [tuple(uniform_log_snr(PROCESS, 16, start=0.4, end=0.05))]),
}


@functools.cache
def exact() -> np.ndarray:
    key_data, key_noise = jax.random.split(jax.random.key(1))
    data = jax.vmap(lambda key: DATA.draw(key))(jax.random.split(key_data, DRAWS))
    at = PROCESS.level(jnp.asarray(TIMES[-1]))
    return np.asarray(at.alpha * data + at.sigma * jax.random.normal(key_noise, data.shape))


def apart(draws: np.ndarray) -> float:
    """The largest distance of two distribution functions, of both coordinates, their sum and their difference."""
    pairs = zip(DIRECTIONS @ draws.T, DIRECTIONS @ exact().T, strict=True)
    return max(float(ks_2samp(*pair).statistic) for pair in pairs)


def drawn(plan: Any) -> np.ndarray:
    run = sample(jax.random.key(0), DATA, Planned(plan), TIMES, (DRAWS, 2))
    assert run.failed is None
    return np.asarray(run.values)


@pytest.mark.wide
@pytest.mark.parametrize("name", SOLVERS)
def test_draws_have_the_law_of_noisy_data(name: str) -> None:
    """A right solver fails one time in a million; one whose law is off by `SEEN` passes one time in a thousand."""
    assert apart(drawn(SOLVERS[name].plan(PROCESS, TIMES))) < CRITICAL
    quiet = Altered(SOLVERS[name], lambda plan: plan.x.noise, lambda deviation: 0.8 * deviation)
    assert apart(drawn(quiet.plan(PROCESS, TIMES))) > SEEN
