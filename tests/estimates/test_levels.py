"""Levels of accuracy: least cost for an error, a bias that is stated or none at all, levels that do not fit refused."""

import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from estimates.test_coverage import HIGH, LOW, one_by_one
from jax import Array
from scipy import integrate

import variate as vt
from variate.estimates import Multilevel, debiased, multilevel
from variate.estimates.levels import base
from variate.trees import split


def rectangles(rate: Array, number: float) -> Array:
    """The mean of exp(rate x) over x = 1 / n, 2 / n, ..., 1, which is a geometric series."""
    return jnp.expm1(rate) / (-number * jnp.expm1(-rate / number))


def area(key: Array, level: int, scale: Any = 1.0) -> tuple[Array, Array]:
    """Under exp(-R x) by rectangles on the right, R exponential: means fall like 1/2 a level, variances like 1/4."""
    rate = -scale * vt.draw(key, dist.Exponential(1.0))
    return rectangles(rate, 2.0**level), rectangles(rate, 2.0 ** (level - 1))


TRUTH = integrate.quad(lambda r: -np.expm1(-r) / r * np.exp(-r), 0, np.inf)[0]  # log 2, in fact


@pytest.mark.slow
@pytest.mark.table
def test_the_error_is_the_one_asked_for(key: Array) -> None:
    """Over 100 keys: the root mean square below what was asked, and not for want of thrift below half of it."""
    for rmse in (0.01, 0.004):
        found, ends, values = one_by_one(multilevel(area, rmse=rmse, pilot=200), jax.random.split(key, 100))
        errors = values - TRUTH
        assert 0.3 * rmse < np.sqrt(np.mean(errors**2)) < rmse
        assert np.mean([bool(each.converged) for each in found]) > 0.95
        # Longer by what bias may be, so right at least as often: z-test, α = 1e-6.
        covered = np.mean((ends[:, 0] < TRUTH) & (ends[:, 1] > TRUTH))
        assert covered > 0.95 - 4.75 * np.sqrt(0.05 * 0.95 / 100)
        key = jax.random.fold_in(jax.random.clone(key), 1)


def test_the_bias_is_the_one_stated(key: Array) -> None:
    """By levels that have no noise, of which the bias is known: what is left out is exactly 2^-L."""

    def sure(key: Array, level: int) -> tuple[Array, Array]:
        return jnp.asarray(1 - 0.5**level), jnp.asarray(1 - 0.5 ** (level - 1))

    found = multilevel(sure, rmse=0.01)(key)
    levels = len(found.runs)
    assert float(found.value) == 1 - 0.5 ** (levels - 1)
    np.testing.assert_allclose(found.bias, 0.5 ** (levels - 1), rtol=1e-9)
    assert 0.5 ** (levels - 1) <= 0.01 / np.sqrt(2) < 0.5 ** (levels - 2)
    assert float(found.stderr) == 0
    assert found.rates[0] == pytest.approx(1)
    low, high = found.interval()
    np.testing.assert_allclose([low, high], [1 - 0.5 ** (levels - 2), 1], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.table
def test_a_mean_on_its_way_through_zero_does_not_end_it(key: Array) -> None:
    """As Euler's scheme had it for a bond, from steps of eight years on: no rate is one before level 5."""
    means = [0.3961, 0.2048, 0.0646, -0.0001, -0.0073, *(-0.0045 / 2**i for i in range(20))]

    def table(key: Array, level: int) -> tuple[Array, Array]:
        return jnp.asarray(sum(means[: level + 1])), jnp.asarray(sum(means[:level]))

    for rmse in (0.03, 0.01, 0.003, 0.001):
        found = multilevel(table, rmse=rmse)(key)
        assert found.converged
        assert abs(float(found.value) - sum(means)) <= 1.001 * float(found.bias) <= 0.71 * rmse
        key = jax.random.clone(key)


@pytest.mark.slow
@pytest.mark.table
def test_runs_are_where_they_are_cheapest(key: Array) -> None:
    """n_l ∝ √(V_l / c_l), and rates near those of the program; most of the cost is at the coarse end."""
    found = multilevel(area, rmse=0.001, costs=lambda level: 2.0**level)(key)
    assert isinstance(found, Multilevel)
    assert found.runs is not None
    assert found.variances is not None
    assert found.costs is not None
    ideal = np.sqrt(np.asarray(found.variances / found.costs))
    many = np.asarray(found.runs) > 100
    ratio = np.asarray(found.runs) / ideal
    np.testing.assert_allclose(ratio[many] / ratio[0], 1, atol=0.25)
    alpha, beta, gamma = found.rates
    assert abs(alpha - 1) < 0.2
    assert abs(beta - 2) < 0.3
    assert gamma == pytest.approx(1)
    costs = np.asarray(found.costs) * np.asarray(found.runs)
    assert costs[0] > costs[1:].sum() / 3
    assert "bias about" in repr(found)


def test_costs_are_counted_through_loops(key: Array) -> None:
    def steps(key: Array, level: int) -> tuple[Array, Array]:
        noise = vt.draw(key, dist.Normal(jnp.zeros(2**level), 1.0))
        end = jax.lax.scan(lambda x, z: (x * jnp.exp(z) + 1, None), jnp.ones(()), noise)[0]
        return end, end

    costs = [base.operations(split((steps, ()))[1], level, jax.random.clone(key), []) for level in (5, 6, 7)]
    assert costs[2] - costs[1] == pytest.approx(2 * (costs[1] - costs[0]))


@pytest.mark.slow
@pytest.mark.table  # each level is a program of its own, and most take longer to compile than to run
@pytest.mark.parametrize("summed", [False, True], ids=["single term", "sum"])
def test_no_bias_and_intervals_cover(summed: bool, key: Array) -> None:
    # Levels rarer by more would be cheaper, and their third moment infinite.
    run = debiased(area, summed=summed, ratio=0.4, num_samples=2_000)
    _, ends, values = one_by_one(run, jax.random.split(key, 1_000))
    assert LOW < np.mean((ends[:, 0] < TRUTH) & (ends[:, 1] > TRUTH)) < HIGH
    # z-test, α = 1e-6.
    assert abs(values.mean() - TRUTH) < 4.9 * values.std(ddof=1) / np.sqrt(len(values))


def test_what_is_not_finite_is_told(key: Array) -> None:
    def pole(key: Array, level: int) -> tuple[Array, Array]:
        fine, coarse = area(key, level)
        return jnp.where(fine > 0.95, jnp.nan, fine), coarse

    for run in (multilevel(pole, rmse=0.1, max_level=2), debiased(pole, num_samples=500)):
        found = run(key)
        assert np.isnan(found.value)
        assert int(found.nonfinite) > 0
        assert not found.converged
        key = jax.random.clone(key)


def negative(key: Array, level: int) -> tuple[Array, Array]:
    """Its scale is out of range, but at level 0."""
    first, second = jax.random.split(key)
    scale = vt.draw(first, dist.Normal(1.0, 0.5))
    z = vt.draw(second, dist.Normal(0.0, scale if level else jnp.abs(scale)), name="z")
    return z, z


@pytest.mark.parametrize("summed", [None, False, True], ids=["multilevel", "single term", "sum"])
def test_parameters_out_of_range_are_an_error(summed: bool | None, key: Array) -> None:
    run = multilevel(negative, rmse=0.1) if summed is None else debiased(negative, summed=summed, num_samples=500)
    with pytest.raises(ValueError, match=r"the draw 'z' .* met parameters that are out of range"):
        run(key)


def test_a_weight_forgotten_is_caught(key: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: P(N > l) in place of P(N ≥ l)."""
    right = base.folded
    wrong = lambda row, key, count, block: right(  # noqa: E731
        lambda key: (jax.tree.map(lambda x: x / 2**-1.5, row(key)[0]), {}), key, count, block
    )
    monkeypatch.setattr(importlib.import_module("variate.estimates.levels.debiased"), "folded", wrong)
    found = debiased(lambda key, level: area(key, level), num_samples=2_000)(key)
    assert abs(float(found.value) - TRUTH) > 5 * float(found.stderr)


def slow(key: Array, level: int) -> tuple[Array, Array]:
    """What a level adds has the variance 2^-l, as of Euler's scheme for a payoff with a jump."""
    noise = vt.draw(key, dist.Normal(jnp.zeros(2), 1.0))
    return noise[0] + 2 ** (-level / 2) * noise[1], noise[0]


@pytest.mark.slow
@pytest.mark.table
def test_variances_that_fall_too_slowly_are_found(key: Array) -> None:
    found = debiased(slow, num_samples=30_000)(key)
    assert np.isnan(found.stderr)
    assert not found.converged
    assert "infinite" in repr(found)
    right = debiased(area, num_samples=30_000)(jax.random.clone(key))
    assert float(right.stderr) > 0
    assert 0.2 < float(right.tail) < 0.5


@pytest.mark.slow
@pytest.mark.table
def test_several_numbers_and_arguments(key: Array) -> None:
    def both(key: Array, level: int, scale: Array) -> tuple[dict, dict]:
        fine, coarse = area(key, level, scale)
        return {"a": fine, "b": jnp.stack([fine, 2 * fine])}, {"a": coarse, "b": jnp.stack([coarse, 2 * coarse])}

    found = multilevel(both, rmse=0.02)(key, 1.0)
    np.testing.assert_allclose(found.value["b"], found.value["a"] * jnp.array([1.0, 2.0]), rtol=1e-12)
    assert abs(float(found.value["b"][1]) - 2 * TRUTH) < 5 * 0.02
    other = debiased(both, num_samples=500)(jax.random.clone(key), 1.0)
    np.testing.assert_allclose(other.value["b"][1], 2 * other.value["a"], rtol=1e-12)


def test_too_few_levels_is_no_convergence(key: Array) -> None:
    found = multilevel(area, rmse=1e-3, max_level=3)(key)
    assert not found.converged
    assert len(found.runs) == 4


def unlike(key: Array, level: int) -> tuple[Array, Array]:
    fine, coarse = area(key, level)
    return fine, coarse + 0.1


BAD: dict[str, tuple[Callable[[], Any], type, str]] = {
    "no pair": (lambda: multilevel(lambda k, level: 1.0, rmse=1.0)(jax.random.key(0)), TypeError, "fine, coarse"),
    "other shapes": (
        lambda: multilevel(lambda k, level: (jnp.ones(2), jnp.ones(())), rmse=1.0)(jax.random.key(0)),
        ValueError,
        "same shapes",
    ),
    "levels that do not fit": (
        lambda: multilevel(unlike, rmse=0.1, max_level=2)(jax.random.key(0)),
        ValueError,
        "coarse result at",
    ),
    "no error": (lambda: multilevel(area, rmse=0.0), ValueError, "rmse"),
    "one level": (lambda: multilevel(area, rmse=0.1, max_level=1), ValueError, "max_level"),
    "no pilot": (lambda: multilevel(area, rmse=0.1, pilot=10), ValueError, "pilot"),
    "a ratio of 1": (lambda: debiased(area, ratio=1.0), ValueError, "ratio"),
    "a raw key": (lambda: debiased(area)(jax.random.PRNGKey(0)), TypeError, "typed"),
}


@pytest.mark.parametrize(("call", "error", "text"), BAD.values(), ids=BAD)
def test_bad_input(call: Callable, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        call()
