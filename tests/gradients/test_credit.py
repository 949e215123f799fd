"""Credit by dataflow takes the noise of what a draw does not reach out of its gradient."""

import inspect
import itertools
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from gradients.exactness import SEED
from gradients.outcomes import noise, over_all
from jax import Array, lax
from jax.random import split

import variate as vt
from variate.gradients import NoBaseline, Score, staged
from variate.programs import terms


def chain(key: Array, t: Array) -> Array:
    """100 linked coins and a reward a step, added up on the way."""

    def step(carry: tuple[Array, Array], k: Array) -> tuple[tuple[Array, Array], None]:
        s, total = carry
        b = vt.draw(k, dist.Bernoulli(logits=t[0] + t[1] * jnp.tanh(s))).astype(float)
        s = 0.5 * s + 2 * b - 1
        return (s, total + b * s), None

    return lax.scan(step, (jnp.zeros(()), jnp.zeros(())), split(key, 100))[0][1]


def coins(key: Array, t: Array) -> Array:
    """200 independent coins, each with its own cost."""
    b = vt.draw(key, dist.Bernoulli(logits=t), rule=Score()).astype(float)
    return jnp.sum((b - 0.45) ** 2)


def each_coin(key: Array, t: Array) -> Array:
    """The costs of the coins, not added up."""
    return (vt.draw(key, dist.Bernoulli(logits=t), rule=Score()).astype(float) - 0.45) ** 2


def latents(key: Array, t: Array) -> Array:
    """A factorised model: eight pictures of four latents, each picture with its own cost."""
    b = vt.draw(key, dist.Bernoulli(logits=jnp.broadcast_to(t, (8, 4))), rule=Score()).astype(float)
    return jnp.sum(jnp.tanh(b @ jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)) ** 2)


def variance(program: Callable[..., Array], at: Array, key: Array) -> float:
    fresh = lambda key, t: program(key, t)  # noqa: E731  (nothing that was compiled before is used)
    found = vt.grad(fresh, num_samples=8_192, block_size=16)(key, at)
    return float(jnp.sum(found.stderr**2) * 8_192)


# The variances of 8,192 samples are known to 2% or so, so a ratio is ten of its errors above the bound.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "at", "times"),
    [(chain, np.array([0.2, -0.3]), 3), (coins, np.linspace(-1, 1, 200), 50), (latents, np.zeros(4), 4)],
)
def test_credit_has_less_noise_than_the_whole_cost(
    program: Callable[..., Array], at: np.ndarray, times: float, key: Array
) -> None:
    one, two = split(key)
    ours = variance(program, jnp.asarray(at), one)
    with mock.patch.object(staged, "_shapes", return_value={}):
        whole = variance(program, jnp.asarray(at), two)
    assert whole > times * ours
    assert ours > 0


@pytest.mark.parametrize(
    ("program", "at", "words"),
    [
        (chain, np.array([0.2, -0.3]), "causal"),
        (coins, np.linspace(-1, 1, 200), "diagonal"),
        (lambda key, t: coins(key, t) ** 2, np.ones(3), "full: `reduce_sum` at test_credit.py:"),
        (
            lambda key, t: each_coin(key, t),
            np.ones(3),
            "full: the entries of an array are each charged to all elements",
        ),
    ],
)
def test_explain_says_how_finely_a_draw_is_charged(
    program: Callable[..., Array], at: np.ndarray, words: str, key: Array
) -> None:
    (row,) = vt.explain(program, num_samples=1)(key, jnp.asarray(at)).rows
    assert words in row.reaches


@pytest.mark.parametrize("summed", [True, False])
def test_explain_shows_what_is_charged(summed: bool, key: Array) -> None:
    """The entries of an array are each charged to all coins, and not said to be told apart."""

    def program(key: Array, t: Array) -> tuple[Array, Array]:
        b = vt.draw(key, dist.Bernoulli(logits=t), rule=Score()).astype(float)
        cost = (b - 0.45) ** 2
        return jnp.sum(cost) if summed else cost, b

    at = jnp.linspace(-1, 1, 3)
    (row,) = vt.explain(lambda *args: program(*args)[0], num_samples=1)(key, at).rows
    gradient, (b,) = vt.grad(program, num_samples=1, has_aux=True)(jax.random.clone(key), at)
    score, cost = b - jax.nn.sigmoid(at), (b - 0.45) ** 2
    charged = score * cost if "diagonal" in row.reaches else jnp.outer(cost, score)
    np.testing.assert_allclose(gradient.value, charged, rtol=1e-12)


def opposed(baseline: Any, whole: bool) -> Callable[[Array, Array], Array]:
    """Two coins whose costs nearly make up for each other; as a whole they are one term."""

    def program(key: Array, t: Array) -> Array:
        coins = [vt.draw(k, dist.Bernoulli(logits=t), rule=Score(baseline)).astype(float) for k in split(key)]
        one, other = (jnp.exp(3 + 0.3 * coin) for coin in coins)
        return jnp.cbrt((one - other) ** 3) if whole else one - other

    return program


@pytest.mark.slow
def test_without_a_baseline_credit_may_add_noise(key: Array) -> None:
    found = {}
    for whole in (False, True):
        for baseline in (NoBaseline(), None):
            found[whole, baseline is None] = variance(opposed(baseline, whole), jnp.array(0.2), key)
            key = jax.random.clone(key)
    assert found[False, False] > 5 * found[True, False]
    assert found[False, True] < found[True, True]


HOLES = jnp.array([0.0, 2.0, 0.0])
SHOWN = jnp.array([True, False, True])
# Costs of three coins in which some are charged one by one: how, in the words of `explain`.
COSTS: dict[str, tuple[Callable[[Array], Array], str]] = {
    "concatenated": (lambda b: jnp.concatenate([b**2 + b, jnp.sin(b)]), "diagonal"),
    "concatenated with a total": (lambda b: jnp.concatenate([b**2 + b, jnp.sum(b, keepdims=True) ** 2]), "diagonal"),
    "stacked": (lambda b: jnp.stack([jnp.exp(b), jnp.sum(b) ** 2 * jnp.ones(3)]), "diagonal"),
    "padded": (lambda b: jnp.pad(jnp.exp(b), (1, 2)) * jnp.arange(6.0), "diagonal"),
    "padded with ones": (lambda b: jnp.pad(jnp.exp(b), (1, 2), constant_values=1.0) * jnp.arange(6.0), "full"),
    "a part": (lambda b: lax.dynamic_slice(jnp.exp(b), (1,), (2,)) * jnp.array([1.0, 3.0]), "diagonal"),
    "gathered": (lambda b: jnp.exp(b).at[jnp.array([2, 0, 0, 1])].get(mode="clip") * jnp.arange(4.0), "diagonal"),
    "gathered, filled": (lambda b: jnp.exp(b).at[jnp.array([2, 0, 0, 1])].get(mode="fill") * jnp.arange(4.0), "full"),
    "selected": (lambda b: jnp.where(SHOWN, jnp.exp(b), jnp.sum(b) ** 2), "diagonal"),
    "selected, the rest infinite": (lambda b: jnp.where(SHOWN, jnp.exp(b), b / HOLES), "diagonal"),
    "a part, the rest infinite": (lambda b: lax.dynamic_slice(b / HOLES, (1,), (1,)) * jnp.array([3.0]), "diagonal"),
    "turned": (lambda b: jnp.exp(b)[::-1] * jnp.arange(3.0) ** 2, "diagonal"),
    "added up from the end": (lambda b: jnp.sin(jnp.cumsum(b[::-1])), "anticausal"),
    "selected by a coin": (lambda b: jnp.where(b[0] > 0, jnp.exp(b), jnp.sum(b) ** 2), "full"),
}


def of_cost(cost: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
    return lambda key, t: jnp.sum(cost(vt.draw(key, dist.Bernoulli(logits=t), name="b").astype(float)))


def off(cost: Callable[[Array], Array]) -> float:
    """How far the gradient, summed over all outcomes, is from that of the expectation, which is summed by hand."""

    def mean(t: Array) -> Array:
        bits = jnp.asarray(list(itertools.product([0.0, 1.0], repeat=3)))
        chances = jnp.prod(jax.nn.sigmoid((2 * bits - 1) * t[None]), axis=1)
        return chances @ jax.vmap(lambda b: jnp.sum(cost(b)))(bits)

    at, program = jnp.array([0.4, -0.7, 0.2]), of_cost(cost)
    runs = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(SEED), jnp.arange(1))

    def estimator() -> Any:
        gradient = vt.grad(of_cost(cost), num_samples=1, rules={"b": Score(NoBaseline())})
        return gradient(jax.random.key(SEED), at).value

    found = over_all(estimator, noise(program, (at,), runs)).mean
    return float(jnp.max(jnp.abs(found - jax.grad(mean)(at))))


@pytest.mark.wide
@pytest.mark.parametrize("name", COSTS)
def test_credit_through_moves_and_joins_is_exact(name: str, key: Array) -> None:
    cost, word = COSTS[name]
    (row,) = vt.explain(of_cost(cost), num_samples=1, rules={"b": Score(NoBaseline())})(key, jnp.zeros(3)).rows
    assert word in row.reaches
    assert off(cost) < 1e-12


@pytest.mark.wide
@pytest.mark.parametrize("name", ["concatenated with a total", "stacked", "selected"])
def test_credit_that_takes_the_others_along_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without zeros in their place each is charged with all."""
    monkeypatch.setattr(terms, "_JOINS", Found(terms._JOINS))
    assert off(COSTS[name][0]) > 1e-3


class Found(frozenset):
    """The joins where a value is split, and none where a part of it is passed on."""

    def __contains__(self, name: object) -> bool:
        return inspect.stack()[1].function != "_pass" and super().__contains__(name)
