"""Controls and weights: what they estimate is right, their error bars hold, and what cannot be is an error."""

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

import variate as vt
from variate.estimates import (
    Antithetic,
    Conditional,
    Controlled,
    ControlledMoments,
    ControlVariates,
    Importance,
    LatinHypercube,
    Scores,
    Sobol,
)


def program(key: Array, shift: float) -> Array:
    first, second, third = jax.random.split(key, 3)
    z = vt.draw(first, dist.Normal(shift, jnp.ones(2)), name="z")
    g = vt.draw(second, dist.Exponential(0.5), name="g")
    b = vt.draw(third, dist.Bernoulli(0.3), name="b")
    return jnp.exp(0.3 * jnp.sum(z)) * g + b.astype(float)


TRUTH = float(np.exp(0.3 * 0.5 * 2 + 0.09) * 2 + 0.3)


def both(draws: dict[str, Array]) -> tuple[Array, Array]:
    return draws["z"], draws["g"]


def moved(own: Any) -> dist.Normal:
    return dist.Normal(own.loc + 0.3, 1.2 * own.scale)


METHODS: dict[str, Any] = {
    "control variates": ControlVariates(both, (0.5, 2.0)),
    "scores": Scores(),
    "conditional": Conditional(),
    "Sobol with conditional": (Sobol(), Conditional()),
    "importance": Importance({"z": moved}),
    "antithetic with control variates": (Antithetic(), ControlVariates(both, (0.5, 2.0))),
    "a hypercube with scores": (LatinHypercube(8), Scores()),
    "Sobol with importance": (Sobol(), Importance({"z": moved})),
    "importance with scores": (Importance({"z": moved, "g": dist.Exponential(0.4)}), Scores()),
    "conditional with scores": (Conditional(), Scores()),
    "importance with conditional": (Importance({"z": moved}), Conditional()),
    "all four": (
        Sobol(32),
        ControlVariates(lambda draws: draws["z"], 0.5),
        Importance({"z": moved}),
        Conditional(limit=1),
    ),
    "all three": (Sobol(32), ControlVariates(lambda draws: draws["g"], 2.0), Importance({"z": moved})),
}


@pytest.mark.wide
@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_error_bars_cover(name: str, key: Array) -> None:
    """Of 95% intervals, over 4,000 keys: between 93.5 and 96.5%, where a right one fails with probability 1e-5."""
    run = vt.expect(program, method=METHODS[name], num_samples=512, block_size=512)

    def covers(key: Array) -> Array:
        low, high = run(key, 0.5).interval()
        return (low < TRUTH) & (high > TRUTH)

    rate = jax.jit(lambda keys: jnp.mean(jax.lax.map(covers, keys, batch_size=50)))(jax.random.split(key, 4000))
    assert 0.935 < rate < 0.965


def test_a_linear_result_is_exact_with_its_draws_as_controls(key: Array) -> None:
    def linear(key: Array) -> dict[str, Array]:
        z = vt.draw(key, dist.Normal(jnp.arange(3.0), 2.0), name="z")
        return {"sum": z.sum(), "each": 4 * z - 1}

    found = vt.expect(linear, method=ControlVariates(lambda d: d["z"], jnp.arange(3.0)), num_samples=100)(key)
    np.testing.assert_allclose(found.value["sum"], 3.0, rtol=1e-12)
    np.testing.assert_allclose(found.value["each"], 4 * np.arange(3.0) - 1, rtol=1e-12)
    assert jax.tree.all(jax.tree.map(lambda error: bool(jnp.all(error < 1e-6)), found.stderr))


def rows(key: Array, n: int) -> Controlled:
    first, second = jax.random.split(key)
    c = jax.random.normal(first, (n, 2)) + 0.1
    x = jnp.stack([c @ jnp.asarray([1.0, -2.0]), c[:, 0] ** 2], axis=1) + jax.random.normal(second, (n, 2))
    return Controlled({"x": x}, c)


def regression(of: Controlled) -> tuple[np.ndarray, np.ndarray]:
    """Intercepts and their errors by ordinary least squares, the textbook's way."""
    c, x = np.asarray(of.controls), np.asarray(of.value["x"])
    design = np.column_stack([np.ones(len(c)), c])
    coefficients, squares, _, _ = np.linalg.lstsq(design, x, rcond=None)
    variance = squares / (len(c) - design.shape[1]) * np.linalg.inv(design.T @ design)[0, 0]
    return coefficients[0], np.sqrt(variance)


def test_the_estimate_is_the_intercept_of_a_regression(key: Array) -> None:
    made = rows(key, 50)
    found = ControlledMoments.of_rows(made).read()
    value, stderr = regression(made)
    np.testing.assert_allclose(found.value["x"], value, rtol=1e-11)
    np.testing.assert_allclose(found.stderr["x"], stderr, rtol=1e-11)


def test_merging_is_exact(key: Array) -> None:
    made = rows(key, 60)
    whole = ControlledMoments.of_rows(made).read()
    parts = [jax.tree.map(lambda leaf, a=a, b=b: leaf[a:b], made) for a, b in ((0, 1), (1, 20), (20, 60))]
    first, second, third = map(ControlledMoments.of_rows, parts)
    empty = ControlledMoments.empty(jax.tree.map(lambda leaf: leaf[0], made))
    for folded in (empty.merge(first).merge(second).merge(third), first.merge(second.merge(third.merge(empty)))):
        found = folded.read()
        np.testing.assert_allclose(found.value["x"], whole.value["x"], rtol=1e-11)
        np.testing.assert_allclose(found.stderr["x"], whole.stderr["x"], rtol=1e-10)
    one = empty.add(jax.tree.map(lambda leaf: leaf[0], made)).merge(second).merge(third)
    np.testing.assert_allclose(one.read().value["x"], whole.value["x"], rtol=1e-11)
    padded = jax.tree.map(lambda leaf: jnp.concatenate([leaf, jnp.full_like(leaf, 7.0)]), made)
    np.testing.assert_allclose(ControlledMoments.of_rows(padded, 60).read().value["x"], whole.value["x"], rtol=1e-11)


def test_controls_that_say_the_same_twice_do_no_harm(key: Array) -> None:
    made = rows(key, 50)
    twice = made._replace(controls=jnp.concatenate([made.controls, made.controls[:, :1]], axis=1))
    np.testing.assert_allclose(
        ControlledMoments.of_rows(twice).read().value["x"], ControlledMoments.of_rows(made).read().value["x"], rtol=1e-9
    )


def coins(key: Array) -> Array:
    """A second coin that depends on the first."""
    first, second = jax.random.split(key)
    a = vt.draw(first, dist.Bernoulli(0.3), name="a")
    b = vt.draw(second, dist.Bernoulli(jnp.where(a == 1, 0.8, 0.1)), name="b")
    return 1.0 + (2 * a + 3 * a * b).astype(float)


COINS_TRUTH = 1.0 + 2 * 0.3 + 3 * 0.24
COIN_PROPOSALS = {"a": dist.Bernoulli(0.6), "b": lambda own: dist.Bernoulli(0.5 * own.probs + 0.25)}


def test_weights_make_up_for_the_proposals(key: Array) -> None:
    """A z-test at 1e-6, which what the proposals themselves would give fails."""
    found = vt.expect(coins, method=Importance(COIN_PROPOSALS), num_samples=2**16, block_size=2**12)(clone(key))
    limit = stats.norm.isf(5e-7) * found.stderr
    assert abs(found.value - COINS_TRUTH) < limit
    without = 1.0 + 2 * 0.6 + 3 * 0.6 * 0.65
    assert abs(without - COINS_TRUTH) > 10 * limit


def test_every_outcome_under_weights_adds_up(key: Array) -> None:
    """Of Sobol's points with as many as there are, a coin has the probability that it is given, to a point's worth."""
    found = vt.expect(coins, method=(Sobol(), Importance(COIN_PROPOSALS)), num_samples=2**16)(key)
    assert abs(found.value - COINS_TRUTH) < 1e-3


def test_an_estimate_says_by_what_it_was_made(key: Array) -> None:
    assert "by Sobol" in str(vt.expect(program, method=Sobol(), num_samples=1024)(clone(key), 0.5))
    assert "by LatinHypercube and Scores" in str(
        vt.expect(program, method=(Scores(), LatinHypercube(8)), num_samples=1024)(key, 0.5)
    )


def run(method: Any, f: Callable[..., Any] = program, **options: Any) -> Callable[[], Any]:
    return lambda: vt.expect(f, method=method, **options)(jax.random.key(0), 0.5)


def nameless(key: Array, shift: float) -> Array:
    return vt.draw(key, dist.Uniform(0.0, 1.0)) * shift


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a mean in words": (lambda: ControlVariates(both, "a"), TypeError, "mean must be the means"),
    "a mean that is none": (lambda: ControlVariates(both, (0.5, float("nan"))), ValueError, "mean must be finite"),
    "two arguments": (run(ControlVariates(lambda a, b: a, 0.0)), TypeError, "of must be a function of the named"),
    "no control": (run(ControlVariates(lambda draws: None, 0.0)), TypeError, "real numbers to average, got None"),
    "complex ones": (run(ControlVariates(lambda draws: draws["z"].astype(complex), 0.0)), TypeError, "got complex128"),
    "a mean that is wrong": (
        run(ControlVariates(both, (0.5, 2.4))),
        ValueError,
        "mean: control 2 of 3 has another mean",
    ),
    "a wrong mean beside Sobol": (
        run((Sobol(), ControlVariates(both, (0.5, 2.4))), num_samples=8192),
        ValueError,
        "another mean than was stated",
    ),
    "a mean of another shape": (
        run(ControlVariates(both, (jnp.ones(3), 2.0))),
        ValueError,
        r"mean: expected shape \(2,\)",
    ),
    "a mean of another structure": (
        run(ControlVariates(both, (0.5, 2.0, 1.0))),
        ValueError,
        "mean: expected the structure",
    ),
    "an unknown draw": (run(ControlVariates(lambda d: d["q"], 0.0)), ValueError, "no draw is called 'q'"),
    "no named draw": (run(ControlVariates(lambda d: 0.0, 0.0), nameless), ValueError, "names no draw"),
    "no function": (lambda: ControlVariates(3, 0.0), TypeError, "of must be a function of the named draws"),
    "no score": (run(Scores(), nameless), ValueError, r"Scores\(\) has no draw to serve"),
    "too many scores": (run(Scores(1)), ValueError, r"more than Scores\(limit=1\)"),
    "more controls than sets": (run((Sobol(4), Scores()), num_samples=1024), ValueError, "take more replicates"),
    "a proposal for no draw": (run(Importance({"q": moved})), ValueError, "proposals: no draw is called 'q'"),
    "a proposal of another shape": (
        run(Importance({"z": dist.Normal(0.0, 1.0)})),
        ValueError,
        r"proposals\['z'\]: expected draws like .*\(2,\)",
    ),
    "a proposal of another type": (
        run(Importance({"b": dist.Normal(0.0, 1.0)})),
        ValueError,
        r"proposals\['b'\]: expected draws like",
    ),
    "a proposal that is none": (lambda: Importance({"z": 3.0}), TypeError, "distribution"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_an_error_that_says_so(name: str) -> None:
    wrong, kind, words = BAD[name]
    with pytest.raises(kind, match=words):
        wrong()
