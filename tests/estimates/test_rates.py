"""How fast errors fall: the order that theory has lies in the interval of the fitted one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from scipy import stats

import variate as vt
from variate.estimates import Sobol

GROUPS, SIZES = 20, np.array([256, 512, 1024, 2048, 4096])
FALSE_ALARM = 1e-6 / 2


def smooth(key: Array) -> Array:
    return jnp.exp(-jnp.sum(vt.draw(key, dist.Uniform(jnp.zeros(4), 1.0).to_event(1))))


def order(key: Array, method: Any) -> tuple[float, float]:
    """Ends of the interval of the slope of log root mean squares of errors, of ten keys each, in log runs."""
    columns = []
    for n, own in zip(SIZES.tolist(), jax.random.split(key, len(SIZES)), strict=True):
        run = vt.expect(smooth, method=method, num_samples=n, block_size=n)
        found = jax.jit(lambda keys, run=run: jax.lax.map(lambda one: run(one).value, keys))(
            jax.random.split(own, 10 * GROUPS)
        )
        errors = np.asarray(found).reshape(GROUPS, 10) - (1 - np.exp(-1)) ** 4
        columns.append(np.log(np.sqrt(np.mean(errors**2, axis=1))))
    rows = np.array(columns).T
    found: Any = stats.linregress(np.broadcast_to(np.log(SIZES), rows.shape).ravel(), rows.ravel())
    half = stats.t.ppf(1 - FALSE_ALARM / 2, rows.size - 2) * found.stderr
    return found.slope - half, found.slope + half


@pytest.mark.slow
def test_errors_of_independent_runs_fall_as_the_root_of_their_number(key: Array) -> None:
    low, high = order(key, ())
    assert low < -0.5 < high
    assert low > -1  # so that what says so of a design would not of these


@pytest.mark.slow
def test_errors_of_points_that_fill_space_fall_as_their_number_or_faster(key: Array) -> None:
    low, high = order(key, Sobol())
    assert low < -1  # no slower than theory has it
    assert high < -0.5  # and surely not as those of independent runs
