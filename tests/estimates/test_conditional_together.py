"""Draws integrated out beside controls and weights: probabilities of values are no weights, nor weights these."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from estimates.test_conditional import mixed, rest
from jax import Array
from jax.random import clone, split
from scipy import stats

import variate as vt
from variate.estimates import Conditional, ControlVariates, Importance, Mixture, Scores, Sobol, sampling


def moved(own: Any) -> dist.Normal:
    return dist.Normal(own.loc + 0.4, 1.3 * own.scale)


WITH: dict[str, tuple[Any, ...]] = {
    "control variates": (ControlVariates(lambda draws: draws["z"], 0.3),),
    "scores": (Scores(),),
    "importance": (Importance({"z": moved}),),
    "self-normalised": (Importance({"z": moved}, self_normalized=True),),
    "smoothed": (Importance({"z": moved}, self_normalized=True, smoothed=True),),
    "a regressed mixture": (Mixture({"z": [moved]}, own=0.5, regressed=True),),
    "all": (Importance({"z": moved}), Scores(), Sobol(32)),
}


@pytest.mark.wide
@pytest.mark.parametrize("name", WITH)
def test_it_is_the_conditional_expectation_by_hand(name: str, key: Array) -> None:
    found = vt.expect(mixed, method=(*WITH[name], Conditional()), num_samples=256)(clone(key), jnp.array(0.3))
    wanted = vt.expect(rest, method=WITH[name], num_samples=256)(key, jnp.array(0.3))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


def after(key: Array) -> Array:
    """What is drawn depends on the coin, which is integrated out."""
    first, second, third = split(key, 3)
    coin = vt.draw(first, dist.Bernoulli(0.3), name="coin").astype(float)
    z = vt.draw(second, dist.Normal(1.5 * coin, 1.0), name="z")
    return z**2 * (1 + coin) * vt.draw(third, dist.Exponential(0.5), name="noise")


AFTER = 2 * (0.7 * 1 + 0.3 * 2 * (1 + 1.5**2))
WIDE = dist.Normal(0.8, 1.6)  # whatever the coin is, so that weights depend on it
BESIDE: dict[str, Any] = {
    "control variates": ControlVariates(lambda draws: draws["z"], 0.45),
    "scores": Scores(),
    "importance": Importance({"z": WIDE}),
    "self-normalised": Importance({"z": WIDE}, self_normalized=True),
    "a regressed mixture": Mixture({"z": [WIDE]}, own=0.5, regressed=True),
}


def off(method: Any, key: Array) -> float:
    """By how many standard errors an estimate misses, of a function that nothing was compiled for."""
    run = vt.expect(lambda key: after(key), method=(method, Conditional()), num_samples=2**14, block_size=2**12)
    try:
        found = run(key)
    except ValueError as error:
        return np.inf if "another mean than was stated" in str(error) else 0.0
    return float(abs(found.value - AFTER) / found.stderr)


LIMIT = float(stats.norm.isf(5e-7))


@pytest.mark.wide
@pytest.mark.parametrize("name", BESIDE)
def test_draws_that_depend_on_what_is_integrated_out_are_weighted_right(name: str, key: Array) -> None:
    assert off(BESIDE[name], key) < LIMIT


def alike(runs: Any, weighted: bool) -> Any:
    """The mutant: all values as if they had one probability."""
    return RIGHT(runs._replace(log_prob=jnp.full_like(runs.log_prob, -jnp.log(2.0))), weighted)


def unweighted(runs: Any, weighted: bool) -> Any:
    """The mutant: weights are left to the row, which knows but their mean."""
    found = RIGHT(runs._replace(log_weight=jnp.zeros_like(runs.log_weight)), weighted)
    return found._replace(log_weight=jax.nn.logsumexp(runs.log_prob + runs.log_weight))


def twice(runs: Any, weighted: bool) -> Any:
    """The mutant: probabilities count as weights too."""
    return RIGHT(runs._replace(log_weight=runs.log_weight + runs.log_prob), weighted)


RIGHT = sampling._averaged


@pytest.mark.wide
@pytest.mark.parametrize(
    ("name", "mutant"),
    [
        ("scores", alike),
        ("importance", alike),
        ("a regressed mixture", alike),
        ("control variates", twice),
        ("self-normalised", twice),
        ("importance", unweighted),
        ("self-normalised", unweighted),
    ],
)
def test_wrong_weights_are_found(name: str, mutant: Any, key: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_averaged", mutant)
    assert not off(BESIDE[name], key) < LIMIT  # an error bar that is withheld is a finding too


def test_a_value_without_probability_or_weight_may_be_anything(key: Array) -> None:
    def f(key: Array) -> Array:
        first, second = split(key)
        b = vt.draw(first, dist.Bernoulli(probs=jnp.array(1.0)))
        z = vt.draw(second, dist.Uniform(0.0, 1.0), name="z")
        return jnp.log(b.astype(float)) + jnp.where(z > 1, jnp.nan, 2 * z)

    wide = Importance({"z": dist.Uniform(0.0, 2.0)})
    found = vt.expect(f, method=(Conditional(), wide), num_samples=4_096)(key)
    assert abs(found.value - 1) < LIMIT * found.stderr


def loop(key: Array) -> Array:
    """Noise on which a draw depends that no result does."""

    def step(total: Array, key: Array) -> tuple[Array, Array]:
        a, b = split(key)
        x = vt.draw(a, dist.Normal(0.0, 1.0), name="x")
        return total + x, vt.draw(b, dist.Normal(x**2, 1.0), name="y")

    return jax.lax.scan(step, 0.0, split(key, 3))[0]


@pytest.mark.parametrize(
    ("f", "method", "words"),
    [
        (after, ControlVariates(lambda d: d["coin"], 0.3), "of: the draw 'coin' is integrated out by Conditional"),
        (after, ControlVariates(lambda d: d["noise"], 2.0), "of: the draw 'noise' is integrated out by Conditional"),
        (after, ControlVariates(lambda d: d["q"], 2.0), r"no draw is called 'q'; those with a name are \['z'\]"),
        (after, Importance({"coin": dist.Bernoulli(0.5)}), "proposals: the draw 'coin' is integrated out by"),
        (after, Importance({"noise": dist.Exponential(1.0)}), "proposals: the draw 'noise' is integrated out by"),
        (loop, ControlVariates(lambda d: d["y"], 1.0), "'y' depends on 'x', which is integrated out by"),
        (lambda key: vt.draw(key, dist.Normal(jnp.zeros(()), 1.0)), Scores(), "Scores has no draw left .*Conditional"),
    ],
)
def test_what_has_no_value_is_named(f: Callable, method: Any, words: str, key: Array) -> None:
    with pytest.raises(ValueError, match=words):
        vt.expect(f, method=(method, Conditional()))(key)
