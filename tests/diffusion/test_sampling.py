"""Draws of models: the same however they are batched, failures that say where, and input that is refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.problems import PROCESSES, halves_draw_the_same_law, mixture

import variate as vt
from variate.diffusion import (
    DDIM,
    DEIS,
    DataPrediction,
    DPMSolverPP,
    GaussianMixture,
    Heun,
    NoisePrediction,
    SASolver,
    SDEDPMSolverPP,
    UniPC,
    VariancePreserving,
    edm,
    sample,
    sampling,
    uniform,
    uniform_log_snr,
)
from variate.diffusion.loop import Begun, cast, drawn, run

PROCESS = PROCESSES["variance preserving"]
MODEL = mixture(PROCESS)


def test_batches_draw_the_same() -> None:
    solver, times = DDIM(1.0), uniform(PROCESS, 5)
    whole = sample(jax.random.key(0), MODEL, solver, times, (7, 2))
    pieces = sample(jax.random.key(0), MODEL, solver, times, (7, 2), batch=3)
    np.testing.assert_allclose(pieces.values, whole.values, rtol=1e-12)


def test_what_was_drawn_before_an_interruption_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    times, shape, whole = uniform(PROCESS, 5), (7, 2), iter([True, True, False])
    exact = sample(jax.random.key(0), MODEL, DDIM(1.0), times, shape)

    def once_more(*args: Any) -> Any:
        if not next(whole):
            raise KeyboardInterrupt
        return drawn(*args)

    monkeypatch.setattr(sampling, "drawn", once_more)
    kept = sample(jax.random.key(0), MODEL, DDIM(1.0), times, shape, batch=3, progress=True)
    np.testing.assert_allclose(kept.values, exact.values[:6], rtol=1e-12)
    assert "interrupted: 7 were asked for" in repr(kept)
    assert "interrupted" not in repr(exact)


def test_a_run_inside_jit_is_the_same() -> None:
    times = edm(PROCESS, 5)
    inside = jax.jit(lambda key: sample(key, MODEL, DPMSolverPP(), times, (4, 2)).values)(jax.random.key(0))
    np.testing.assert_allclose(
        inside, sample(jax.random.key(0), MODEL, DPMSolverPP(), times, (4, 2)).values, rtol=1e-12
    )


@pytest.mark.wide
@pytest.mark.parametrize("solver", [DPMSolverPP(), UniPC(), Heun(), SASolver()])
def test_half_precision_draws_the_same_law(solver: Any) -> None:
    """Means and second moments, within five standard errors of single precision's: 1e-5 of false alarms in all.

    Rounding to nearest leaves them alone. A mean that is off by a quarter of a standard deviation is seen with a
    probability of 0.998; that levels are exact is not seen here, since eight steps forgive rounded ones.
    """
    halves_draw_the_same_law(MODEL, solver, uniform_log_snr(PROCESS, 8), (2,))


def of_one_law(one: Any, two: Any) -> None:
    """Means and variances, within five standard errors: 2e-6 of false alarms."""
    one, two = (np.asarray(x, np.float64) for x in (one, two))
    for x, y in ((one, two), ((one - one.mean(0)) ** 2, (two - two.mean(0)) ** 2)):
        error = np.sqrt((np.var(x, axis=0) + np.var(y, axis=0)) / len(x))
        np.testing.assert_array_less(np.abs(np.mean(x, axis=0) - np.mean(y, axis=0)), 5 * error)


@pytest.mark.slow
@pytest.mark.table
def test_many_steps_in_half_precision_draw_the_same_law() -> None:
    """Steps that are rounded move means by seven standard errors of this number of draws: 1e-3 of them pass."""
    model = GaussianMixture(PROCESS, [0.3, 0.7], [[-1.0, 0.0], [1.0, 0.5]], [0.04, 0.09])
    solver, times, n = SDEDPMSolverPP(), uniform_log_snr(PROCESS, 50), 64_000
    single, half = (
        sample(jax.random.key(seed), model, solver, times, (n, 2), dtype=dtype).values
        for seed, dtype in enumerate((jnp.float32, jnp.bfloat16))
    )
    of_one_law(single, half)
    keys, sigma = jax.random.split(jax.random.key(2), n), jnp.asarray(1.0, jnp.bfloat16)
    rounded = run(Begun(keys, None, sigma), model, cast(solver.plan(PROCESS, times), jnp.bfloat16), (2,), False)[0]
    with pytest.raises(AssertionError):
        of_one_law(single, rounded)


def test_a_plan_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all that it is of, whatever objects say so; anew for something else, or where what it is cannot be seen."""
    plans = []

    def planned(self: Any, process: Any, times: Any) -> Any:
        plans.append(1)
        return plan(self, process, times)

    plan = DEIS.plan
    monkeypatch.setattr(DEIS, "plan", planned)

    def made(solver: Any = None, process: Any = None, last: float = 0.1, dtype: Any = None) -> int:
        model = mixture(process or VariancePreserving())
        before = len(plans)
        found = sample(jax.random.key(0), model, solver or DEIS(), [0.9, 0.7, 0.5, last], (1, 2), dtype=dtype)
        again = sample(jax.random.key(0), model, solver or DEIS(), [0.9, 0.7, 0.5, last], (1, 2), dtype=dtype)
        np.testing.assert_array_equal(found.values, again.values)
        return len(plans) - before

    assert made() == 1
    assert made() == 0
    assert made(DEIS(2)) == made(process=VariancePreserving(beta_max=19.0)) == made(last=0.2) == 1
    assert made(dtype=jnp.float32) == 1
    assert [made(process=VariancePreserving(beta_max=jnp.asarray(beta))) for beta in (18.0, 18.5, 18.0)] == [1, 1, 0]
    assert made(Own(DEIS())) == 2


class Own:
    """A solver of a user's, whose plan may depend on anything."""

    def __init__(self, solver: Any) -> None:
        self.solver = solver

    def plan(self, process: Any, times: Any) -> Any:
        return self.solver.plan(process, times)


def test_a_trajectory_ends_at_the_draws() -> None:
    run = sample(jax.random.key(0), MODEL, DPMSolverPP(), edm(PROCESS, 5), (4, 2), trajectory=True)
    assert run.trajectory is not None
    assert run.trajectory.shape == (4, 6, 2)
    np.testing.assert_array_equal(run.trajectory[:, -1], run.values)


def test_what_is_no_number_says_where_it_began() -> None:
    def broken(x: jax.Array, t: jax.Array) -> jax.Array:
        return jnp.where((t < 0.5) & (x[0] > 0), jnp.nan, 1.0) * MODEL.data(x, t)

    times = uniform(PROCESS, 10)
    run = sample(jax.random.key(0), DataPrediction(PROCESS, broken), DDIM(), times, (20, 2))
    assert run.failed is not None
    bad = ~np.asarray(run.finite)
    assert 0 < bad.sum() < 20
    assert [index >= 0 for index in run.failed] == list(bad)
    first = min(index for index in run.failed if index >= 0)
    assert times[first] < 0.5 <= times[first - 1]
    assert f"at time {times[first]:.4g}" in repr(run)


def test_a_failure_that_does_not_come_again_is_told_of() -> None:
    calls = []

    def once(x: jax.Array, t: jax.Array) -> jax.Array:
        def ask(x: np.ndarray) -> np.ndarray:
            calls.append(1)
            return x * (np.nan if len(calls) == 4 else 0.0)

        return jax.pure_callback(ask, x, x, vmap_method="broadcast_all")

    run = sample(jax.random.key(0), DataPrediction(PROCESS, once), DDIM(), uniform(PROCESS, 4), (2, 2))
    assert run.failed == (3, 3)
    assert "2 are not finite: the first after evaluation 4" in repr(run)


def test_points_that_are_no_numbers_are_no_start() -> None:
    start, times = jnp.ones((4, 2)).at[1, 0].set(jnp.nan), uniform(PROCESS, 3)
    with pytest.raises(ValueError, match="start must be finite, got 1 points that are not, the first at index 1"):
        sample(jax.random.key(0), MODEL, DDIM(), times, start.shape, start=start)
    # Where it is traced, the draws say so.
    inside = jax.jit(lambda x: sample(jax.random.key(0), MODEL, DDIM(), times, x.shape, start=x).finite)(start)
    assert list(inside) == [True, False, True, True]


def word(_: float) -> Any:
    return "h"


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "times that rise": ({"times": [0.0, 1.0]}, ValueError, "times must fall"),
    "times out of range": ({"times": [2.0, 1.0]}, ValueError, "times must lie between 0 and 1.0"),
    "one time": ({"times": [1.0]}, ValueError, "times must be a vector of two or more"),
    "times too few": (
        {"solver": UniPC(3), "times": [1.0, 0.5, 0.1]},
        ValueError,
        "order, 3, or more, got 2",
    ),
    "noise where data are": ({"times": [0.3, 0.1]}, ValueError, "start must be given for times that start at 0.3"),
    "no times": ({"times": "soon"}, ValueError, "times must be"),
    "a solver's class": ({"solver": DDIM}, TypeError, "solver must be one of vt.diffusion"),
    "a bare function": ({"model": lambda x, t: x}, TypeError, "model must be a denoiser"),
    "an answer for a shape": ({"shape": (True, 2)}, ValueError, "shape must be a tuple"),
    "B in words": ({"solver": UniPC(growth=word)}, TypeError, r"growth\(h\) must be a finite number, got 'h'"),
    "a number for a shape": ({"shape": 3}, ValueError, "shape must be a tuple"),
    "words to start from": ({"start": np.array([["a", "b"]] * 2)}, TypeError, "start must be points of real numbers"),
    "whole numbers": ({"dtype": int}, TypeError, "dtype must be one of real numbers"),
    "a word for a dtype": ({"dtype": "hello"}, TypeError, "dtype must be one of real numbers"),
    "another dimension": ({"shape": (2, 3)}, ValueError, r"one of points of shape \(2,\), got float64\[3\]"),
    "two arrays": ({"model": NoisePrediction(PROCESS, lambda x, t: (x, x))}, TypeError, "must return one array"),
    "an old key": ({"key": jax.random.PRNGKey(0)}, TypeError, "key must be a typed key"),
    "another shape": (
        {"model": NoisePrediction(PROCESS, lambda x, t: x[:1])},
        ValueError,
        "the denoiser must return an array like the point",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name: str) -> None:
    change, error, words = BAD[name]
    given = {
        "key": jax.random.key(0),
        "model": MODEL,
        "solver": DDIM(),
        "times": uniform(PROCESS, 3),
        "shape": (2, 2),
    } | change
    with pytest.raises(error, match=words):
        vt.diffusion.sample(**given)


def test_times_that_are_traced_are_refused_in_words() -> None:
    def run(end: jax.Array) -> jax.Array:
        return sample(jax.random.key(0), MODEL, DDIM(), jnp.stack([jnp.ones(()), end]), (2, 2)).values

    with pytest.raises(TypeError, match="times must be numbers, which `jit`, `vmap` and `grad` may not trace"):
        jax.jit(run)(0.5)
