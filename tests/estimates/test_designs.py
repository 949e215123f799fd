"""Designs: every point alone is uniform, sets are independent, and what theory promises of the error holds."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from jax.random import clone
from scipy import stats
from scipy.stats import qmc

import variate as vt
from variate.estimates import Antithetic, LatinHypercube, Lattice, Sobol, Stratified
from variate.estimates.designs.base import unit
from variate.estimates.designs.sobol import generators

DESIGNS: dict[str, Any] = {
    "Antithetic": Antithetic(),
    "LatinHypercube": LatinHypercube(16),
    "Lattice": Lattice(),
    "Sobol": Sobol(),
    "Stratified": Stratified(4),
}
LABELS = ("x", "y")


def points(design: Any, keys: Array, num_samples: int = 16 * 16) -> np.ndarray:
    """[keys, points of a set, coordinates]."""
    sets = design.sets(LABELS, num_samples)

    def one(key: Array) -> Array:
        made = sets.randomize(key)
        return jax.vmap(lambda i: sets.point(made, i))(jnp.arange(sets.size))

    return np.asarray(jax.jit(jax.vmap(one))(keys))


def worst_uniformity(design: Any, key: Array) -> float:
    """The least p-value, of a chi-square over 8 by 8 cells, of the points of one index over many keys.

    Where the index says which stratum a point is in, of one index after the other.
    """
    found = points(design, jax.random.split(key, 6400))
    if isinstance(design, Stratified):
        found = found[np.arange(6400), np.arange(6400) % found.shape[1]][:, None]
    cells = np.minimum((found * 8).astype(int), 7) @ np.array([8, 1])
    tables = np.stack([np.bincount(column, minlength=64) for column in cells.T])
    return float(stats.chisquare(tables, axis=1).pvalue.min() * len(tables))


@pytest.mark.parametrize("name", DESIGNS)
def test_every_point_alone_is_uniform(name: str, key: Array) -> None:
    """Bonferroni over the points of a set: at most 1e-6 false alarms a design."""
    assert worst_uniformity(DESIGNS[name], key) >= 1e-6


def test_a_design_without_its_shift_is_caught(key: Array) -> None:
    class Unshifted(Lattice):
        def sets(self, labels: Any, num_samples: int) -> Any:
            sets = super().sets(labels, num_samples)
            return sets._replace(randomize=lambda key: sets.randomize(key) & jnp.uint32(0xFFFF))

    assert worst_uniformity(Unshifted(), key) < 1e-6


def test_a_latin_hypercube_has_a_point_in_each_cell_of_each_coordinate(key: Array) -> None:
    found = points(LatinHypercube(16), jax.random.split(key, 50))
    cells = np.sort((found * 16).astype(int), axis=1)
    assert (cells == np.arange(16)[None, :, None]).all()


def test_a_stratified_set_has_a_point_in_each_cell(key: Array) -> None:
    found = points(Stratified({"x": 8}), jax.random.split(clone(key), 50))
    assert (np.sort((found[..., 0] * 8).astype(int), axis=1) == np.arange(8)).all()
    found = points(Stratified(4), jax.random.split(key, 50))
    cells = np.sort((found * 4).astype(int) @ np.array([4, 1]), axis=1)
    assert (cells == np.arange(16)).all()


def test_antithetic_pairs_mirror_each_other(key: Array) -> None:
    found = points(Antithetic(), jax.random.split(key, 50))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=0, atol=1e-9)


def test_generators_are_those_of_scipy() -> None:
    columns = generators(7, 8)
    index = np.arange(256)
    gray = index ^ (index >> 1)
    ours = np.zeros((256, 7), np.uint32)
    for k in range(8):
        ours ^= np.where((gray >> k & 1)[:, None].astype(bool), columns[k][None], np.uint32(0))
    np.testing.assert_array_equal(ours / 2.0**32, qmc.Sobol(7, scramble=False).random(256))


def test_a_scrambled_set_is_a_net_with_a_point_in_every_box_of_its_size(key: Array) -> None:
    """In two dimensions Sobol's sequence is a (0, 2)-sequence: each elementary box of volume 1/16 has one of 16."""
    for found in points(Sobol(), jax.random.split(key, 50)):
        for a in range(5):
            boxes = (found * [2**a, 2 ** (4 - a)]).astype(int) @ np.array([2 ** (4 - a), 1])
            assert (np.sort(boxes) == np.arange(16)).all()


def test_units_are_inside_of_the_interval() -> None:
    found = unit(jnp.asarray([0, 2**32 - 1], jnp.uint32))
    assert 0 < found[0] < found[1] < 1
    with jax.enable_x64(False):
        single = unit(jnp.asarray([0, 2**32 - 1], jnp.uint32))
        assert single.dtype == jnp.float32
        assert 0 < single[0] < single[1] < 1


def smooth(key: Array, a: float) -> Array:
    first, second = jax.random.split(key)
    x = vt.draw(first, dist.Uniform(0.0, 1.0), name="x")
    y = vt.draw(second, dist.Uniform(0.0, 1.0), name="y")
    return jnp.exp(a * x) * (1 + y**2)


TRUTH = math.expm1(1) * 4 / 3


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rate"), [("Lattice", -1.8), ("Sobol", -1.3), ("Stratified", -0.9), (None, -0.5)])
def test_the_error_falls_as_theory_says(name: str | None, rate: float, key: Array) -> None:
    """Root mean square errors over 300 keys; plain sampling's slope -1/2 within four standard errors of 0.041.

    For smooth functions Sobol's points reach -3/2 and the folded lattice -2, up to logarithms.
    """
    sizes = [2**k for k in ((5, 8) if name == "Stratified" else (9, 13))]
    errors = []
    for size in sizes:
        pieces = round(size**0.5)
        design = Stratified(pieces) if name == "Stratified" else DESIGNS.get(name or "")
        samples = pieces**2 if name == "Stratified" else size
        run = vt.expect(smooth, method=design, num_samples=samples, block_size=1024)
        found = jax.jit(jax.vmap(run, (0, None)))(jax.random.split(clone(key), 300), 1.0)
        errors.append(np.sqrt(np.mean((np.asarray(found.value) - TRUTH) ** 2)))
    slope = np.log(errors[1] / errors[0]) / np.log(sizes[1] / sizes[0])
    assert slope < rate if name else abs(slope - rate) < 4 * 0.041


def test_antithetic_pairs_lose_all_error_of_a_linear_result(key: Array) -> None:
    def linear(key: Array) -> Array:
        return 3.0 + 2.0 * vt.draw(key, dist.Normal(1.0, 2.0))

    found = vt.expect(linear, method=Antithetic(), num_samples=10)(key)
    np.testing.assert_allclose(found.value, 5.0, rtol=1e-7)
    assert found.stderr < 1e-7


def in_loop(key: Array) -> Array:
    def step(level: Array, key: Array) -> tuple[Array, Array]:
        noise = jax.vmap(lambda k: vt.draw(k, dist.Normal(level, 1.0), name="noise"))(jax.random.split(key, 2))
        return 0.5 * level + noise.mean(), level

    keys = jax.random.split(key, 3)
    last, levels = jax.lax.scan(step, jnp.asarray(1.0), keys)
    return jnp.where(last > 0, last**2, 0.0) + levels.sum()


@pytest.mark.parametrize("design", [Sobol(), Antithetic()], ids=["Sobol", "Antithetic"])
def test_draws_in_loops_and_lanes_are_served(design: Any, key: Array) -> None:
    plain = vt.expect(in_loop, num_samples=2**17, block_size=4096)(clone(key))
    found = vt.expect(in_loop, method=design, num_samples=2**13, block_size=1024)(key)
    assert abs(found.value - plain.value) < 5 * np.hypot(found.stderr, plain.stderr)
    assert found.stderr < plain.stderr * 4


@pytest.mark.wide
@pytest.mark.parametrize("name", DESIGNS)
def test_the_answer_does_not_depend_on_the_block_size(name: str, key: Array) -> None:
    answers = [
        vt.expect(smooth, method=DESIGNS[name], num_samples=1024, block_size=block)(clone(key), 1.0)
        for block in (64, 1024)
    ]
    np.testing.assert_allclose(answers[0].value, answers[1].value, rtol=1e-12)
    np.testing.assert_allclose(answers[0].stderr, answers[1].stderr, rtol=1e-9)
    assert answers[0].num_samples == answers[1].num_samples == 1024


@pytest.mark.parametrize("design", [Sobol(), Antithetic()], ids=["Sobol", "Antithetic"])
def test_stops_at_the_tolerance(design: Any, key: Array) -> None:
    found = vt.expect(smooth, method=design, until=vt.StdErr(1e-3))(key, 1.0)
    assert found.converged
    assert found.stderr <= 1e-3
    assert abs(found.value - TRUTH) < 5e-3
    spent = vt.expect(smooth, method=design, until=vt.StdErr(1e-9), max_samples=2048)(clone(key), 1.0)
    assert not spent.converged
    assert spent.num_samples == 2048


@pytest.mark.slow
@pytest.mark.wide
@pytest.mark.parametrize("name", DESIGNS)
def test_error_bars_cover(name: str, key: Array) -> None:
    """Of Student's 95% intervals, over 4,000 keys: 93.5 to 96.5%, where a right one fails with probability 1e-5.

    Those stated are Student's, and longer on the side where the means have their tail.
    """
    run = vt.expect(smooth, method=DESIGNS[name], num_samples=512, block_size=512)

    def covers(key: Array) -> Array:
        found = run(key, 1.0)
        students = dataclasses.replace(found, skewness=None)
        return jnp.array([(low < TRUTH) & (high > TRUTH) for low, high in (students.interval(), found.interval())])

    covered = jax.jit(lambda keys: jax.lax.map(covers, keys, batch_size=100))(jax.random.split(key, 4000))
    students, stated = covered.T
    assert 0.935 < jnp.mean(students) < 0.965
    assert jnp.all(stated | ~students)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tolerance"), [("Sobol", 2e-3), ("LatinHypercube", 4e-3), ("Antithetic", 2e-2)])
def test_intervals_hold_where_sampling_stops(name: str, tolerance: float, key: Array) -> None:
    """At least 95%: over 2,000 keys 93% or less has a probability below 1e-4 if it is."""
    run = vt.expect(smooth, method=DESIGNS[name], until=vt.StdErr(tolerance, min_samples=64), block_size=64)

    def covers(key: Array) -> Array:
        low, high = run(key, 1.0).interval()
        return (low < TRUTH) & (high > TRUTH)

    rate = jax.jit(lambda keys: jnp.mean(jax.lax.map(covers, keys, batch_size=100)))(jax.random.split(key, 2000))
    assert rate > 0.93


def random_number_of_draws(key: Array) -> Array:
    def body(state: tuple[Array, Array]) -> tuple[Array, Array]:
        key, total = state
        key, use = jax.random.split(key)
        return key, total + vt.draw(use, dist.Exponential(1.0))

    return jax.lax.while_loop(lambda state: state[1] < 1, body, (key, jnp.zeros(())))[1]


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a random number of draws": (
        lambda: vt.expect(random_number_of_draws, method=Sobol())(jax.random.key(0)),
        ValueError,
        "number of draws is random",
    ),
    "no draw": (
        lambda: vt.expect(lambda key: jax.random.normal(key), method=Sobol())(jax.random.key(0)),
        ValueError,
        "Sobol has no draw to serve",
    ),
    "a class": (lambda: vt.expect(smooth, method=Sobol), TypeError, "method must be a method of vt.estimates"),
    "a string": (lambda: vt.expect(smooth, method="sobol"), TypeError, "method must be"),
    "two designs": (lambda: vt.expect(smooth, method=(Sobol(), Antithetic())), ValueError, "do not go together"),
    "too few samples": (
        lambda: vt.expect(smooth, method=Sobol(), num_samples=20)(jax.random.key(0), 1.0),
        ValueError,
        "num_samples: Sobol takes 16 sets",
    ),
    "less than a set": (
        lambda: vt.expect(smooth, method=LatinHypercube(64), num_samples=20)(jax.random.key(0), 1.0),
        ValueError,
        "num_samples must be at least 64",
    ),
    "too many cells": (
        lambda: vt.expect(smooth, method=Stratified(100), num_samples=20)(jax.random.key(0), 1.0),
        ValueError,
        "10000 cells",
    ),
    "an unknown name": (
        lambda: vt.expect(smooth, method=Stratified({"q": 2}))(jax.random.key(0), 1.0),
        ValueError,
        "no draw 'q'",
    ),
    "one replicate": (lambda: Sobol(1), ValueError, "replicates must be at least 2"),
    "no pieces": (lambda: Stratified(0), ValueError, "pieces must be a positive integer"),
    "no points": (lambda: LatinHypercube(0), ValueError, "size must be a positive integer"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_an_error_that_says_so(name: str) -> None:
    run, kind, words = BAD[name]
    with pytest.raises(kind, match=words):
        run()


def test_a_parameter_out_of_range_is_an_error(key: Array) -> None:
    def program(key: Array, scale: float) -> Array:
        return vt.draw(key, dist.Normal(0.0, scale))

    with pytest.raises(ValueError, match="scale"):
        vt.expect(program, method=Sobol())(key, -1.0)
