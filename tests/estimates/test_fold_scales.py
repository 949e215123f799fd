"""Folds of numbers whose squares are out of the range of floats, as those of likelihoods are."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from variate.estimates import (
    Controlled,
    ControlledMoments,
    FunctionOfMeans,
    Jackknife,
    LeaveGroupsOut,
    Moments,
    WeightedMoments,
)

SCALES = [2.0**-600, 2.0**600]
FOLDS = {"Moments": lambda rows, _: Moments.of_rows(rows), "WeightedMoments": WeightedMoments.of_rows}


def data(seed: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=(40, 2)) * [1, 3])


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("of_rows", FOLDS.values(), ids=FOLDS)
def test_error_bars_scale(of_rows: Callable, scale: float) -> None:
    """The mutant adds squares up as they are."""
    logs = data(2)[:, 0]

    @jax.jit
    def folded(rows: jax.Array) -> Any:
        return of_rows(rows[:9], logs[:9]).merge(of_rows(rows[9:], logs[9:])).read()

    plain, scaled = folded(data(0)), folded(scale * data(0))
    np.testing.assert_array_equal(scaled.value, scale * plain.value)
    np.testing.assert_array_equal(scaled.stderr, scale * plain.stderr)


@pytest.mark.parametrize("scale", SCALES)
def test_so_do_those_of_what_is_controlled_and_of_functions(scale: float) -> None:
    rows, controls = data(0), data(1)

    @jax.jit
    def both(by: jax.Array) -> list[Any]:
        of = ControlledMoments.of_rows
        x = Controlled(by * rows, by * (controls + 0.2 * rows))
        first, rest = jax.tree.map(lambda leaf: leaf[:9], x), jax.tree.map(lambda leaf: leaf[9:], x)
        total = FunctionOfMeans.of(lambda m: m[0] - 2 * m[1], rows[0])
        groups = LeaveGroupsOut.of(Jackknife(lambda m: m[0] - 2 * m[1]), rows[0])
        return [of(first).merge(of(rest)).read(), total.of_rows(by * rows).read(), groups.of_rows(by * rows).read()]

    for plain, scaled in zip(both(jnp.asarray(1.0)), both(jnp.asarray(scale)), strict=True):
        np.testing.assert_allclose(scaled.value / scale, plain.value, rtol=1e-12)
        np.testing.assert_allclose(scaled.stderr / scale, plain.stderr, rtol=1e-12)
        assert np.all(np.asarray(plain.stderr) > 0)


def test_controls_that_are_rounding_beside_others_are_none() -> None:
    """Their mean is many times their error, for which the mutant, of correlations alone, moves the value."""
    rows, noise = data(0), 1e-12 * (3 + data(1)[:, :1])
    x, control = rows[:, 0], rows.sum(axis=1, keepdims=True)
    alone, both = [
        jax.jit(lambda c: ControlledMoments.of_rows(Controlled(x, c)).read())(c)
        for c in (control, jnp.concatenate([control, noise], axis=1))
    ]
    np.testing.assert_allclose(both.value, alone.value, rtol=1e-9)
    np.testing.assert_allclose(both.stderr, alone.stderr * np.sqrt(38 / 37), rtol=1e-9)
