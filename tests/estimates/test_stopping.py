"""The confidence sequence behind `StdErr`: its formula, its validity under continuous looking, its tuning."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax.random import clone
from scipy import optimize, stats

import variate as vt
from variate.estimates import (
    EmpiricalBernstein,
    Estimate,
    Moments,
    Sobol,
    StdErr,
    StoppingRule,
    Within,
    folding,
    stopping,
)

N_PATHS, N_LOOKS, BLOCK = 4_000, 256, 32


def widening(rule: StdErr, t: Any) -> np.ndarray:
    t = jnp.asarray(t)
    return np.asarray(rule.assess(Estimate(jnp.zeros(t.shape), jnp.ones(t.shape), t)).stderr)


def half_width(t: Any, rho2: float, level: float) -> Any:
    """Of the paper's theorem 2.2, times the square root of t, for unit variance."""
    return np.sqrt((t * rho2 + 1) / (t * rho2) * np.log((t * rho2 + 1) / (1 - level) ** 2))


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("expected", [100, 10_000, 10**8])
def test_the_sequence_is_the_papers_tuned_to_the_expected_number(level: float, expected: int) -> None:
    rule = StdErr(1e-3, level=level, expected_samples=expected)
    best = optimize.minimize_scalar(lambda log: half_width(expected, np.exp(log) / expected, level), (-3, 4), tol=1e-12)
    t = np.asarray([2, 100, 10_000, 10**7])
    expected_widths = half_width(t, np.exp(best.x) / expected, level) / stats.norm.ppf((1 + level) / 2)
    np.testing.assert_allclose(widening(rule, t), expected_widths, rtol=1e-6)
    assert widening(rule, expected) == pytest.approx(best.fun / stats.norm.ppf((1 + level) / 2), rel=1e-9)


def paths(key: jax.Array) -> Estimate:
    """Plain estimates of a mean of 0 after every block of normal draws, along each of many paths."""
    key_mean, key_squares = jax.random.split(key)
    means = jax.random.normal(key_mean, (N_PATHS, N_LOOKS)) / np.sqrt(BLOCK)
    squares = jax.random.chisquare(key_squares, BLOCK - 1, (N_PATHS, N_LOOKS)) + BLOCK * means**2
    n = jnp.broadcast_to(BLOCK * (1 + jnp.arange(N_LOOKS))[None], means.shape)
    count = n.astype(float)
    mean = jnp.cumsum(means, axis=1) * BLOCK / count
    return Estimate(mean, jnp.sqrt((jnp.cumsum(squares, axis=1) / count - mean**2) / (count - 1)), n)


def ever_missed(estimate: Estimate) -> float:
    low, high = estimate.interval(0.95)
    return float(jnp.mean(jnp.any((low > 0) | (high < 0), axis=1)))


def one_sided(self: StdErr, num_samples: jax.Array, miss: float, dtype: Any) -> jax.Array:
    """The mutant: log((x + 1)/α) for log((x + 1)/α²)."""
    x = num_samples.astype(dtype) * 8.2 / self.expected_samples
    return jnp.sqrt((1 + 1 / x) * jnp.log((1 + x) / miss)) / 1.96


# z-test, α = 1e-6, that 95% of the paths never leave the sequence.
BOUND = 0.05 + 4.75 * np.sqrt(0.05 * 0.95 / N_PATHS)


@pytest.mark.slow
@pytest.mark.parametrize("expected", [100, 1_000, 10_000])
def test_the_sequence_covers_at_all_looks_at_once(key: jax.Array, expected: int) -> None:
    assert ever_missed(StdErr(1e-3, expected_samples=expected).assess(paths(key))) < BOUND


@pytest.mark.slow
def test_continuous_looking_catches_plain_intervals_and_half_a_logarithm(
    key: jax.Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = paths(key)
    assert ever_missed(plain) > BOUND
    monkeypatch.setattr(StdErr, "_widening", one_sided)
    assert ever_missed(StdErr(1e-3, expected_samples=100).assess(plain)) > BOUND


@pytest.mark.parametrize(
    ("rule", "value", "stderr", "n", "converged"),
    [
        (StdErr(0.1), 1.0, 0.01, 10_000, True),
        (StdErr(0.01), 1.0, 0.01, 10_000, False),  # the plain error is small enough, the honest one is not
        (StdErr(relative=0.1), 0.01, 0.01, 10_000, False),
        (StdErr(relative=0.1), -1.0, 0.01, 10_000, True),
        (StdErr(0.1, relative=1e-6), 1.0, 0.01, 10_000, True),  # either tolerance will do
        (StdErr(0.1), 1.0, 0.0, 999, False),  # no spread seen yet proves nothing
        (StdErr(0.1), 1.0, 0.0, 1_000, True),
        (StdErr(0.1, min_samples=1), 1.0, np.inf, 1, False),
        (StdErr(0.1), np.nan, np.nan, 10_000, False),
        (StdErr(relative=0.1), 0.0, 0.0, 10_000, False),  # an event that was never seen, say
        (StdErr(0.1, relative=0.1), 0.0, 0.0, 10_000, True),
        (StdErr(relative=0.1), np.inf, 1.0, 10_000, False),
        (StdErr(0.1), [1.0, 1.0], [0.01, 0.2], 10_000, False),  # every coordinate
    ],
)
def test_may_stop_when_every_coordinate_is_good_enough(
    rule: Any, value: Any, stderr: Any, n: int, converged: bool
) -> None:
    finite = bool(np.all(np.isfinite(value)))
    estimate = Estimate(jnp.asarray(value), jnp.asarray(stderr), n, finite, biased=True)
    assessed = rule.assess(estimate)
    assert assessed.converged == converged
    assert assessed.biased
    assert assessed.degrees is None
    np.testing.assert_array_equal(assessed.value, estimate.value)


def test_is_a_rule_and_keeps_single_precision() -> None:
    rule = StdErr(0.1)
    assert isinstance(rule, StoppingRule)
    assessed = rule.assess(Estimate(jnp.float32(1), jnp.float32(1), 50))
    assert assessed.stderr.dtype == jnp.float32


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "needs a tolerance"),
        ({"absolute": 0.0}, "absolute must be a positive number, got 0.0"),
        ({"absolute": float("nan")}, "absolute must be a positive number, got nan"),
        ({"relative": -0.1}, "relative must be a positive number, got -0.1"),
        ({"absolute": 0.1, "level": 1.0}, "level must be between 0 and 1, both excluded, got 1.0"),
        ({"absolute": 0.1, "expected_samples": 0}, "expected_samples must be a positive integer"),
        ({"absolute": 0.1, "min_samples": -5}, "min_samples must be a positive integer"),
    ],
)
def test_wrong_tolerances_are_refused(fields: dict, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        StdErr(**fields)


def single(key: jax.Array) -> jax.Array:
    """Of the mean 1000, which single precision knows to a ten-thousandth."""
    return (1000 + 0.1 * vt.draw(key, dist.Normal(0.0, 1.0))).astype(jnp.float32)


FINEST = 4 * float(jnp.finfo(jnp.float32).eps) * 1000


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        (StdErr(1e-12), {"method": ()}),
        (StdErr(relative=1e-9), {"method": ()}),
        (StdErr(1e-12), {"method": Sobol()}),
        (StdErr(1e-12), {"method": (), "runner": vt.running.Runner(piece=2**14)}),
    ],
    ids=["absolute", "relative", "sets that grow", "a runner"],
)
def test_a_tolerance_finer_than_the_numbers_ends_in_words(rule: StdErr, options: dict, key: jax.Array) -> None:
    found = vt.expect(single, until=rule, max_samples=2**20, **options)(key)
    assert found.num_samples < 2**18
    assert not found.converged
    assert 0 < found.stderr <= FINEST * 1.001
    assert found.ended == "the tolerance is finer than float32 can tell here, about 0.00048"
    assert f"not converged, {found.ended})" in str(found)


def test_without_a_resolution_it_would_go_on(key: jax.Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "resolution", jnp.zeros_like)
    found = vt.expect(lambda key: single(key), until=StdErr(1e-12), method=(), max_samples=2**18)(key)
    assert found.num_samples == 2**18
    assert found.ended is None


def test_a_tolerance_that_the_numbers_can_tell_is_met(key: jax.Array) -> None:
    found = vt.expect(single, until=StdErr(FINEST * 1.1), method=())(key)
    assert found.converged
    assert found.ended is None


def test_under_jit_it_ends_too(key: jax.Array) -> None:
    found = jax.jit(vt.expect(single, until=StdErr(1e-12), method=(), max_samples=2**20))(key)
    assert found.num_samples < 2**18
    assert not found.converged


def test_what_does_not_vary_is_no_surer_than_its_type(key: jax.Array) -> None:
    def constant(key: jax.Array) -> dict[str, jax.Array]:
        return {"single": jnp.float32(0.1), "double": jnp.float64(0.1)}

    found = vt.expect(constant, until=StdErr(1e-12))(clone(key))
    assert "finer than float32 can tell here, about 4.8e-08" in str(found)
    assert vt.expect(lambda key: constant(key)["double"], until=StdErr(1e-12))(clone(key)).converged
    bounds = EmpiricalBernstein(999, 1001)
    found = vt.expect(lambda key: jnp.float32(1000), until=Within(1e-9), interval=bounds, max_samples=2**20)(key)
    assert found.num_samples < 2**18
    assert "finer than float32" in str(found)


def test_the_resolution_is_more_than_folding_rounds_off(key: jax.Array) -> None:
    """While a running sum in single precision would lose far more."""
    n, block = 2**19, 2**8
    rows = (1000 + 0.1 * jax.random.normal(key, (n,))).astype(jnp.float32)
    exact = np.mean(np.asarray(rows, np.float64))

    def add(fold: Moments, rows: jax.Array) -> tuple[Moments, None]:
        return fold.merge(Moments.of_rows(rows)), None

    fold, _ = jax.lax.scan(add, Moments.empty(jnp.float32(0)), rows.reshape(-1, block))
    assert abs(float(fold.read().value) - exact) < FINEST
    assert abs(float(np.cumsum(np.asarray(rows))[-1]) / n - exact) > FINEST


@pytest.mark.parametrize("law", [dist.Exponential(1.0), dist.Normal(1.0, 1.0)], ids=["exponential", "normal"])
def test_few_skewed_means_cover_where_sampling_may_stop(law: dist.Distribution, key: jax.Array) -> None:
    """At the first look, of 16 means: at least 95% of 20,000 intervals, where Student's of exponential ones are 93.3%.

    They are 96.9 and 98.0%, so that by chance fewer than one in a million is below.
    """

    def covered(key: jax.Array) -> jax.Array:
        found = folding.of_sets(Moments, law.sample(key, (16,)))
        low, high = StdErr(1.0).assess_sets(found, 15, jnp.asarray(1)).interval()
        return (low < 1) & (high > 1)

    assert jnp.mean(jax.jit(jax.vmap(covered))(jax.random.split(key, 20_000))) > 0.95


@pytest.mark.parametrize("sign", [-1, 1])
def test_sets_of_points_stop_by_the_longer_side_of_their_interval(sign: int, key: jax.Array) -> None:
    """Of the same points as a number fixed in advance, whose interval is longer by as much on the side of the tail."""

    def skewed(key: jax.Array) -> jax.Array:
        return sign * jnp.exp(1.5 * vt.draw(key, dist.Normal(0.0, 1.0)))

    fixed = vt.expect(skewed, method=Sobol(), num_samples=1_024)(key)
    (low, high), quantile = fixed.interval(), stats.t.ppf(0.975, 15)
    longer = jnp.maximum(high - fixed.value, fixed.value - low) / (quantile * fixed.stderr)
    assert longer > 1.1
    student = stats.t.ppf(1 - 3 * 0.05 / (3 * np.pi) ** 2, 15) / stats.norm.ppf(0.975)  # 1,024 are the third look
    for slack, enough in ((1.01, True), (0.99, False)):
        tolerance = float(slack * longer * student * fixed.stderr)
        found = vt.expect(skewed, method=Sobol(), until=StdErr(tolerance), max_samples=1_024)(clone(key))
        assert bool(found.converged) == enough
        np.testing.assert_allclose(found.stderr, longer * student * fixed.stderr, rtol=1e-9)
