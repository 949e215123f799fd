"""Solvers that put noise back: their laws on normal data, exactly where that can be, and what they refuse."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.laws import Tampered
from diffusion.moments import laws
from diffusion.problems import PROCESSES

from variate.diffusion import (
    DDIM,
    Ancestral,
    GaussianMixture,
    Genie,
    Heun,
    PredictorCorrector,
    Process,
    Restart,
    uniform,
    uniform_log_snr,
)

PROCESS = PROCESSES["variance preserving"]


def off(solver: Any, process: Process, times: np.ndarray) -> float:
    """By how much the variance of normal draws is off."""
    at = process.level(jnp.asarray(times[-1]))
    return abs(laws(solver, process, times, 0.7, 0.5**2)[-1][1] - float((0.5 * at.alpha) ** 2 + at.sigma**2))


@pytest.mark.parametrize("name", PROCESSES)
def test_a_restart_leaves_the_law_as_it_is(name: str) -> None:
    process = PROCESSES[name]
    times = uniform_log_snr(process, 6)
    again = [times[2:5], times[1:5:3], times[3:]]
    solver = Restart(Ancestral(0.5), again)  # of which nothing is off
    assert len(solver.plan(process, times).level.time) == 6 + 2 + 1 + 3
    assert off(solver, process, times) < 1e-12

    def fainter(plan: Any) -> Any:
        return eqx.tree_at(lambda plan: plan.x.noise, plan, 0.99 * plan.x.noise)

    assert off(Tampered(solver, fainter), process, times) > 1e-5


def test_a_restart_of_the_flow_has_noise_once() -> None:
    times = uniform_log_snr(PROCESS, 6)
    plan = Restart(Heun(), [times[2:5]]).plan(PROCESS, times)
    assert np.flatnonzero(plan.x.noise).tolist() == [7]  # after the four steps to the fifth time
    np.testing.assert_allclose(plan.level.time[8:12:2], times[2:4])
    added = float(PROCESS.transition(jnp.asarray(times[4]), jnp.asarray(times[2]))[1])
    assert abs(plan.x.noise[7] - added) < 1e-12


def test_a_correction_has_the_ratio_of_signal_to_noise_asked_for() -> None:
    model = GaussianMixture(PROCESS, [1.0], np.zeros((1, 64)), [0.25])
    times = uniform(PROCESS, 4)
    plan = PredictorCorrector(Ancestral(), corrections=2, ratio=0.1).plan(PROCESS, times)
    np.testing.assert_array_equal(plan.corrects, [0, 1, 1] * 4)
    np.testing.assert_allclose(plan.level.time[:4], [times[0], times[1], times[1], times[1]])
    row = jax.tree.map(lambda leaf: jnp.asarray(leaf[4]), plan)
    key, x = jax.random.key(1), jax.random.normal(jax.random.key(0), (64,))
    move = row.step(key, model, row.init(x)).x - x
    score, z = model.score(x, times[2]), jax.random.normal(jax.random.clone(key), (64,))
    along = jnp.linalg.lstsq(jnp.stack([score, z], axis=1), move)[0]
    delta, kept = float(along[0]), float(PROCESS.alpha(jnp.asarray(times[1])) / PROCESS.alpha(jnp.asarray(times[2])))
    assert abs(float(along[1]) - np.sqrt(2 * delta)) < 1e-10
    signal, noise = delta * jnp.linalg.norm(score), np.sqrt(2 * delta) * jnp.linalg.norm(z)
    assert abs(float(signal / noise) - 0.1 * kept) < 1e-10


def test_corrections_mend_the_variance_that_a_predictor_leaves_out() -> None:
    model = GaussianMixture(PROCESS, [1.0], np.zeros((1, 256)), [0.25])
    times = uniform_log_snr(PROCESS, 5)
    at = PROCESS.level(jnp.asarray(times[3]))
    exact = float(0.25 * at.alpha**2 + at.sigma**2)
    plan = PredictorCorrector(Ancestral(), corrections=1, ratio=0.4).plan(PROCESS, times)
    row = jax.tree.map(lambda leaf: jnp.asarray(leaf[5]), plan)  # a correction at the fourth time

    def corrected(x: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        return jax.vmap(lambda key, x: row.step(key, model, row.init(x)).x)(jax.random.split(key, len(x)), x), None

    start = np.sqrt(0.5 * exact) * jax.random.normal(jax.random.key(0), (64, 256))  # half of the variance is missing
    end, _ = jax.lax.scan(corrected, start, jax.random.split(jax.random.key(1), 200))
    found, doubt = float(jnp.mean(end**2)), exact * np.sqrt(2 / end.size)
    # Steps of length delta leave 1 / (1 - delta / 2 exact) of the exact variance, which makes delta what it is.
    kept = float(PROCESS.alpha(jnp.asarray(times[2])) / PROCESS.alpha(jnp.asarray(times[3])))
    assert abs(found - exact * (1 + (0.4 * kept) ** 2)) < 5 * doubt


def test_bad_input_is_refused() -> None:
    times = uniform(PROCESS, 4)
    with pytest.raises(ValueError, match="again must end at one of the times after the first"):
        Restart(DDIM(), [(0.9, 0.33)]).plan(PROCESS, times)
    with pytest.raises(ValueError, match="times must fall"):
        Restart(DDIM(), [(0.1, 0.9)]).plan(PROCESS, times)
    with pytest.raises(TypeError, match="solver must have linear stages to be restarted"):
        Restart(Genie(), []).plan(PROCESS, times)
    with pytest.raises(TypeError, match="predictor must take one evaluation a step"):
        PredictorCorrector(Heun()).plan(PROCESS, times)
    with pytest.raises(TypeError, match="predictor must be one of"):
        PredictorCorrector(DDIM)
