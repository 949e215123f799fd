"""Sobol' indices: the known ones, within error bars that cover, of draws wherever they are."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from estimates.test_coverage import HIGH, LOW
from jax import Array

import variate as vt
from variate.estimates import sensitivity


def ishigami(key: Array) -> Array:
    keys = jax.random.split(key, 3)
    x, y, z = (vt.draw(k, dist.Uniform(-jnp.pi, jnp.pi), name=n) for k, n in zip(keys, "xyz", strict=True))
    return jnp.sin(x) + 7 * jnp.sin(y) ** 2 + 0.1 * z**4 * jnp.sin(x)


def shares() -> dict[str, dict[str, float]]:
    """Ishigami and Homma (1990), by its variances."""
    x, y, xz = (1 + 0.1 * np.pi**4 / 5) ** 2 / 2, 49 / 8, 0.01 * np.pi**8 * (1 / 18 - 1 / 50)
    first, total = {"x": x, "y": y, "z": 0.0}, {"x": x + xz, "y": y, "z": xz}
    return {
        "first": {name: part / (x + y + xz) for name, part in first.items()},
        "total": {name: part / (x + y + xz) for name, part in total.items()},
    }


@pytest.mark.slow
def test_intervals_cover(key: Array) -> None:
    run = sensitivity(ishigami, num_samples=1_000)
    found = jax.jit(jax.vmap(run))(jax.random.split(key, 1_000))
    low, high = found.interval()
    rates = jax.tree.map(lambda a, b, truth: np.mean((a < truth) & (truth < b)), low, high, shares())
    assert all(LOW < rate < HIGH for rate in jax.tree.leaves(rates)), rates
    off = jax.tree.map(lambda v, truth: abs(np.mean(v) - truth) / (np.std(v) / np.sqrt(1_000)), found.value, shares())
    assert max(jax.tree.leaves(off)) < 4.9, off


def walk(key: Array, drift: float) -> dict[str, Array]:
    """Steps in a loop, of which none is more than another, a start that has no quantiles, and a vector."""
    first, second, rest = jax.random.split(key, 3)
    start = jax.random.normal(first)
    ends = vt.draw(second, dist.Normal(jnp.zeros(2), 2.0), name="ends")

    def step(place: Array, key: Array) -> tuple[Array, None]:
        return place + drift + vt.draw(key, dist.Normal(0.0, 1.0), name="step"), None

    place = jax.lax.scan(step, start, jax.random.split(rest, 3))[0]
    return {"place": place, "all": place + ends}


def test_draws_in_loops_and_trees(key: Array) -> None:
    """Of a sum: variances 1 for the start, 3 for the steps, 4 for each end."""
    found = sensitivity(walk, num_samples=20_000)(key, 0.5)
    for kind in ("first", "total"):
        for name, truth in (("step", (3 / 4, 3 / 8)), ("ends", (0.0, 4 / 8))):
            value, error = found.value[kind][name], found.stderr[kind][name]
            assert abs(float(value["place"]) - truth[0]) <= 5 * float(error["place"]) + 1e-12
            assert np.all(np.abs(value["all"] - truth[1]) < 5 * error["all"])
    only = sensitivity(walk, "step", num_samples=20_000)(jax.random.clone(key), 0.5)
    assert set(only.value["total"]) == {"step"}
    np.testing.assert_allclose(only.value["total"]["step"]["all"], found.value["total"]["step"]["all"], rtol=1e-9)


def test_parameters_out_of_range_are_no_numbers(key: Array) -> None:
    def bad(key: Array) -> Array:
        first, second = jax.random.split(key)
        scale = vt.draw(first, dist.Normal(1.0, 1.0), name="scale")
        return vt.draw(second, dist.Normal(0.0, scale), name="y")

    found = sensitivity(bad)(key)
    assert int(found.nonfinite) > 100
    assert not found.converged


BAD: dict[str, tuple[Callable[[], Any], type, str]] = {
    "no such name": (lambda: sensitivity(ishigami, "w")(jax.random.key(0)), ValueError, "is called 'w', there are"),
    "no draws": (lambda: sensitivity(jax.random.normal)(jax.random.key(0)), ValueError, "f has no draw"),
    "no names": (lambda: sensitivity(ishigami, 3), TypeError, "names"),
    "a raw key": (lambda: sensitivity(ishigami)(jax.random.PRNGKey(0)), TypeError, "typed"),
}


@pytest.mark.parametrize(("call", "error", "text"), BAD.values(), ids=BAD)
def test_bad_input(call: Callable, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        call()
