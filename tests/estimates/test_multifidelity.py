"""Programs of several fidelities: the best numbers of runs, no bias whatever the cheaper ones, error bars that hold."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from estimates.test_coverage import HIGH, LOW, one_by_one
from jax import Array
from scipy import optimize

import variate as vt
from variate.estimates import Estimate, Multifidelity, multifidelity
from variate.estimates.levels import allocation
from variate.estimates.levels.allocation import Pilot

module = importlib.import_module("variate.estimates.levels.multifidelity")

COSTS = [1_000, 10, 1]
TRUTH = np.exp(0.125)
VARIANCE = np.exp(0.25) * np.expm1(0.25) + 0.0025


def normals(key: Array) -> Array:
    return vt.draw(key, dist.Normal(jnp.zeros(2), 1.0), name="z")


def fine(key: Array) -> Array:
    z = normals(key)
    return jnp.exp(0.5 * z[0]) + 0.05 * z[1]


def mirror(key: Array) -> Array:
    """Of another mean and scale, and falling where the fine one rises."""
    return 7 - 2 * jnp.exp(0.5 * normals(key)[0])


def line(key: Array) -> Array:
    return normals(key)[0]


def test_no_other_numbers_of_runs_are_cheaper() -> None:
    """Against a search over all numbers that rise, by random correlations and costs: equal to 1e-6."""
    generator, all_used = np.random.default_rng(0), 0
    for _ in range(8):
        squares = np.append(1.0, 1 - 10.0 ** -np.array([2.5, 1.2, 0.3]) * generator.uniform(0.5, 1.5, 3))[:, None]
        costs = 10.0 ** -np.array([0.0, 1.0, 2.5, 4.0]) * generator.uniform(0.2, 1.8, 4)
        pilot = Pilot(np.ones(1), squares, np.sqrt(squares), costs)
        plan = min(allocation.plans(pilot), key=lambda plan: plan.variance(pilot) * plan.cost(pilot))

        def price(steps: np.ndarray, pilot: Pilot = pilot) -> float:
            ratios = np.exp(np.cumsum([0.0, *np.abs(steps)]))
            left = 1 + np.diff(1 / ratios) @ pilot.squares[1:, 0]
            return float(left * (pilot.costs @ ratios))

        starts = [np.zeros(3), np.ones(3), *generator.uniform(0, 3, (2, 3))]
        found = [
            optimize.minimize(price, at, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).fun
            for at in starts
        ]
        cheapest = plan.variance(pilot) * plan.cost(pilot)
        # A program left out of the search runs as often as the one before, for its cost, so that it may be dearer.
        assert cheapest <= min(found) * (1 + 1e-6)
        if len(plan.order) == 4:
            np.testing.assert_allclose(cheapest, min(found), rtol=1e-6)
            np.testing.assert_allclose(cheapest, price(np.diff(np.log(plan.ratios))), rtol=1e-12)
            all_used += 1
    assert all_used > 2


def several(run: Callable[[Array], Estimate], key: Array, number: int) -> tuple[list, np.ndarray, float]:
    """Estimates, how far they are off and how often their intervals cover."""
    found, ends, values = one_by_one(run, jax.random.split(jax.random.clone(key), number))
    return found, values - TRUTH, float(np.mean((ends[:, 0] < TRUTH) & (ends[:, 1] > TRUTH)))


@pytest.mark.slow
def test_no_bias_and_intervals_cover(key: Array) -> None:
    """Over 1,000 keys, for less than a tenth of the cost of plain runs for the same error, the pilot among it."""
    found, errors, covered = several(multifidelity(fine, line, mirror, rmse=0.01, costs=[1_000, 1, 10]), key, 1_000)
    assert LOW < covered < HIGH
    assert abs(errors.mean()) < 4.9 * errors.std(ddof=1) / np.sqrt(len(errors))  # z-test, α = 1e-6
    assert np.sqrt(np.mean(errors**2)) < 0.01
    costs = [float(np.asarray(each.runs, float) @ each.costs) + 200 * 1_011 for each in found]
    plain = VARIANCE / errors.var() * 1_000
    assert plain > 10 * np.mean(costs), plain / np.mean(costs)


def means_forgotten(*args: Any) -> Iterator[tuple]:
    """The mutant: of the cheaper programs the mean of all their runs alone."""
    for weights, size, first in allocation.segments(*args):
        yield np.where(np.arange(len(weights))[:, None] + first > 0, np.abs(weights), weights), size, first


def error_of_the_first(parts: list[Estimate]) -> Estimate:
    """The mutant: cheap runs taken for so many that they have no error."""
    return SUMMED(parts[:1]) if len(parts) == 1 else swapped(SUMMED(parts), SUMMED(parts[:1]).stderr)


def swapped(found: Estimate, stderr: Any) -> Estimate:
    return Estimate(found.value, stderr, found.num_samples, found.converged, found.nonfinite, found.degrees)


SUMMED = module._summed
MUTANTS = {"means forgotten": ("segments", means_forgotten), "error of the first": ("_summed", error_of_the_first)}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mutant"), MUTANTS.values(), ids=MUTANTS)
def test_coverage_catches(name: str, mutant: Callable, key: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, name, mutant)
    _, _, covered = several(multifidelity(fine, mirror, line, rmse=0.02, costs=[10, 1, 1]), key, 100)
    assert covered < 0.95 - 4.9 * np.sqrt(0.05 * 0.95 / 100)


def test_programs_that_do_not_pay_are_left_out(key: Array) -> None:
    def noise(key: Array) -> Array:
        return normals(key)[1]

    found = multifidelity(fine, noise, mirror, line, rmse=0.01, costs=[1_000, 1, 10, 900.0])(key)
    assert isinstance(found, Multifidelity)
    assert found.runs is not None
    assert found.correlations is not None
    np.testing.assert_array_equal(np.asarray(found.runs) > 0, [True, False, True, False])
    assert float(found.correlations[2]) < -0.99
    assert int(found.num_samples) == 800 + int(found.runs.sum())
    assert "by Multifidelity of 2 programs with" in repr(found)
    alone = multifidelity(fine, rmse=0.02)(jax.random.clone(key))
    assert abs(float(alone.value) - TRUTH) < 5 * 0.02
    assert alone.converged


def test_several_numbers_and_arguments(key: Array) -> None:
    """Each as accurate as was asked for; booleans among them."""

    def tree(key: Array, scale: Array, cut: float = 1.0) -> dict[str, Array]:
        z = normals(key) * scale
        return {"a": jnp.exp(0.5 * z[0]) + 0.05 * z[1], "b": jnp.stack([z[0] > cut, z[0] + z[1] > cut])}

    def crude(key: Array, scale: Array) -> dict[str, Array]:
        return tree(key, scale, 0.5)

    run = multifidelity(tree, crude, rmse=0.01, costs=(20, 1))
    found = [run(one, 1.0) for one in jax.random.split(key, 20)]
    assert sum(bool(each.converged) for each in found) >= 15
    truth = {"a": TRUTH, "b": 1 - dist.Normal(0.0, jnp.array([1.0, 2**0.5])).cdf(1.0)}
    for name, exact in truth.items():
        off = [(each.value[name] - exact) / each.stderr[name] for each in found]
        assert np.all(np.abs(off) < 5.5)


def test_a_budget_is_kept(key: Array) -> None:
    for budget in (90_000.0, 400_000):
        found = multifidelity(fine, mirror, line, budget=budget, costs=COSTS, pilot=30)(key)
        assert found.converged
        spent = float(np.asarray(found.runs, float) @ found.costs) + 30 * 1_011
        assert spent <= budget
        if budget > 100_000:
            assert spent > 0.97 * budget
        key = jax.random.fold_in(jax.random.clone(key), 1)


def test_costs_are_counted_where_none_are_given(key: Array) -> None:
    def long(key: Array) -> Array:
        return jax.lax.scan(lambda x, _: (x + jnp.sin(x) / 1e6, None), fine(key), None, length=500)[0]

    found = multifidelity(long, fine, rmse=0.01)(key)
    assert found.costs is not None
    assert found.runs is not None
    assert 50 < float(found.costs[0] / found.costs[1]) < 500
    assert int(found.runs[1]) > 5 * int(found.runs[0])


def test_what_is_not_finite_is_told(key: Array) -> None:
    def pole(key: Array) -> Array:
        z = normals(key)
        return jnp.where(z[0] > 0, jnp.nan, z[1])

    for run in (multifidelity(pole, line, rmse=0.1), multifidelity(pole, budget=1e7)):
        found = run(key)
        assert np.isnan(found.value)
        assert int(found.nonfinite) > 50
        assert not found.converged
        key = jax.random.clone(key)
    # A cheaper program of which nothing can be made is left out.
    found = multifidelity(fine, pole, budget=1e5)(jax.random.clone(key))
    assert found.converged
    assert found.runs is not None
    assert int(found.runs[1]) == 0


def negative(key: Array) -> Array:
    first, second = jax.random.split(key)
    return vt.draw(second, dist.Normal(0.0, vt.draw(first, dist.Normal(1.0, 1.0))), name="y")


def at_once(f: Any, *cheaper: Any, **options: Any) -> Callable[[], Any]:
    return lambda: multifidelity(f, *cheaper, **options)(jax.random.key(0))


BAD: dict[str, tuple[Callable[[], Any], type, str]] = {
    "no error": (at_once(fine, rmse=0.0), ValueError, "rmse must be a positive number"),
    "nothing asked": (at_once(fine), ValueError, "give rmse or budget"),
    "both asked": (at_once(fine, rmse=1.0, budget=1.0), ValueError, "give rmse or budget"),
    "too small a budget": (at_once(fine, line, budget=10, costs=[2, 1]), ValueError, "budget must be"),
    "too few costs": (at_once(fine, line, rmse=1.0, costs=[2]), ValueError, "costs must have one number"),
    "a free program": (at_once(fine, line, rmse=1.0, costs=[2, 0]), ValueError, "costs must be positive"),
    "a small pilot": (at_once(fine, line, rmse=1.0, pilot=10), ValueError, "pilot must be at least 30"),
    "other shapes": (at_once(fine, normals, rmse=1.0), ValueError, "must return the shapes of f"),
    "no number": (at_once(lambda key: "a", rmse=1.0), TypeError, "real numbers"),
    "no function": (at_once(fine, 3.0, rmse=1.0), TypeError, "cheaper"),
    "parameters": (at_once(fine, negative, rmse=1.0), ValueError, "the draw 'y' .* out of range"),
    "a raw key": (lambda: multifidelity(fine, rmse=1.0)(jax.random.PRNGKey(0)), TypeError, "typed"),
}


@pytest.mark.parametrize(("call", "error", "text"), BAD.values(), ids=BAD)
def test_bad_input(call: Callable, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        call()
