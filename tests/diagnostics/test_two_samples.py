"""Distances between samples are right and their error bars hold; the test rejects as often as it says."""

import dataclasses
import functools
import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from estimates.test_coverage import HIGH, LOW
from jax import Array
from jax.random import clone, split
from scipy import stats

import variate as vt
from variate.diagnostics import (
    Circle,
    Lines,
    MaxSliced,
    Sliced,
    base,
    max_sliced_wasserstein,
    sliced_wasserstein,
    spaces,
    two_sample_test,
)
from variate.diagnostics.max_sliced import farthest, starts
from variate.diagnostics.sliced_wasserstein import _distance, _Moments, slice_distance

SLICED = importlib.import_module("variate.diagnostics.sliced_wasserstein")
X = np.random.default_rng(0).gamma(2.0, size=(60, 3)) * np.array([1.0, 2.0, 0.5])
Y = np.random.default_rng(1).normal(size=(45, 3)) + 1


@pytest.mark.parametrize("sizes", [(7, 7), (7, 5), (6, 4), (1, 3), (12, 4)])
def test_on_a_line_it_is_scipys_and_that_of_repeated_members(sizes: tuple[int, int]) -> None:
    random = np.random.default_rng(3)
    x, y = (np.sort(random.normal(size=n)) for n in sizes)
    one = base.line_distance(jnp.asarray(x), jnp.asarray(y), 1.0)
    np.testing.assert_allclose(one, stats.wasserstein_distance(x, y), rtol=1e-12)
    times = np.lcm(*sizes) // np.array(sizes)
    for order in (1.0, 2.0, 3.5):
        whole = np.mean(np.abs(np.repeat(x, times[0]) - np.repeat(y, times[1])) ** order)
        np.testing.assert_allclose(base.line_distance(jnp.asarray(x), jnp.asarray(y), order), whole, rtol=1e-12)


def circle(x: np.ndarray, y: np.ndarray, order: float) -> float:
    """In the plane: over so many angles that what is between them does not matter."""
    angles = (np.arange(20_000) + 0.5) * np.pi / 20_000
    along = jnp.asarray(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    each = jax.lax.map(
        lambda t: base.line_distance(jnp.sort(jnp.asarray(x) @ t), jnp.sort(jnp.asarray(y) @ t), order), along
    )
    return float(jnp.mean(each))


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, 2])
def test_error_bars_cover(order: int, key: Array) -> None:
    truth = circle(X[:, :2], Y[:, :2], float(order))

    def covers(key: Array) -> Array:
        low, high = sliced_wasserstein(X[:, :2], Y[:, :2], order=order, num_samples=256)(key).interval()
        return (low < truth) & (truth < high)

    rate = jax.jit(lambda keys: jnp.mean(jax.lax.map(covers, keys, batch_size=20)))(split(key, 1_000))
    assert LOW < rate < HIGH


def test_a_shift_is_exact(key: Array) -> None:
    """Along every direction it is one of the controls, which is the same of functions that are all too large."""
    shifted_is_exact(X, key)


def shifted_is_exact(x: np.ndarray, key: Array) -> None:
    shift = np.array([1.0, -2.0, 0.5])
    along = np.array([3.0, 0.0, -4.0])
    one = slice_distance(2.0, Lines(), jnp.asarray(along), jnp.asarray(x), jnp.asarray(x + shift))
    np.testing.assert_allclose(one, (along @ shift / 5) ** 2, rtol=1e-12)
    found = sliced_wasserstein(x, x + shift, num_samples=64)(key)
    np.testing.assert_allclose(found.value, np.sum(shift**2) / 3, rtol=1e-10)
    # What controls leave of the variance is 1 less the share that they explain, so it is known to the rounding of 1.
    assert float(found.stderr) < np.sqrt(np.finfo(float).eps)


LINES: dict[str, tuple[Any, str, Callable]] = {
    "directions too long": (spaces, "unit", lambda z: 1.01 * base.unit(z)),
    "the other way round": (SLICED, "line_distance", lambda a, b, order: base.line_distance(a, b[::-1], order)),
    "another order": (SLICED, "line_distance", lambda a, b, order: base.line_distance(a, b, order + 0.01)),
}


@pytest.mark.parametrize("name", LINES)
def test_a_mutant_on_lines_is_caught(name: str, key: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of sizes that nobody else has compiled."""
    x = X[: 40 + list(LINES).index(name)]
    monkeypatch.setattr(*LINES[name])
    with pytest.raises((AssertionError, ValueError)):
        shifted_is_exact(x, key)


def test_three_controls_are_better_than_the_lower_and_the_upper_one(key: Array) -> None:
    moments = _Moments.of(Lines(), jnp.asarray(X), jnp.asarray(Y))
    distance = functools.partial(_distance, 2.0)

    def error(of: Callable | None, mean: Any) -> float:
        method = () if of is None else vt.estimates.ControlVariates(of, mean)
        return float(vt.expect(distance, method=method, num_samples=4_096)(clone(key), Lines(), X, Y).stderr)

    plain = error(None, None)
    lower, upper = (
        error(lambda d: moments(d)[0], moments.means[0]),
        error(lambda d: moments(d).sum(), moments.means.sum()),
    )
    ours = float(sliced_wasserstein(X, Y, num_samples=4_096)(clone(key)).stderr)
    assert ours < min(lower, upper) < plain


def test_members_of_any_shape_and_kind(key: Array) -> None:
    images, others = (X.reshape(-1, 3, 1) * 10).astype(np.uint8), (np.abs(Y).reshape(-1, 3, 1) * 10).astype(np.uint8)
    found = sliced_wasserstein(images, others, num_samples=100)(clone(key))
    flat = sliced_wasserstein(images.reshape(-1, 3).astype(float), others.reshape(-1, 3).astype(float), num_samples=100)
    np.testing.assert_allclose(found.value, flat(clone(key)).value, rtol=1e-12)
    numbers = sliced_wasserstein(X[:, 0].astype(np.float32), Y[:, 0].astype(np.float32), order=1, num_samples=8)(key)
    assert numbers.value.dtype == jnp.float32
    np.testing.assert_allclose(numbers.value, stats.wasserstein_distance(X[:, 0], Y[:, 0]), rtol=1e-5)


def test_controls_that_are_constant_but_for_rounding_are_no_alarm(key: Array) -> None:
    """Of whitened samples every projection has the same variance."""
    x = np.random.default_rng(5).normal(size=(200, 4))
    white = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[0] * len(x) ** 0.5
    for dtype in (np.float32, np.float64):
        found = sliced_wasserstein(white.astype(dtype), (white**3).astype(dtype), num_samples=2_000)(clone(key))
        assert found.converged
        assert float(found.stderr) < 0.01 * float(found.value)


def test_equal_samples_in_another_order_are_no_alarm(key: Array) -> None:
    """Of which the difference of the means is nothing but rounding."""
    for dtype in (np.float32, np.float64):
        x = (X + 100).astype(dtype)
        found = sliced_wasserstein(x, x[::-1], num_samples=64)(clone(key))
        assert float(found.value) < 1e-10


def test_it_stops_at_a_tolerance(key: Array) -> None:
    found = sliced_wasserstein(X, Y, until=vt.StdErr(relative=0.01))(key)
    assert found.converged
    assert float(found.stderr) <= 0.01 * float(found.value)


def mean_apart(x: Array, y: Array) -> Array:
    return jnp.abs(jnp.mean(x) - jnp.mean(y))


STATISTICS = {
    "sliced": Sliced(num_slices=4),
    "max-sliced": MaxSliced(num_starts=2, num_steps=4),
    "circle": Sliced(Circle(num_levels=2), num_slices=2, order=1),
    "given": mean_apart,
}


def p_values(statistic: Any, key: Array, shift: float = 0.0, test: Callable = two_sample_test) -> np.ndarray:
    def p_value(key: Array) -> Array:
        first, second, third = split(key, 3)
        members = () if isinstance(statistic, Sliced) and isinstance(statistic.on, Circle) else (2,)
        x, y = jax.random.normal(first, (8, *members)), shift + jax.random.normal(second, (5, *members))
        return test(x, y, statistic=statistic, num_permutations=19)(third).p_value

    return np.asarray(jax.jit(lambda keys: jax.lax.map(p_value, keys, batch_size=50))(split(key, 2_000)))


def uniform(p: np.ndarray) -> bool:
    """Whether P(p <= k/20) = k/20; of samples without ties that is exact. Wrong once in a million."""
    counts = np.bincount(np.round(20 * p).astype(int), minlength=21)[1:]
    return bool(stats.chisquare(counts).pvalue > 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", STATISTICS)
def test_it_rejects_as_often_as_it_says(name: str, key: Array) -> None:
    """Of samples that differ in size, from one distribution; and more often of two."""
    assert uniform(p_values(STATISTICS[name], clone(key)))
    other = p_values(STATISTICS[name], key, shift=1.5)
    assert np.mean(other <= 0.05) > 0.2  # by chance once in 10^300
    assert not uniform(other)


def test_a_statistic_may_go_by_the_order_of_members(key: Array) -> None:
    """Mutant: exchanged members stay in their order within a sample, with p-values below 0.05 in a tenth of tests."""
    assert uniform(p_values(lambda x, y: x[-1, 0] - x[0, 0] + 0.01 * x[:, 0] @ jnp.arange(8.0), key))


@pytest.mark.slow
def test_a_statistic_that_knows_the_samples_as_they_are_is_seen(key: Array) -> None:
    """Mutant: the maximum over directions of the samples as they are, and that direction for all permutations."""

    @dataclasses.dataclass(frozen=True)
    class Fixed:
        members = MaxSliced().members

        def prepare(self, key: Array, pooled: Array, first: int) -> Callable:
            x, y = pooled[:first], pooled[first:]
            values = pooled @ farthest(2.0, starts(key, 2, x, y), 16, x, y)[0]

            def apart(places: Array) -> Array:
                x, y = jnp.split(values[jnp.argsort(places)], [first])
                return base.line_distance(jnp.sort(x), jnp.sort(y), 2.0)

            return apart

    assert not uniform(p_values(Fixed(), key))


def test_ascent_has_power_where_one_of_many_directions_matters(key: Array) -> None:
    """The difference of means, which is blind to spreads, has none."""
    x = np.random.default_rng(6).normal(size=(100, 30))
    y = np.random.default_rng(7).normal(size=(100, 30))
    y[:, 0] *= 3
    found = two_sample_test(x, y, statistic=MaxSliced(num_starts=8), num_permutations=99)(clone(key))
    assert float(found.p_value) == 0.01
    blind = two_sample_test(x, y, statistic=mean_apart, num_permutations=99)(key)
    assert float(blind.p_value) > 0.01


def test_a_nan_has_no_p_value(key: Array) -> None:
    found = two_sample_test(X, Y, statistic=lambda x, y: jnp.log(mean_apart(x, y) - 1e9), num_permutations=9)(key)
    assert np.isnan(found.p_value)


def test_bad_statistics() -> None:
    for wrong in (3, Sliced, "energy", lambda x: x):
        with pytest.raises(TypeError, match=r"statistic must be a (distance, as Sliced|function of two samples)"):
            two_sample_test(X, Y, statistic=wrong)
    with pytest.raises(ValueError, match="statistic must return one real number, got float64"):
        two_sample_test(X, Y, statistic=lambda x, y: jnp.mean(x, axis=0))


def test_its_distance_is_the_mean_over_its_directions(key: Array) -> None:
    found = two_sample_test(X, Y, statistic=Sliced(num_slices=512), num_permutations=99)(clone(key))
    whole = sliced_wasserstein(X, Y, num_samples=4_096)(clone(key))
    spread = float(vt.expect(functools.partial(_distance, 2.0), num_samples=512)(key, Lines(), X, Y).stderr)
    assert abs(float(found.distance - whole.value)) < 5 * spread
    assert float(found.p_value) == 1 / 100
    assert str(found) == f"p = 0.01 (distance {float(found.distance):.4g}, 99 permutations)"


def test_many_at_once(key: Array) -> None:
    many = jax.vmap(two_sample_test(X, Y + 1, statistic=Sliced(num_slices=4), num_permutations=9))(split(key, 3))
    assert many.p_value.shape == (3,)
    assert np.all(many.p_value == 0.1)
    assert repr(many) == "TwoSampleTest of float64[3]"


def test_exchanged_members_are_members(key: Array) -> None:
    """Of two and one on a line there are three ways to exchange them."""
    x, y = np.array([0.0, 1.0]), np.array([5.0])
    found = two_sample_test(x, y, statistic=Sliced(order=1, num_slices=2), num_permutations=200)(key)
    ways = {
        np.mean(np.abs(np.delete(np.array([0.0, 1.0, 5.0]), i) - single)) for i, single in enumerate([0.0, 1.0, 5.0])
    }
    assert set(np.round(np.unique(found.permuted), 9)) == set(np.round(list(ways), 9))
    assert float(found.distance) == 4.5


@pytest.mark.parametrize("distance", [sliced_wasserstein, two_sample_test, max_sliced_wasserstein])
@pytest.mark.parametrize(
    ("x", "y", "error", "words"),
    [
        (3.0, Y, TypeError, "x must be an array of real numbers, got 3.0"),
        (X, jnp.ones(3, complex), TypeError, "y must be an array of real numbers"),
        (np.ones((0, 3)), Y, ValueError, "x must have its members along the first axis"),
        (X, Y[:, :2], ValueError, r"members of one shape, got float64\[60,3\] and float64\[45,2\]"),
    ],
)
def test_bad_input(distance: Callable, x: Any, y: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        distance(x, y)


def test_bad_counts_and_keys() -> None:
    with pytest.raises(ValueError, match="num_permutations must be a positive integer"):
        two_sample_test(X, Y, num_permutations=0)
    with pytest.raises(ValueError, match="num_slices must be a positive integer"):
        Sliced(num_slices=0)
    with pytest.raises(ValueError, match="num_starts must be a positive integer"):
        MaxSliced(num_starts=0)
    for taking_space in (Sliced, lambda on: sliced_wasserstein(X, Y, on=on)):
        with pytest.raises(TypeError, match="on must be a space, as Circle"):
            taking_space(Circle)
    for taking_order in (Sliced, MaxSliced, lambda order: sliced_wasserstein(X, Y, order=order)):
        with pytest.raises(ValueError, match=r"order must be a number from 1 on, got 0\.5"):
            taking_order(order=0.5)
    with pytest.raises(TypeError, match="typed key"):
        two_sample_test(X, Y)(np.zeros(2, np.uint32))
