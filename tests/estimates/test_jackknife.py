"""The jackknife: what leaving draws out by hand gives, exact merges, intervals that cover where draws are few."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from estimates.test_coverage import HIGH, LOW
from jax import Array

import variate as vt
from variate.estimates import Estimate, Jackknife, LeaveGroupsOut


def ratio(means: Array) -> Array:
    return means[0] / means[1]


def pair(key: Array) -> Array:
    x, y = jax.random.normal(key, (2,))
    return jnp.stack([1 + 0.3 * x, 2 + 0.2 * x + 0.4 * y])


def rows(key: Array, n: int) -> np.ndarray:
    return np.asarray(jax.jit(jax.vmap(pair))(jax.random.split(key, n)))


def read(option: Jackknife, draws: np.ndarray) -> Estimate:
    fold = LeaveGroupsOut.of(option, draws[0])
    return jax.jit(lambda draws: fold.of_rows(draws).read())(draws)


def by_hand(draws: np.ndarray, groups: int) -> tuple[float, float]:
    """Of groups of one size."""
    of = np.arange(len(draws)) % groups
    without = np.array([ratio(draws[of != j].mean(axis=0)) for j in range(groups)])
    whole = ratio(draws.mean(axis=0))
    error = np.sqrt((groups - 1) / groups * np.sum((without - without.mean()) ** 2))
    return float(groups * whole - (groups - 1) * without.mean()), float(error)


@pytest.mark.parametrize(("n", "groups"), [(12, 100), (60, 20)], ids=["each draw", "groups"])
def test_it_is_what_leaving_out_gives(n: int, groups: int, key: Array) -> None:
    draws = rows(key, n)
    found = read(Jackknife(ratio, groups), draws)
    value, error = by_hand(draws, min(n, groups))
    np.testing.assert_allclose(found.value, value, rtol=1e-10)
    np.testing.assert_allclose(found.stderr, error, rtol=1e-10)


def test_a_mean_is_a_mean(key: Array) -> None:
    """Of a linear function value and error are the plain ones, whatever the number of draws beyond full groups."""
    draws = rows(key, 27)
    found = read(Jackknife(lambda m: m[0], 50), draws)
    np.testing.assert_allclose(found.value, np.mean(draws[:, 0]), rtol=1e-10)
    np.testing.assert_allclose(found.stderr, np.std(draws[:, 0], ddof=1) / np.sqrt(27), rtol=1e-10)
    uneven = read(Jackknife(lambda m: m[0], 10), draws)
    np.testing.assert_allclose(uneven.value, np.mean(draws[:, 0]), rtol=1e-10)


def test_merging_is_exact(key: Array) -> None:
    """In the order of the draws, whatever the pieces, blocks that are not full among them."""

    @jax.jit
    def folded(draws: Array) -> list[Estimate]:
        empty = LeaveGroupsOut.of(Jackknife(ratio, 10), draws[0])
        one, two, three = empty.of_rows(draws[:7]), empty.of_rows(draws[7:42], 25), empty.of_rows(draws[32:])
        pairs = one.merge(two), two.merge(three)
        folds = [pairs[0].merge(three), one.merge(pairs[1]), empty.merge(pairs[0]).merge(three)]
        added = empty.of_rows(draws[:42]).add(draws[42])
        return [fold.read() for fold in (empty.of_rows(draws), *folds, added)]

    whole, *others = folded(rows(key, 43))
    for found in others:
        np.testing.assert_allclose(found.value, whole.value, rtol=1e-11)
        np.testing.assert_allclose(found.stderr, whole.stderr, rtol=1e-10)


def unturned(self: LeaveGroupsOut, other: LeaveGroupsOut) -> LeaveGroupsOut:
    """The mutant: the first draw of every piece is in the first group."""
    return LeaveGroupsOut(self.option, jax.vmap(type(self.moments).merge)(self.moments, other.moments))


def test_exactness_catches(key: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LeaveGroupsOut, "merge", unturned)
    with pytest.raises(AssertionError):
        test_merging_is_exact(key)


READ = LeaveGroupsOut.read


def as_if_independent(self: LeaveGroupsOut) -> Estimate:
    """The mutant: the spread of what is left when each is left out, over the root of their number."""
    found = READ(self)
    used = jnp.sum(self.moments.num_samples > 0)
    assert found.stderr is not None
    return Estimate(found.value, found.stderr / (used - 1).astype(float), found.num_samples)


def coverage(n: int, key: Array) -> float:
    run = vt.expect(lambda key: pair(key), function=Jackknife(ratio), num_samples=n)
    low, high = jax.jit(jax.vmap(run))(jax.random.split(jax.random.clone(key), 4_000)).interval()
    return float(np.mean((np.asarray(low) < 0.5) & (np.asarray(high) > 0.5)))


@pytest.mark.parametrize("n", [10, 250])
def test_intervals_cover(n: int, key: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over 4,000 keys, draw by draw and in groups that are not full; and not by the mutant."""
    assert LOW < coverage(n, key) < HIGH
    monkeypatch.setattr(LeaveGroupsOut, "read", as_if_independent)
    assert coverage(n, key) < LOW


def at_once(**options: Any) -> Callable[[], Any]:
    return lambda: vt.expect(pair, **options)(jax.random.key(0))


BAD: dict[str, tuple[Callable[[], Any], type, str]] = {
    "one group": (lambda: Jackknife(ratio, 1), ValueError, "groups must be at least 2"),
    "no function": (lambda: Jackknife(3.0), TypeError, "function"),  # pyright: ignore[reportArgumentType]
    "a tolerance": (at_once(function=Jackknife(ratio), until=vt.StdErr(0.1)), ValueError, "goes with num_samples"),
}


@pytest.mark.parametrize(("call", "error", "text"), BAD.values(), ids=BAD)
def test_bad_input(call: Callable, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        call()
