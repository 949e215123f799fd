"""The confidence sequence behind `StdErr`: its formula, its validity under continuous looking, its tuning."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from variate.estimates import Estimate, StdErr, StoppingRule

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
