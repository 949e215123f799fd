"""Every fold keeps the laws of folds, and each law catches a fold that is broken."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from variate.estimates import (
    Moments,
    WeightedMoments,
    moments,
    weighted,
)
from variate.protocols import Fold


class Law(NamedTuple):
    """A fold, and how to make one of rows and log-weights at once."""

    kind: Any
    of_rows: Callable[[Any, np.ndarray], Any]
    uses_weights: bool


LAWS = {
    "Moments": Law(Moments, lambda rows, _: Moments.of_rows(rows), False),
    "WeightedMoments": Law(WeightedMoments, lambda rows, logs: WeightedMoments.of_rows(rows, jnp.asarray(logs)), True),
}
each_fold = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)


def data(law: Law, n: int, mean: float = 0.0, dtype: Any = np.float64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logs = rng.normal(0, 2, n) if law.uses_weights else np.zeros(n)
    return (mean + rng.normal(size=(n, 2)) * [1, 3]).astype(dtype), logs


def oracle(rows: np.ndarray, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error from their definitions, in two passes and extended precision."""
    w = np.exp(logs.astype(np.longdouble) - logs.max())[:, None]
    first = rows[0].astype(np.longdouble)
    rows = rows - first
    mean = (w * rows).sum(0) / w.sum()
    effective = w.sum() ** 2 / (w**2).sum()
    return first + mean, np.sqrt((w**2 * (rows - mean) ** 2).sum(0) / w.sum() ** 2 * effective / (effective - 1))


def one_by_one(law: Law, rows: np.ndarray, logs: np.ndarray) -> Any:
    def step(fold: Any, row_and_log: tuple[Any, Any]) -> tuple[Any, None]:
        row, log = row_and_log
        return (fold.add(row, log) if law.uses_weights else fold.add(row)), None

    start = law.kind.empty(jnp.asarray(rows[0]))
    return jax.lax.scan(step, start, (jnp.asarray(rows), jnp.asarray(logs)))[0]


def in_blocks(law: Law, rows: np.ndarray, logs: np.ndarray) -> Any:
    total = law.kind.empty(jnp.asarray(rows[0]))
    for part, part_logs in zip(jnp.array_split(rows, 7), jnp.array_split(logs, 7), strict=True):
        total = total.merge(law.of_rows(part, part_logs))
    return total


def assert_agree(estimate: Any, rows: np.ndarray, logs: np.ndarray, rtol: float) -> None:
    mean, stderr = oracle(rows, logs)
    assert estimate.num_samples == len(rows)
    np.testing.assert_allclose(np.asarray(estimate.value, np.longdouble), mean, rtol=rtol, atol=rtol)
    # A spread of 0 around 1e8 is 0 up to rounding of the deviations, which are of order 1.
    np.testing.assert_allclose(np.asarray(estimate.stderr, np.longdouble), stderr, rtol=rtol, atol=rtol)


def both_ways(law: Law) -> Callable[[np.ndarray, np.ndarray], list[Any]]:
    """Estimates, compiled anew, so that nothing is left of what a mutant was put into."""
    return jax.jit(lambda rows, logs: [make(law, rows, logs).read() for make in (one_by_one, in_blocks)])


def check_definition(law: Law) -> None:
    run = both_ways(law)
    for mean in (0.0, 1e8):
        rows, logs = data(law, 200, mean)
        for estimate in run(rows, logs):
            assert_agree(estimate, rows, logs, rtol=1e-12)


@each_fold
def test_a_fold_is_one(law: Law) -> None:
    assert isinstance(law.kind.empty(jnp.zeros(())), Fold)


@each_fold
def test_mean_and_error_are_those_of_the_definition(law: Law) -> None:
    check_definition(law)


@each_fold
def test_single_precision_loses_no_more_than_its_last_digits(law: Law) -> None:
    run = both_ways(law)
    for mean in (0.0, 1e3, 1e8):
        rows, logs = data(law, 400, mean, np.float32)
        for estimate in run(rows, logs):
            assert estimate.value.dtype == estimate.stderr.dtype == np.float32
            assert_agree(estimate, rows, logs, rtol=100 * float(np.finfo(np.float32).eps))


def merge_without_delta(a: Any, b: Any, weight_a: Any, weight_b: Any) -> Any:
    return MERGED(a, b, weight_a, weight_b)._replace(root=jnp.hypot(a.root, b.root))


def merge_without_weights(a: Any, b: Any, weight_a: Any, weight_b: Any) -> Any:
    return MERGED(a, b, jnp.where(weight_a > 0, 1.0, 0.0), jnp.ones_like(weight_b))


def spread_without_center(rows: Any, weights: Any) -> Any:
    """Textbook sums of squares."""
    weights, total = weights.reshape(-1, 1).astype(rows.dtype), jnp.sum(weights).astype(rows.dtype)
    mean = jnp.sum(weights * rows, axis=0) / total
    squares = jnp.sum(weights * rows**2, axis=0) - total * mean**2
    return moments.Spread(jnp.zeros_like(mean), mean, jnp.sqrt(squares))


def scale_forgotten(self: Any, log_scale: Any) -> Any:
    return self


MERGED = moments.merged
MERGE = jax.jit(lambda a, b: a.merge(b))
READ = jax.jit(lambda fold: fold.read())
OF_ROWS = jax.jit(lambda of_rows, rows, logs: of_rows(rows, logs), static_argnums=0)
MUTANTS = {
    "merge without the delta² term": ("merged", merge_without_delta),
    "merge that weighs both sides alike": ("merged", merge_without_weights),
    "sums of squares": ("spread_of", spread_without_center),
}


@pytest.mark.wide
@each_fold
@pytest.mark.parametrize(("name", "mutant"), MUTANTS.values(), ids=MUTANTS)
def test_the_definition_catches(law: Law, name: str, mutant: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, name, mutant)
    monkeypatch.setattr(weighted, name, mutant)
    with pytest.raises(AssertionError):
        check_definition(law)


def test_the_definition_catches_a_forgotten_scale_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WeightedMoments, "_relative_to", scale_forgotten)
    with pytest.raises(AssertionError):
        check_definition(LAWS["WeightedMoments"])


@each_fold
@given(order=st.permutations(range(6)), pairs=st.lists(st.integers(0, 59), min_size=5, max_size=5))
def test_any_order_and_association_of_merges_gives_the_same(law: Law, order: list[int], pairs: list[int]) -> None:
    rows, logs = data(law, 30, mean=1e3)
    blocks = zip(rows.reshape(5, 6, 2), logs.reshape(5, 6), strict=True)
    parts = [OF_ROWS(law.of_rows, *block) for block in blocks] + [law.kind.empty(jnp.asarray(rows[0]))]
    parts = [parts[i] for i in order]
    for pair in pairs:
        at = pair % (len(parts) - 1)
        parts[at : at + 2] = [MERGE(parts[at], parts[at + 1])]
    assert_agree(READ(parts[0]), rows, logs, rtol=1e-12)


@each_fold
def test_the_empty_fold_changes_no_bit(law: Law) -> None:
    rows, logs = data(law, 9, mean=1e8)
    fold, empty = law.of_rows(jnp.asarray(rows), logs), law.kind.empty(jnp.asarray(rows[0]))
    for same in (fold.merge(empty), empty.merge(fold)):
        assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(fold), strict=True))
    nothing = empty.merge(empty).read()
    assert nothing.num_samples == 0
    assert np.all(np.isinf(nothing.stderr))


@each_fold
def test_compiled_and_mapped_folds_agree_with_plain_ones(law: Law) -> None:
    rows, logs = data(law, 24)
    blocks, block_logs = jnp.asarray(rows).reshape(4, 6, 2), jnp.asarray(logs).reshape(4, 6)
    mapped = jax.vmap(lambda rows, logs: law.of_rows(rows, logs).read())(blocks, block_logs)
    for i in range(4):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], mapped)
        assert_agree(one, rows.reshape(4, 6, 2)[i], logs.reshape(4, 6)[i], 1e-12)
    assert_agree(READ(OF_ROWS(law.of_rows, rows, logs)), rows, logs, 1e-12)


@pytest.mark.wide
@each_fold
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, np.nan, 2.0], np.nan),
        ([1.0, np.inf, np.inf], np.inf),
        ([-np.inf, 0.0, 1.0], -np.inf),
        ([np.inf, 1.0, -np.inf], np.nan),
    ],
)
def test_draws_that_are_not_finite_are_counted_and_kept(law: Law, values: list, expected: float) -> None:
    tree = {"bad": jnp.asarray(values), "good": jnp.asarray([1.0, 2.0, 4.0])}
    one, other = jax.tree.map(lambda x: x[:2], tree), jax.tree.map(lambda x: x[2:], tree)
    merged = law.of_rows(one, np.zeros(2)).merge(law.of_rows(other, np.zeros(1)))
    for fold in (
        law.of_rows(tree, np.zeros(3)),
        merged,
        law.kind.empty(jax.tree.map(lambda x: x[0], tree)).merge(merged),
    ):
        estimate = fold.read()
        assert estimate.nonfinite == sum(not np.isfinite(value) for value in values)
        assert not estimate.converged
        np.testing.assert_array_equal(estimate.value["bad"], expected)
        assert np.isnan(estimate.stderr["bad"])
        np.testing.assert_allclose(estimate.value["good"], 7 / 3, rtol=1e-15)


@pytest.mark.wide
@each_fold
@pytest.mark.parametrize("values", [[True, False], [1, 0], [1.0, 0.0], [np.float16(1), np.float16(0)]], ids=str)
def test_draws_are_averaged_as_floats(law: Law, values: list) -> None:
    estimate = law.kind.empty(values[0]).add(values[0]).add(values[1]).read()
    assert estimate.value == 0.5
    assert estimate.value.dtype == (np.float32 if isinstance(values[0], np.float16) else np.float64)


def test_a_mean_that_overflows_has_not_converged() -> None:
    estimate = Moments.of_rows(jnp.asarray([3e38, 3e38], jnp.float32)).read()
    assert estimate.nonfinite == 0
    assert not estimate.converged


def test_only_the_first_rows_count() -> None:
    rows, logs = data(LAWS["Moments"], 10)
    padded = jnp.asarray(np.concatenate([rows, np.full((3, 2), np.nan)]))
    found = Moments.of_rows(padded, jnp.asarray(10)).read()
    assert_agree(found, rows, logs, 1e-12)
    assert found.nonfinite == 0


def test_one_draw_has_no_known_error() -> None:
    estimate = Moments.empty(jnp.zeros(2)).add(jnp.asarray([3.0, 4.0])).read()
    np.testing.assert_array_equal(estimate.value, [3.0, 4.0])
    np.testing.assert_array_equal(estimate.stderr, [np.inf, np.inf])


@pytest.mark.parametrize("log_weight", [1.0, jnp.asarray(0.0)])
def test_moments_takes_no_weights(log_weight: Any) -> None:
    with pytest.raises(ValueError, match="WeightedMoments takes weights"):
        Moments.empty(jnp.zeros(())).add(jnp.ones(()), log_weight)


def test_weights_matter_only_relative_to_each_other() -> None:
    rows, logs = data(LAWS["WeightedMoments"], 50)
    near, far = (WeightedMoments.of_rows(jnp.asarray(rows), jnp.asarray(logs + shift)) for shift in (0.0, -1e4))
    np.testing.assert_allclose(far.read().value, near.read().value, rtol=1e-11)
    np.testing.assert_allclose(far.read().stderr, near.read().stderr, rtol=1e-11)
    np.testing.assert_allclose(near.effective_samples, np.exp(logs).sum() ** 2 / np.exp(2 * logs).sum(), rtol=1e-12)


def test_a_weight_of_zero_takes_a_draw_out_and_a_nan_is_counted() -> None:
    rows = jnp.asarray([1.0, np.nan, 3.0])
    fold = WeightedMoments.of_rows(rows, jnp.asarray([0.0, -jnp.inf, 0.0]))
    assert (fold.read().value, fold.read().nonfinite) == (2.0, 0)
    alone = WeightedMoments.of_rows(rows[1:2], jnp.asarray([-jnp.inf]))
    np.testing.assert_array_equal(alone.merge(fold).read().value, 2.0)
    for broken in (np.nan, np.inf):
        estimate = WeightedMoments.of_rows(jnp.ones(3), jnp.asarray([0.0, broken, 0.0])).read()
        assert np.isnan(estimate.value)
        assert estimate.nonfinite == 1


def uncentered(rows: Any, weights: Any) -> Any:
    """The mutant: deviations are added up as they are, from 0."""
    spread = moments.spread_of(rows, weights)
    return spread._replace(center=jnp.zeros_like(spread.center), mean=spread.center + spread.mean)


def test_ten_million_single_precision_draws_do_not_drift() -> None:
    """Of N(10⁴, 1), folded in blocks of 256, the mutant beside it on the same draws."""

    def add(i: Any, carry: tuple) -> tuple:
        spreads, weight = carry
        rows = 1e4 + jax.random.normal(jax.random.fold_in(jax.random.key(1), i), (256,), jnp.float32)
        blocks = [of(rows, jnp.ones(256, jnp.float32)) for of in (moments.spread_of, uncentered)]
        merged = [moments.merged(*both, weight, jnp.float32(256)) for both in zip(spreads, blocks, strict=True)]
        return merged, weight + 256

    zero = jnp.zeros((), jnp.float32)
    start = [moments.Spread(zero, zero, zero)] * 2, zero
    (right, wrong), _ = jax.jit(lambda: jax.lax.fori_loop(0, 10**7 // 256, add, start))()
    # z-tests, α = 1e-6. Rounding a draw of 10⁴ + z to a multiple of 2⁻¹⁰ adds nothing to speak of.
    bound = 4.9 / np.sqrt(1e7)
    drifts = [abs(float(spread.center) - 1e4 + float(spread.mean)) for spread in (right, wrong)]
    assert drifts[0] < bound < drifts[1]
    assert abs(float(right.root) ** 2 / 1e7 - 1) < bound * np.sqrt(2)
