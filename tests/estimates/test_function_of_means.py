"""Functions of expectations: exact where algebra says so, intervals that cover, less bias than the plug-in."""

from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from jax.random import clone

import variate as vt
from variate.estimates import FunctionOfMeans, Jackknife, Scores, Sobol


def pair(key: Array) -> dict[str, Array]:
    first, second = jax.random.split(key)
    a = vt.draw(first, dist.Normal(jnp.asarray(1.0), 1.0), name="a")
    return {"a": a, "b": jnp.exp(0.5 * a + 0.2 * vt.draw(second, dist.Normal(0.0, 1.0), name="b"))}


def ratio(means: dict[str, Array]) -> Array:
    return means["a"] / means["b"]


MEAN_B = float(np.exp(0.5 + 0.125 + 0.02))


def test_a_variance_is_the_unbiased_one(key: Array) -> None:
    """The plug-in misses by a factor (n - 1) / n; its first bias taken off, nothing is missed."""
    x = np.asarray(jax.random.normal(key, (50,)))
    rows = np.stack([x, x**2], axis=1)
    fold = FunctionOfMeans.of(lambda m: m[1] - m[0] ** 2, rows[0])
    found = jax.jit(lambda rows: fold.of_rows(rows).read())(rows)
    np.testing.assert_allclose(found.value, np.var(x, ddof=1), rtol=1e-12)
    fourth = np.mean((x - x.mean()) ** 4) - np.var(x) ** 2
    np.testing.assert_allclose(found.stderr, np.sqrt(fourth / 49), rtol=1e-10)


def test_merging_is_exact(key: Array) -> None:
    @jax.jit
    def folded(keys: Array) -> list[Any]:
        rows = jax.vmap(pair)(keys)
        empty = FunctionOfMeans.of(ratio, jax.tree.map(lambda leaf: leaf[0], rows))
        of = lambda start, stop: empty.of_rows(jax.tree.map(lambda leaf: leaf[start:stop], rows))  # noqa: E731
        first, rest = of(0, 7), of(7, 60)
        one_more = first.add(jax.tree.map(lambda leaf: leaf[7], rows))
        folds = [of(0, 60), empty.merge(first).merge(rest), rest.merge(first), of(0, 8), one_more]
        return [fold.read() for fold in folds]

    whole, *merged, eight, one_more = folded(jax.random.split(key, 60))
    for found in merged:
        np.testing.assert_allclose(found.value, whole.value, rtol=1e-12)
        np.testing.assert_allclose(found.stderr, whole.stderr, rtol=1e-11)
    np.testing.assert_allclose(one_more.value, eight.value, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("method", [None, Sobol(32)], ids=["independent", "Sobol"])
def test_error_bars_cover(method: Any, key: Array) -> None:
    """Of 95% intervals, over 4,000 keys: between 93.5 and 96.5%, where a right one fails with probability 1e-5."""
    run = vt.expect(pair, function=ratio, method=method, num_samples=512, block_size=512)

    def covers(key: Array) -> Array:
        low, high = run(key).interval()
        return (low < 1 / MEAN_B) & (high > 1 / MEAN_B)

    rate = jax.jit(lambda keys: jnp.mean(jax.lax.map(covers, keys, batch_size=100)))(jax.random.split(key, 4000))
    assert 0.935 < rate < 0.965


@pytest.mark.slow
def test_the_first_bias_is_taken_off(key: Array) -> None:
    """Of E[a]² from 8 draws: the plug-in is off by 1/8, which a z-test at 1e-6 over 40,000 keys sees."""
    run = vt.expect(lambda key: jax.random.normal(key) + 1.0, function=lambda m: m**2, num_samples=8)
    found = np.asarray(jax.jit(jax.vmap(run))(jax.random.split(key, 40_000)).value)
    error = found.std() / np.sqrt(found.size)
    assert abs(found.mean() - 1) < 4.9 * error
    assert 4.9 * error < 0.125


@pytest.mark.parametrize(("dtype", "scale"), [("float32", 2.0**-83), ("float64", 2.0**-530)])
def test_numbers_whose_derivatives_leave_the_range_of_floats(dtype: str, scale: float, key: Array) -> None:
    """What is in no unit stays what it was: differences over an error e of the mean b are off by (e/b)^2, below 1e-3.

    Mutant: derivatives alone, of which nothing is left but NaN.
    """
    rows = {"a": 3 + jax.random.normal(key, (1_000,)), "b": 1 + jax.random.exponential(clone(key), (1_000,))}
    rows = {name: leaf.astype(dtype) for name, leaf in rows.items()}
    fold = FunctionOfMeans.of(
        lambda m: jnp.stack([ratio(m), jnp.log(ratio(m))]), {name: rows[name][0] for name in rows}
    )
    read = jax.jit(lambda rows: fold.of_rows(rows).read())
    whole, small = read(rows), read({name: leaf * jnp.asarray(scale, dtype) for name, leaf in rows.items()})
    assert bool(small.converged)
    np.testing.assert_allclose(small.stderr, whole.stderr, rtol=1e-3)
    np.testing.assert_array_less(np.abs(small.value - whole.value), 1e-3 * np.asarray(whole.stderr))


def test_it_stops_at_a_tolerance(key: Array) -> None:
    found = vt.expect(pair, function=ratio, until=vt.StdErr(2e-3))(key)
    assert found.converged
    assert abs(found.value - 1 / MEAN_B) < 1e-2


def test_bad_input_is_an_error_that_says_so(key: Array) -> None:
    with pytest.raises((TypeError, jaxtyping.TypeCheckError), match="function"):
        vt.expect(pair, function=3.0)  # pyright: ignore[reportArgumentType]
    for function, words in (
        (lambda m: None, "real numbers to average, got None"),
        (lambda: 1.0, "of the expectations"),
    ):
        for given in (function, Jackknife(function)):
            with pytest.raises(TypeError, match=words):
                vt.expect(pair, function=given)(clone(key))
    with pytest.raises(ValueError, match="not with controls"):
        vt.expect(pair, function=ratio, method=Scores())(clone(key))
    with pytest.raises(TypeError, match="must return real numbers"):
        vt.expect(lambda key: "a number", function=ratio)(key)
