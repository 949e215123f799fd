"""Sobol' indices: the known ones, within error bars that cover, of draws wherever they are."""

import importlib
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


@pytest.mark.slow
@pytest.mark.table
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


ROOM = importlib.import_module("variate.estimates.sensitivity")


def scaled(kind: str) -> Callable:
    """Shares of one kind a twentieth too large."""
    return lambda means: (right := shares_of(means)) | {kind: jax.tree.map(lambda x: 1.05 * x, right[kind])}


def all_but(plan: Any, names: Any) -> dict[str, list[bool]]:
    """What is drawn anew are all other draws."""
    return {name: [not own for own in of] for name, of in groups(plan, names).items()}


def only_the_first(plan: Any, names: Any) -> dict[str, list[bool]]:
    """Of the numbers of a name, the first alone."""
    return {name: [own and not any(of[:i]) for i, own in enumerate(of)] for name, of in groups(plan, names).items()}


shares_of, groups = ROOM._shares, ROOM._groups
MUTANTS: dict[str, tuple[str, Callable]] = {
    "a first too large": ("_shares", scaled("first")),
    "a total too large": ("_shares", scaled("total")),
    "the rest in its place": ("_groups", all_but),
    "one element of it": ("_groups", only_the_first),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str, key: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ROOM, *MUTANTS[name])
    with pytest.raises(AssertionError):
        test_draws_in_loops_and_trees(key)


def out_of_range(key: Array, mean: float) -> Array:
    first, second = jax.random.split(key)
    scale = vt.draw(first, dist.Normal(mean, 1.0), name="scale")
    return vt.draw(second, dist.Normal(0.0, scale), name="y")


@pytest.mark.slow
@pytest.mark.table
def test_parameters_out_of_range_raise(key: Array) -> None:
    with pytest.raises(ValueError, match=r"the draw 'y'.*Normal"):
        sensitivity(out_of_range, num_samples=500)(key, 1.0)
    assert sensitivity(out_of_range, num_samples=500)(jax.random.clone(key), 100.0).converged
    hidden = jax.jit(sensitivity(out_of_range, num_samples=500))(jax.random.clone(key), 1.0)
    assert int(hidden.nonfinite) > 10
    assert not hidden.converged


def test_results_that_are_not_finite_are_counted(key: Array) -> None:
    """By themselves, with all parameters in range."""
    found = sensitivity(lambda key: jnp.log(vt.draw(key, dist.Normal(2.0, 1.0), name="x")), num_samples=500)(key)
    assert int(found.nonfinite) > 0


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
