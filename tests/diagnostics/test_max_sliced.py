"""The line found is the farthest, potentials are potentials, and the value promises no more than there is."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jax.random import clone, split
from scipy import stats

from variate.diagnostics import max_sliced, max_sliced_wasserstein
from variate.diagnostics.base import line_distance
from variate.diagnostics.max_sliced import Potentials, farthest, starts

RANDOM = np.random.default_rng(0)
X = RANDOM.gamma(2.0, size=(60, 2)) * np.array([1.0, 2.0])
Y = RANDOM.normal(size=(45, 2)) + 1


@pytest.mark.wide
@pytest.mark.parametrize("order", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("sizes", [(60, 60), (60, 45), (1, 1)])
def test_potentials_are_below_the_cost_everywhere_and_equal_it_on_the_plan(
    order: float, sizes: tuple[int, int]
) -> None:
    x, y = (
        jnp.sort(jnp.asarray(X[: sizes[0], 0].round(1))),
        jnp.sort(jnp.asarray(np.resize(Y[:, 1], sizes[1]).round(1))),
    )
    pair = Potentials(order, x, y)
    grid = jnp.linspace(-6, 12, 701)
    slack = jnp.abs(grid[:, None] - grid[None]) ** order - pair.of_x(grid)[:, None] - pair.of_y(grid)[None]
    assert float(jnp.min(slack)) > -1e-9
    np.testing.assert_allclose(
        jnp.mean(pair.of_x(x)) + jnp.mean(pair.of_y(y)), line_distance(x, y, order), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("order", [1.0, 2.0])
def test_ascent_finds_the_farthest_line_of_all_angles(order: float, key: Array) -> None:
    x, y = jnp.asarray(X), jnp.asarray(Y)
    angles = np.arange(2_000) * np.pi / 2_000
    lines = jnp.asarray(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    each = jax.vmap(lambda t: line_distance(jnp.sort(x @ t), jnp.sort(y @ t), order))(lines)
    _, found = farthest(order, starts(key, 8, x, y), 64, x, y)
    assert float(found) > float(jnp.max(each)) * (1 - 1e-5)


def normals(key: Array, scale: float = 3.0, n: int = 200) -> tuple[Array, Array]:
    first, second = split(key)
    x, y = jax.random.normal(first, (n, 8)), jax.random.normal(second, (n, 8))
    return x, y.at[:, 0].multiply(scale)


def run(key: Array, scale: float, find: Callable = max_sliced_wasserstein) -> tuple[Array, Array]:
    first, second = split(key)
    x, y = normals(first, scale)
    found = find(x, y, num_starts=4, num_steps=24)(second).distance
    return found.value, found.stderr


@pytest.mark.slow
def test_it_promises_no_more_than_there_is(key: Array) -> None:
    """The maximum is $(3 - 1)^2$, or 0 of one distribution; the mutant measures on the half that it looked at."""
    keys = split(key, 1_000)
    for scale, truth in ((3.0, 4.0), (1.0, 0.0)):
        value, stderr = jax.jit(lambda keys, scale=scale: jax.lax.map(lambda k: run(k, scale), keys))(keys)
        too_large = int(np.sum(value - 1.645 * stderr > truth))
        assert stats.binomtest(too_large, len(keys), 0.05, "greater").pvalue > 1e-6
        keys = clone(keys)

    def optimistic(key: Array) -> Array:
        first, second = split(key)
        x, y = normals(first, 1.0)
        return farthest(2.0, starts(second, 4, x, y), 24, x, y)[1]

    assert float(jnp.mean(jax.lax.map(optimistic, keys[:50]))) > 0.05  # of one distribution


@pytest.mark.slow
def test_its_error_bar_is_that_of_the_other_half(key: Array) -> None:
    """One half stays as it is, so that line and potentials do, and the other is drawn anew; mutant: n for n/2."""
    x, y = normals(key)
    along = farthest(2.0, starts(clone(key), 4, x, y), 24, x, y)[0]
    pair = Potentials(2.0, jnp.sort(x @ along), jnp.sort(y @ along))

    def anew(key: Array) -> tuple[Array, Array]:
        return max_sliced.held_out(pair, along, *normals(key))

    value, stderr = jax.jit(lambda keys: jax.lax.map(anew, keys))(split(jax.random.fold_in(clone(key), 1), 4_000))
    a, b = normals(jax.random.fold_in(clone(key), 2), n=400_000)
    truth, _ = max_sliced.held_out(pair, along, a, b)

    def covers(scale: float) -> float:
        return float(np.mean(np.abs(value - truth) < 1.96 * scale * stderr))

    assert 0.935 < covers(1.0) < 0.965
    assert covers(0.5**0.5) < 0.88


@pytest.mark.parametrize("sizes", [(4, 4), (6, 6), (4, 40)])
def test_few_members_have_students_interval(sizes: tuple[int, int], key: Array) -> None:
    """Far apart on a line, where nothing is chosen and the value misses next to nothing; mutant: the normal's.

    Left ends are above the truth in 2.5% of samples at most: both bounds are wrong once in a million.
    """

    def far(key: Array) -> Array:
        first, second, third = split(key, 3)
        x, y = jax.random.normal(first, (sizes[0], 1)), 5 + jax.random.normal(second, (sizes[1], 1))
        found = max_sliced_wasserstein(x, y, num_starts=1, num_steps=1)(third).distance
        low, _ = found.interval()
        return jnp.stack([low, found.value - 1.96 * jnp.asarray(found.stderr)])

    low, mutant = np.asarray(jax.jit(jax.vmap(far))(split(key, 4_000))).T
    assert stats.binomtest(int(np.sum(low > 25)), len(low), 0.025, "greater").pvalue > 1e-6
    assert stats.binomtest(int(np.sum(mutant > 25)), len(low), 0.025, "greater").pvalue < 1e-6


def test_it_finds_what_differs(key: Array) -> None:
    x, y = normals(clone(key), n=2_000)
    found = max_sliced_wasserstein(np.asarray(x).reshape(-1, 2, 4), np.asarray(y).reshape(-1, 2, 4))(key)
    assert found.direction.shape == (2, 4)
    assert abs(float(found.direction[0, 0])) > 0.98
    assert abs(float(found.distance.value) - 4.0) < 5 * float(found.distance.stderr)
    assert str(found).startswith("at least 3.") or str(found).startswith("at least 4.")
    assert found.distance.num_samples == 2_000


def test_as_many_at_once(key: Array) -> None:
    find = functools.partial(max_sliced_wasserstein, num_starts=2, num_steps=4)
    many = jax.vmap(find(X, Y))(split(key, 3))
    assert many.direction.shape == (3, 2)
    assert repr(many) == "FarthestLine along float64[3,2]"


def test_too_few() -> None:
    with pytest.raises(ValueError, match="the number of members of y must be at least 4, got 3"):
        max_sliced_wasserstein(X, Y[:3])
    with pytest.raises(ValueError, match="order must be a number from 1 on"):
        max_sliced_wasserstein(X, Y, order=0.5)
    with pytest.raises(ValueError, match="num_steps must be a positive integer"):
        max_sliced_wasserstein(X, Y, num_steps=0)
