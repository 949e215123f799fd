"""Nested expectations: unbiased or with a bias that is stated and right, halves whose differences fall fast enough."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from estimates.test_coverage import HIGH, LOW, one_by_one
from jax import Array
from scipy import integrate, stats

import variate as vt
from variate.estimates import Nested, debiased, multilevel, nested


def outer(key: Array, scale: Any = 1.0) -> Array:
    return vt.draw(key, dist.Normal(0.0, scale), name="x")


def inner(key: Array, x: Array, scale: Any = 1.0) -> Array:
    return x + vt.draw(key, dist.Normal(0.0, 1.0), name="y")


def square(mean: Array, x: Array) -> Array:
    return mean**2


def kink(mean: Array, x: Array) -> Array:
    return jnp.maximum(mean, 0.0)


SQUARE, KINK = nested(outer, inner, square), nested(outer, inner, kink)
SMOOTH = nested(outer, inner, lambda mean, x: jax.nn.softplus(mean))
WORTH = (2 * np.pi) ** -0.5  # of E max(X, 0)
SMOOTH_WORTH = integrate.quad(lambda x: np.logaddexp(0, x) * stats.norm.pdf(x), -12, 12)[0]


def test_the_bias_is_the_known_one(key: Array) -> None:
    """E (X + noise of n draws)² = 1 + 1 / n, of which 1 / n is the bias."""
    for level in (1, 3):
        found = SQUARE.expect(level, num_samples=20_000)(key)
        n = 2**level
        assert abs(float(found.value) - 1 - 1 / n) < 5 * float(found.stderr)
        # C - F is mean((a - b)²) / 4, a and b of n / 2 draws: 1 / n times χ² of one degree.
        assert abs(float(found.bias) - 1 / n) < 5 * 2**0.5 / n / 20_000**0.5
        assert found.biased
        assert "by Nested, biased, bias about" in repr(found)
        key = jax.random.fold_in(jax.random.clone(key), 1)


def half_of_it(self: Nested, key: Array, level: int, *args: Any) -> tuple[Any, Any]:
    """The mutant: coarse is g of the first half alone, so that differences have the mean but not the variance."""
    outside, inside = jax.random.split(key)
    x, keys = self.outer(outside, *args), jax.random.split(inside, self.inner_samples * 2**level)
    draws = jax.vmap(lambda key: self.inner(key, x, *args))(keys)
    return self.function(draws.mean(), x), self.function(draws[: len(draws) // 2].mean(), x) if level else None


def falling(levels: Nested, key: Array) -> float:
    """By how much variances fall, log₂ a level."""

    def variance(level: int) -> Array:
        keys = jax.random.split(jax.random.fold_in(jax.random.clone(key), level), 20_000)
        return jnp.var(jax.vmap(lambda key: jnp.subtract(*levels(key, level)))(keys))

    return float(jnp.log2(variance(3) / variance(6)) / 3)


def test_halves_make_variances_fall(key: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    """As 4^-l and, for a kink, 2^-1.5l, which is faster than costs rise; by one half alone only as 2^-l."""
    assert falling(SQUARE, key) == pytest.approx(2, abs=0.1)
    assert falling(KINK, key) == pytest.approx(1.5, abs=0.15)
    monkeypatch.setattr(Nested, "__call__", half_of_it)
    assert falling(SQUARE, key) < 1.2


def test_the_linear_has_no_levels(key: Array) -> None:
    levels = nested(outer, inner, lambda mean, x: 2 * mean + x, inner_samples=3)
    fine, coarse = levels(key, 4)
    np.testing.assert_allclose(fine, coarse, rtol=1e-12)


@pytest.mark.slow
def test_a_bias_in_them_keeps_intervals_right(key: Array) -> None:
    """Over 1,000 keys, of ends that are longer by it: no fewer than 95%, up to the band of all error bars."""
    found = jax.vmap(lambda key: SQUARE.expect(5, num_samples=1_000)(key))(jax.random.split(key, 1_000))
    low, high = jax.vmap(lambda each: each.interval())(found)
    assert np.mean((low < 1.0) & (high > 1.0)) > LOW


@pytest.mark.slow
def test_no_bias_and_intervals_cover(key: Array) -> None:
    # Levels rarer by more would be cheaper, and their third moment infinite.
    run = debiased(SMOOTH, num_samples=2_000, ratio=0.4)
    _, ends, values = one_by_one(run, jax.random.split(key, 1_000))
    assert LOW < covered(ends, SMOOTH_WORTH) < HIGH
    assert abs(values.mean() - SMOOTH_WORTH) < 4.9 * values.std(ddof=1) / np.sqrt(len(values))  # z-test, α = 1e-6


def covered(ends: np.ndarray, truth: float) -> float:
    return float(np.mean((ends[:, 0] < truth) & (ends[:, 1] > truth)))


@pytest.mark.slow
def test_levels_reach_the_error(key: Array) -> None:
    """Over 100 keys; intervals are right at least as often as they say: z-test, α = 1e-6."""
    found, ends, values = one_by_one(multilevel(KINK, rmse=0.02, pilot=200), jax.random.split(key, 100))
    errors = values - WORTH
    assert np.sqrt(np.mean(errors**2)) < 0.02
    assert np.mean([bool(each.converged) for each in found]) > 0.9
    assert covered(ends, WORTH) > 0.95 - 4.75 * np.sqrt(0.05 * 0.95 / 100)


@pytest.mark.slow
@pytest.mark.table
def test_trees_and_arguments(key: Array) -> None:
    """X is any tree, and so are Y and the result; arguments are those of both programs."""

    def start(key: Array, scale: Any) -> dict[str, Array]:
        return {"x": outer(key, scale), "scale": jnp.asarray(scale)}

    def around(key: Array, x: dict[str, Array], scale: Any) -> dict[str, Array]:
        return {"y": inner(key, x["x"]) * scale, "one": jnp.ones(2, int)}

    def ratio(mean: dict[str, Array], x: dict[str, Array]) -> dict[str, Array]:
        return {"ratio": mean["y"] ** 2 / x["scale"] ** 2, "ones": mean["one"]}

    found = nested(start, around, ratio, inner_samples=2).expect(1, num_samples=4_000)(key, 2.0)
    assert abs(float(found.value["ratio"]) - 4 - 1 / 4) < 5 * float(found.stderr["ratio"])
    np.testing.assert_array_equal(found.value["ones"], [1, 1])
    both = debiased(nested(start, around, ratio), num_samples=300)(jax.random.clone(key), 2.0)
    assert abs(float(both.value["ratio"]) - 4) < 5 * float(both.stderr["ratio"])


def negative(key: Array, x: Array) -> Array:
    return vt.draw(key, dist.Normal(0.0, x), name="y")


BAD: dict[str, tuple[Callable[[], Any], type, str]] = {
    "no function": (lambda: nested(outer, inner, 3.0), TypeError, "function"),  # pyright: ignore[reportArgumentType]
    "no inner draws": (lambda: nested(outer, inner, kink, inner_samples=0), ValueError, "inner_samples"),
    "no halves": (lambda: KINK.expect(0), ValueError, "level must be a positive integer"),
    "too many": (lambda: KINK.expect(40)(jax.random.key(0)), ValueError, r"level must be .* times 2\^40"),
    "outer": (lambda: nested(lambda: 1.0, inner, kink).expect(1)(jax.random.key(0)), TypeError, "outer must be"),
    "inner": (lambda: nested(outer, lambda key: 1.0, kink).expect(1)(jax.random.key(0)), TypeError, "inner must be"),
    "g": (lambda: nested(outer, inner, lambda m: m).expect(1)(jax.random.key(0)), TypeError, "function must be"),
    "words": (lambda: nested(outer, inner, lambda m, x: "a").expect(1)(jax.random.key(0)), TypeError, "real numbers"),
    "a raw key": (lambda: KINK.expect(1)(jax.random.PRNGKey(0)), TypeError, "typed"),
    "parameters": (
        lambda: nested(outer, negative, kink).expect(2)(jax.random.key(0)),
        ValueError,
        "the draw 'y' .* out of range",
    ),
    "parameters by levels": (
        lambda: debiased(nested(outer, negative, kink), num_samples=50)(jax.random.key(0)),
        ValueError,
        "the draw 'y' .* out of range",
    ),
}


@pytest.mark.parametrize(("call", "error", "text"), BAD.values(), ids=BAD)
def test_bad_input(call: Callable, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        call()
