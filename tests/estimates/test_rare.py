"""Probabilities of rare events: unbiased, with intervals that cover, of scores that tie and draws without quantiles."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from estimates.test_coverage import HIGH, LOW
from jax import Array
from scipy import stats

import variate as vt
from variate.estimates import CrossEntropy, Estimate, Splitting, adapt, exceedance


def total(key: Array) -> Array:
    return vt.draw(key, dist.Normal(jnp.zeros(4), 1.0)).sum() / 2


def count(key: Array) -> Array:
    return jnp.floor(2 * total(key))


def walk(key: Array) -> Array:
    """The highest place of a walk that has draws in a loop, and one that is no `draw`."""
    first, rest = jax.random.split(key)
    start = jnp.where(jax.random.bernoulli(first, 0.5), 1.0, -1.0)

    def step(place: Array, key: Array) -> tuple[Array, Array]:
        place = place + vt.draw(key, dist.Normal(0.0, 0.5))
        return place, place

    return jnp.max(jax.lax.scan(step, start, jax.random.split(rest, 4))[1])


SMALL = Splitting(200, moves=4, replicates=8)
EVENTS = {
    "a sum": (total, 2.3, stats.norm.sf(2.3)),
    "counts, which tie": (count, 4, stats.norm.sf(2.5)),
    "half of it no draw": (walk, 3, None),
}


# Compiled to the full it takes 28 s in place of 7, and runs as long.
LITTLE = {"xla_backend_optimization_level": 1}


def missed(program: Callable, threshold: float, truth: float, keys: Array) -> tuple[float, float]:
    """By how many standard errors the mean over keys is off, and how often intervals cover."""
    run = exceedance(program, threshold, scheme=SMALL)
    found = jax.jit(lambda keys: jax.lax.map(run, keys, batch_size=20), compiler_options=LITTLE)(keys)
    values, (low, high) = np.asarray(found.value), found.interval()
    z = (values.mean() - truth) / (values.std(ddof=1) / np.sqrt(len(values)))
    return abs(float(z)), float(np.mean((low < truth) & (truth < high)))


def walks_above(threshold: float) -> float:
    """By dynamic programming on a grid of places, of the chance that one of four steps ends above."""
    places = np.linspace(-12, threshold, 8_001)
    weights = np.full(places.size, places[1] - places[0])
    weights[[0, -1]] /= 2
    below = np.ones(places.size)  # that no later step ends above
    for _ in range(3):
        below = np.array([np.sum(weights * stats.norm.pdf(places, x, 0.5) * below) for x in places[::20]])
        below = np.interp(places, places[::20], below)
    return 1 - np.mean([np.sum(weights * stats.norm.pdf(places, start, 0.5) * below) for start in (-1, 1)])


@pytest.mark.wide
@pytest.mark.slow
@pytest.mark.parametrize(("program", "threshold", "truth"), EVENTS.values(), ids=EVENTS)
def test_unbiased_and_covered(program: Callable, threshold: float, truth: float | None, key: Array) -> None:
    """z-test, α = 1e-6, which sees a bias of a hundredth; the band is the one that is asked of every error bar."""
    z, covered = missed(
        program, threshold, walks_above(threshold) if truth is None else truth, jax.random.split(key, 1_000)
    )
    assert z < stats.norm.isf(5e-7)
    assert LOW < covered < HIGH


def shrinking(self: Any, run: Any, now: Any, scale: Array, key: Array) -> Any:
    """The mutant: steps that do not keep the normal distribution."""
    return RIGHT(self, run, now._replace(z=now.z * jnp.sqrt(1 - scale**2)), scale, key)


RIGHT = Splitting._proposed


@pytest.mark.slow
@pytest.mark.table
def test_wrong_moves_are_caught(key: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Splitting, "_proposed", shrinking)
    # A program of its own, so that nothing compiled outlives the mutant.
    z, covered = missed(lambda key: total(key), 2.3, stats.norm.sf(2.3), jax.random.split(key, 60))
    assert z > stats.norm.isf(5e-7)
    assert covered < LOW


def test_far_fewer_runs_than_independent_ones(key: Array) -> None:
    found = exceedance(total, 5.5, scheme=SMALL)(key)
    truth = stats.norm.sf(5.5)  # 1.9e-8
    low, high = found.interval(1 - 1e-6)  # of 8 replicates
    assert low < truth < high
    independent = (1 - truth) / truth / (float(found.stderr) / truth) ** 2
    assert independent > 1_000 * float(found.num_samples)
    assert found.converged
    assert found.method == "Splitting"


def test_no_event_too_common(key: Array) -> None:
    """Where the first quantile is beyond the threshold there are no levels."""
    found = exceedance(total, 0.0, scheme=SMALL)(key)
    assert abs(float(found.value) - 0.5) < 5 * float(found.stderr)
    sure = exceedance(total, -1e9, scheme=SMALL)(jax.random.clone(key))
    assert float(sure.value) == 1
    assert int(sure.num_samples) == 200 * (9 + 4)


def test_what_never_happens_has_no_error_bar(key: Array) -> None:
    found = exceedance(lambda key: jnp.minimum(total(key), 3), 3.5, scheme=Splitting(100, moves=4, max_levels=20))(key)
    assert float(found.value) == 0
    assert np.isnan(found.stderr)
    assert not found.converged


def test_arguments_and_jit(key: Array) -> None:
    run = exceedance(lambda key, scale: scale * total(key), 3, scheme=SMALL)
    plain = run(key, 1.0)
    np.testing.assert_array_equal(plain.value, jax.jit(run)(jax.random.clone(key), 1.0).value)
    assert float(run(jax.random.clone(key), 1.2).value) > float(plain.value)


def test_scores_that_are_not_numbers_are_told(key: Array) -> None:
    found = exceedance(lambda key: jnp.log(total(key)), 1.0, scheme=SMALL)(key)
    assert int(found.nonfinite) > 0
    assert not found.converged
    assert abs(float(found.value) - stats.norm.sf(np.e)) < 5 * float(found.stderr)


def test_single_precision(key: Array) -> None:
    with jax.enable_x64(False):
        found = exceedance(total, 4.0, scheme=SMALL)(jax.random.clone(key))
    assert found.value.dtype == jnp.float32
    assert abs(float(found.value) - stats.norm.sf(4.0)) < 5 * float(found.stderr)


def test_the_interval_of_a_positive_value_is_of_its_logarithm() -> None:
    low, high = Estimate(jnp.asarray(1e-6), jnp.asarray(5e-7), 100, positive=True).interval()
    np.testing.assert_allclose([low, high], 1e-6 * np.exp(np.array([-1, 1]) * stats.norm.ppf(0.975) / 2), rtol=1e-12)


def waiting(key: Array) -> Array:
    def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
        key, now = jax.random.split(state[1])
        return state[0] + vt.draw(now, dist.Exponential(1.0)), key

    return jax.lax.while_loop(lambda state: state[0] < 1, step, (jnp.zeros(()), key))[0]


BAD: dict[str, tuple[Callable[[], Any], type, str]] = {
    "no function": (lambda: exceedance(3, 1.0), TypeError, "f"),  # pyright: ignore[reportArgumentType]
    "no threshold": (lambda: exceedance(total, "high"), TypeError, "threshold"),  # pyright: ignore[reportArgumentType]
    "no scheme": (lambda: exceedance(total, 1.0, scheme="splitting"), TypeError, "scheme"),  # pyright: ignore[reportArgumentType]
    "no particles": (lambda: Splitting(0), ValueError, "particles must be a positive integer"),
    "one replicate": (lambda: Splitting(replicates=1), ValueError, "replicates must be"),
    "none kept": (lambda: Splitting(10, kept=0.01), ValueError, "kept must be a share of at least one"),
    "all kept": (lambda: Splitting(10, kept=0.99), ValueError, "kept must be a share of at least one"),
    "two scores": (lambda: exceedance(lambda k: (total(k), 1.0), 1)(jax.random.key(0)), ValueError, "the score"),
    "a raw key": (lambda: exceedance(total, 1.0)(jax.random.PRNGKey(0)), TypeError, "typed"),
    "a random number of draws": (
        lambda: exceedance(waiting, 1.0)(jax.random.key(0)),
        ValueError,
        "while_loop",
    ),
    "parameters out of range": (
        lambda: exceedance(lambda k: vt.draw(k, dist.Normal(0.0, -1.0)), 1.0)(jax.random.key(0)),
        ValueError,
        "scale",
    ),
    "no share": (lambda: CrossEntropy(above=1.0, elite=1.5), ValueError, "elite"),
    "many scores": (
        lambda: adapt(
            lambda k: vt.draw(k, dist.Normal(jnp.zeros(2), 1.0), name="x"), "x", scheme=CrossEntropy(above=1)
        )(jax.random.key(0)),
        ValueError,
        "the score",
    ),
}


@pytest.mark.parametrize(("call", "error", "text"), BAD.values(), ids=BAD)
def test_bad_input(call: Callable, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def far(key: Array) -> Array:
    x = vt.draw(key, dist.Normal(jnp.zeros(2), 1.0).to_event(1), name="x")
    return x[0] + 0.5 * x[1] ** 2


@pytest.mark.slow
@pytest.mark.table
def test_cross_entropy_climbs(key: Array) -> None:
    """x₀ + x₁²/2 > 12, of probability 1.6e-6, by quadrature; a first round never meets it."""
    z = np.linspace(-12, 12, 200_001)
    truth = float(np.trapezoid(stats.norm.pdf(z) * stats.norm.sf(12 - z**2 / 2), z))
    learning, use = jax.random.split(key)
    event = lambda key: far(key) > 12  # noqa: E731
    scheme = CrossEntropy(2, spread=1.0, above=12)
    found = vt.expect(event, method=adapt(far, "x", scheme=scheme)(learning), num_samples=20_000)(use)
    assert abs(float(found.value) - truth) < 5 * float(found.stderr)
    assert float(found.stderr) < truth / 5
