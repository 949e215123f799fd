"""The reverse diffusion of processes with velocities: its law on normal data, exactly, and two samples on others."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.problems import Planned, extrapolated
from scipy.stats import ks_2samp

from variate.diffusion import (
    EDM,
    SSCS,
    Augmented,
    AugmentedProcess,
    GaussianMixture,
    VariancePreserving,
    critically_damped,
    sample,
)

DAMPED = critically_damped()
THREE = AugmentedProcess(
    np.diag([0.3, 0.0, 2.0]), [[0, -2, 0], [2, 0, -1], [0, 1, 0]], np.diag([1.0, 0.5, 2.0]), [0.5, 2.0]
)
PROCESSES = {"damped": DAMPED, "resting": critically_damped(first=1.0), "three variables": THREE}
MEAN, VARIANCE = 0.7, 0.25


@functools.cache
def planned(order: int, name: str, times: tuple[float, ...]) -> Any:
    return SSCS(order).plan(PROCESSES[name], np.asarray(times))


def changed(plan: Any, which: str, factor: float) -> Any:
    return eqx.tree_at(lambda plan: getattr(plan, which), plan, replace_fn=lambda leaf: factor * leaf)


def moments(process: Any, t: float, mean: float, variance: float) -> tuple[np.ndarray, np.ndarray]:
    weight, covariance = map(np.asarray, process.moments(t))
    return weight * mean, covariance + variance * np.outer(weight, weight)


def end(plan: Any, start: Any, mean: float, variance: float) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the covariance of the variables after a plan on data N(mean, variance), whose noise is linear."""
    k = len(start[0])
    here, stays, nothing = np.eye(k, 2 * k), np.eye(2 * k), np.zeros((k, k))
    m, c = np.concatenate([start[0], start[0]]), np.kron(np.ones((2, 2)), start[1])  # of the point and the anchor
    for i in range(len(plan.again)):
        row = jax.tree.map(lambda leaf, i=i: leaf[i], plan)
        for matrix, root, asks in ((row.before, row.before_root, True), (row.after, row.after_root, False)):
            move = stays.copy()
            move[:k, :k] = matrix
            m, c = move @ m, move @ c @ move.T + np.kron(np.diag([1.0, 0.0]), root @ root.T)
            if asks:
                weight, whiten = row.level.alpha, np.linalg.inv(row.level.sigma)
                covariance = row.level.sigma @ row.level.sigma.T + variance * np.outer(weight, weight)
                gain = variance * weight @ np.linalg.inv(covariance)
                slope = row.pull - row.push @ whiten @ (np.eye(k) - np.outer(weight, gain))
                offset = row.push @ whiten @ weight * (mean - gain @ weight * mean)
                base = np.concatenate([(1 - row.again) * np.eye(k), row.again * np.eye(k)], axis=1)
                move = np.concatenate([base + slope @ here, here])
                m, c = move @ m + np.concatenate([offset, nothing[0]]), move @ c @ move.T
    return m[:k], c[:k, :k]


def off(plan: Any, name: str, times: np.ndarray, mean: float, variance: float) -> float:
    """How far the mean and the covariance at the end are from those that they should be."""
    start, wanted = (moments(PROCESSES[name], t, mean, variance) for t in (times[0], times[-1]))
    found = end(plan, start, mean, variance)
    return float(np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(found, wanted, strict=True))))


@pytest.mark.parametrize("name", ["resting", "three variables"])
@pytest.mark.parametrize("order", [1, 2])
def test_steps_are_exact_where_the_data_are_what_noise_leads_to(name: str, order: int) -> None:
    times = np.array([1.0, 0.3, 0.0])
    plan = planned(order, name, tuple(times))
    assert off(plan, name, times, 0.0, 1.0) < 1e-12
    for which in ("before", "before_root", "pull", "push", "after_root"):
        assert off(changed(plan, which, 0.999), name, times, 0.0, 1.0) > 1e-5


STEPS = (32, 64, 128, 256)


@pytest.mark.parametrize("stated", [1, 2])
def test_the_order_is_the_one_stated(stated: int) -> None:
    def found(change: Any, order: int = stated) -> tuple[float, float]:
        grids = [np.linspace(1.0, 0.1, n + 1) for n in STEPS]
        plans = [planned(order, "damped", tuple(times)) for times in grids]
        return extrapolated(
            [off(change(plan), "damped", times, MEAN, VARIANCE) for plan, times in zip(plans, grids, strict=True)]
        )

    order, doubt = found(lambda plan: plan)
    assert abs(order - stated) <= 2 * doubt
    mutants = [found(lambda plan, which=which: changed(plan, which, 0.9)) for which in ("push", "pull", "after_root")]
    for order, doubt in [*mutants, found(lambda plan: plan, 3 - stated)]:
        assert abs(order - stated) > 2 * doubt


DATA = GaussianMixture(EDM(), [0.4, 0.6], [[-0.5], [0.6]], [0.01, 0.04])
TIMES = np.linspace(1.0, 0.2, 33) ** 2


def draws(plan: Any) -> np.ndarray:
    run = sample(jax.random.key(0), Augmented(DAMPED, DATA), Planned(plan), TIMES, (10_000, 2, 1))
    assert run.failed is None
    return np.asarray(run.values[..., 0])


def apart(found: np.ndarray, exact: np.ndarray) -> float:
    """The least p-value of the data, the velocities and their sum."""
    both = [np.column_stack([x, x.sum(axis=1)]).T for x in (found, exact)]
    return min(float(ks_2samp(a, b).pvalue) for a, b in zip(*both, strict=True))


@pytest.mark.slow
@pytest.mark.table
def test_draws_have_the_law_of_noisy_data() -> None:
    """Three tests of two samples at 1e-7 each, which mutants fail for sure: their p-values are below 1e-12."""
    keys = jax.random.split(jax.random.key(1), (2, 10_000))
    data = jax.vmap(lambda key: DATA.draw(key))(keys[0])
    exact = np.asarray(jax.vmap(lambda key, x: DAMPED.noisy(key, x, TIMES[-1]))(keys[1], data)[..., 0])
    plan = planned(2, "damped", tuple(TIMES))
    assert apart(draws(plan), exact) > 1e-7
    for which in ("push", "pull", "before_root", "after_root"):
        assert apart(draws(changed(plan, which, 0.5)), exact) < 1e-12


def test_what_a_step_costs() -> None:
    times = tuple(np.linspace(1.0, 0.0, 4))
    assert planned(1, "damped", times).level.time.tolist() == [*times[:-1]]
    np.testing.assert_allclose(planned(2, "damped", times).level.time, np.repeat([5 / 6, 1 / 2, 1 / 6], 2))


def test_short_steps_keep_their_noise() -> None:
    """The variance of the data is of the third order in the length, and not lost in rounding."""
    for length in (1e-3, 1e-6, 1e-9):
        root = SSCS().plan(DAMPED, np.array([0.5, 0.5 - 2 * length])).before_root[0]
        wanted = (DAMPED.drift[0, 1] ** 2 * 2 * DAMPED.friction[1, 1] * length**3 / 3) ** 0.5
        np.testing.assert_allclose(root[0, 0], wanted, rtol=20 * length + 1e-6)


def test_what_does_not_fit_is_refused() -> None:
    key, times = jax.random.key(0), [1.0, 0.5]
    data = GaussianMixture(EDM(), [1.0], [[0.0]], [1.0])
    with pytest.raises(TypeError, match="process must be augmented"):
        sample(key, GaussianMixture(VariancePreserving(), [1.0], [[0.0]], [1.0]), SSCS(), times, (2, 1))
    with pytest.raises(ValueError, match="with an axis of variables"):
        sample(key, Augmented(DAMPED, data), SSCS(), times, (2, 3, 1))
    with pytest.raises(ValueError, match="order must be"):
        SSCS(3)
    assert eqx.tree_equal(SSCS(), SSCS(1))
    run = sample(key, Augmented(DAMPED, data), SSCS(), [1.0, 0.5, 0.0], (4, 2, 1), dtype=jnp.float32)
    assert run.values.dtype == jnp.float32
    assert bool(jnp.all(run.finite))
