"""Ridge regression on earlier draws: error bars that hold where controls are many beside the draws."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array

import variate as vt
from variate.estimates import (
    Antithetic,
    Controlled,
    ControlledMoments,
    ControlVariates,
    Importance,
    PastRegression,
    Ridge,
    Scores,
    Sobol,
    WeightedMoments,
)
from variate.running import Runner


def program(key: Array, shift: float) -> Array:
    z = vt.draw(key, dist.Normal(shift, jnp.ones(4)), name="z")
    return jnp.exp(0.25 * jnp.sum(z)) + z[0] * z[1]


TRUTH = float(np.exp(4 * (0.25 * 0.5 + 0.25**2 / 2)) + 0.25)
ROWS, COLUMNS = np.triu_indices(4)


def squares(draws: dict[str, Array]) -> Array:
    """Deviations and their products, 14 in all."""
    z = draws["z"] - 0.5
    return jnp.concatenate([z, z[ROWS] * z[COLUMNS] - (ROWS == COLUMNS).astype(float)])


CONTROLS = ControlVariates(squares, 0.0)


def coverage(method: Any, key: Array, num_samples: int = 160) -> float:
    run = vt.expect(program, method=method, num_samples=num_samples, block_size=64)

    def covers(key: Array) -> Array:
        low, high = run(key, 0.5).interval()
        return (low < TRUTH) & (high > TRUTH)

    return float(jnp.mean(jax.jit(lambda keys: jax.lax.map(covers, keys, batch_size=100))(jax.random.split(key, 4000))))


METHODS: dict[str, Any] = {
    "controls": Ridge(CONTROLS),
    "scores": Ridge(Scores()),
    "antithetic": (Antithetic(), Ridge(CONTROLS)),
    "importance": (Ridge(CONTROLS), Importance({"z": lambda own: dist.Normal(own.loc, 1.1 * own.scale)})),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_error_bars_cover_with_a_control_for_ten_draws(name: str, key: Array) -> None:
    """Of 95% intervals: between 93.5 and 96.5%, where a right one fails with probability 1e-5."""
    assert 0.935 < coverage(METHODS[name], key, 320 if name == "antithetic" else 160) < 0.965


class SelfFitted(PastRegression):
    """A mutant: coefficients that the draws they adjust have had a say in."""

    def _with(self, rows: Controlled, count: Array) -> PastRegression:
        past = self.past.merge(ControlledMoments.of_rows(rows, count))
        made = PastRegression(past, self.adjusted, self.penalty)._with(rows, count)
        return SelfFitted(past, made.adjusted, self.penalty)

    def empty(self, example: Controlled) -> PastRegression:
        return SelfFitted(ControlledMoments.empty(example), WeightedMoments.empty(example.value), self.penalty)


class SelfFittedRidge(Ridge):
    @property
    def fold(self) -> PastRegression:
        return SelfFitted(None, None, 0.01)


@pytest.mark.slow
@pytest.mark.parametrize("method", [CONTROLS, SelfFittedRidge(CONTROLS)], ids=["least squares", "fitted on themselves"])
def test_coefficients_fitted_on_what_they_adjust_do_not_cover(method: Any, key: Array) -> None:
    assert coverage(method, key) < 0.92


def made_rows(key: Array, n: int) -> Controlled:
    first, second = jax.random.split(key)
    c = jax.random.normal(first, (n, 3))
    return Controlled({"x": c @ jnp.asarray([1.0, -2.0, 0.5]) + 0.1 * jax.random.normal(second, (n,))}, c)


def by_hand(rows: Controlled, penalty: float) -> tuple[float, float]:
    """The definition, draw by draw."""
    x, c = np.asarray(rows.value["x"]), np.asarray(rows.controls)
    terms, weights = [], []
    for i in range(16, len(x)):
        n = i // 16 * 16
        centered = c[:n] - c[:n].mean(0)
        products = centered.T @ centered
        ridge = products + penalty * np.diag(np.diag(products)) / n
        terms.append(x[i] - c[i] @ np.linalg.solve(ridge, centered.T @ (x[:n] - x[:n].mean())))
        weights.append(n / (n + c.shape[1]))
    w, t = np.asarray(weights), np.asarray(terms)
    mean = np.sum(w * t) / np.sum(w)
    m = np.sum(w) ** 2 / np.sum(w**2)
    return float(mean), float(np.sqrt(np.sum(w**2 * (t - mean) ** 2) / np.sum(w) ** 2 * m / (m - 1)))


@pytest.mark.parametrize("penalty", [1e-3, 1.0, 50.0])
def test_it_is_what_its_formula_says(penalty: float, key: Array) -> None:
    rows = made_rows(key, 75)
    fold = PastRegression(None, None, penalty).empty(jax.tree.map(lambda leaf: leaf[0], rows))
    found = jax.jit(lambda rows: fold.add_rows(rows).read())(rows)
    value, stderr = by_hand(rows, penalty)
    np.testing.assert_allclose(found.value["x"], value, rtol=1e-11)
    np.testing.assert_allclose(found.stderr["x"], stderr, rtol=1e-11)
    assert int(found.num_samples) == 75


def test_blocks_of_sixteens_make_no_difference_and_unused_rows_none(key: Array) -> None:
    rows = made_rows(key, 64)
    empty = PastRegression(None, None, 1.0).empty(jax.tree.map(lambda leaf: leaf[0], rows))
    first, second = (jax.tree.map(lambda leaf, at=at: leaf[at : at + 32], rows) for at in (0, 32))
    spoilt = jax.tree.map(lambda leaf: leaf.at[16:].set(jnp.nan), second)

    @jax.jit
    def folded(first: Controlled, second: Controlled) -> vt.Estimate:
        return empty.add_rows(first, 32).add_rows(second, 16).read()

    parts = folded(first, spoilt)
    whole = jax.jit(lambda rows: empty.add_rows(rows).read())(jax.tree.map(lambda leaf: leaf[:48], rows))
    np.testing.assert_allclose(parts.value["x"], whole.value["x"], rtol=1e-12)
    np.testing.assert_allclose(parts.stderr["x"], whole.stderr["x"], rtol=1e-10)
    assert int(parts.num_samples) == 48
    assert int(parts.nonfinite) == 0


def test_pieces_are_merged(key: Array) -> None:
    wanted = vt.expect(program, method=Ridge(CONTROLS), num_samples=4096, block_size=64, runner=Runner(piece=1024))
    found = wanted(key, 0.5)
    assert abs(found.value - TRUTH) < 5 * found.stderr
    plain = vt.expect(program, num_samples=4096)(jax.random.clone(key), 0.5)
    assert found.stderr < 0.2 * plain.stderr
    assert str(found).endswith("by Ridge)")


def test_too_few_draws_for_a_past_are_left_as_they_are(key: Array) -> None:
    found = vt.expect(program, method=Ridge(CONTROLS), num_samples=16)(key, 0.5)
    plain = vt.expect(program, num_samples=16)(jax.random.clone(key), 0.5)
    np.testing.assert_allclose(found.value, plain.value, rtol=1e-12)
    np.testing.assert_allclose(found.stderr, plain.stderr, rtol=1e-12)


def test_a_control_that_never_varies_does_nothing(key: Array) -> None:
    still = ControlVariates(lambda draws: (draws["z"][0], 0.0 * draws["z"][0]), (0.5, 0.0))
    moving = ControlVariates(lambda draws: draws["z"][0], 0.5)
    found = vt.expect(program, method=Ridge(still), num_samples=400)(key, 0.5)
    other = vt.expect(program, method=Ridge(moving), num_samples=400)(jax.random.clone(key), 0.5)
    np.testing.assert_allclose(found.value, other.value, atol=0.1 * float(other.stderr))


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Ridge(3), TypeError, "of must be controls"),
        (lambda: Ridge(Scores), TypeError, "of must be controls"),
        (lambda: Ridge(Ridge(CONTROLS)), TypeError, "of must be controls"),
        (lambda: Ridge(CONTROLS, penalty=0.0), ValueError, "penalty"),
        (lambda: run((Sobol(), Ridge(CONTROLS))), ValueError, "no order that Ridge could learn from"),
        (lambda: run(Ridge(ControlVariates(squares, 0.5)), 4000), ValueError, "has another mean than was stated"),
        (lambda: run((Ridge(CONTROLS), Scores())), ValueError, "do not go together"),
    ],
)
def test_bad_input(make: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


def run(method: Any, num_samples: int = 1024) -> vt.Estimate:
    return vt.expect(program, method=method, num_samples=num_samples)(jax.random.key(0), 0.5)
