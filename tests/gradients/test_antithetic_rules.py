"""Rules that replay all elements of a draw at once: exact over all random numbers, and honest in their error."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from gradients.antithetic import COINS, EXACT, coin_error, dice_error
from gradients.dice_programs import score_of
from gradients.test_gradient_coverage import Case, bars, honest
from jax import Array
from jax.nn import sigmoid, softmax
from jax.random import split

import variate as vt
from variate.gradients.base import Alternatives
from variate.gradients.rules import arm, arsm, disarm
from variate.gradients.rules.arm import ARM
from variate.gradients.rules.arsm import ARSM
from variate.gradients.rules.disarm import DisARM

pytestmark = pytest.mark.spared


# Rows of the truth table are not here again: coins and dice apart, two of them linked, in a scan and in lanes.


@pytest.mark.wide
@pytest.mark.parametrize(
    ("name", "rule"),
    [
        *((name, DisARM()) for name in COINS),
        ("linked coins", ARM()),
    ],
)
def test_coins_are_exact(name: str, rule: Any) -> None:
    assert coin_error(name, rule) < EXACT


@pytest.mark.wide
@pytest.mark.parametrize(("scored", "rule"), [("a", DisARM()), ("b", DisARM()), ("b", ARM())])
def test_coins_beside_scored_ones_are_exact(scored: str, rule: Any) -> None:
    assert coin_error("linked coins", rule, scored) < EXACT


# Dice: draws and rules share their numbers, the shares of the simplex, which the comparisons cut into polygons. In each
# of them the weights are linear, and every product of those of different draws: the centroids are enough.


def test_dice_beside_a_scored_coin_are_exact() -> None:
    assert dice_error("a die and a coin", ARSM()) < EXACT


def test_exponentials_given_a_die_are_independent_of_it(key: Array) -> None:
    """They have the moments of independent exponentials, up to 1e-6 of false alarms, once the die is forgotten."""
    p, count = jnp.array([0.7, 0.25, 0.05, 0.0]), 100_000
    k1, k2 = split(key)
    value = jax.random.categorical(k1, jnp.log(p), shape=(count,))
    drawn = arsm.exponentials_of(k2, value, jnp.broadcast_to(p, (count, 4)))
    np.testing.assert_array_equal(jnp.argmin(drawn / p[None], axis=-1), value)
    # Of an exponential: mean, square, chance to pass 1, and products of two.
    first, second = np.triu_indices(4, 1)
    moments = [
        drawn - 1,
        drawn**2 - 2,
        (drawn > 1).astype(float) - jnp.exp(-1.0),
        drawn[:, first] * drawn[:, second] - 1,
    ]
    found = np.concatenate(moments, axis=1)
    assert np.all(np.abs(np.mean(found, axis=0)) < 5.4 * np.std(found, axis=0) / np.sqrt(count))


def wrong_sign(found: Alternatives) -> Alternatives:
    return found._replace(weights=-found.weights)


def doubled(found: Alternatives) -> Alternatives:
    return found._replace(weights=2 * found.weights)


def a_pair_forgotten(found: Alternatives) -> Alternatives:
    return found._replace(weights=found.weights.at[..., -1].set(0))


def as_if_certain(coins: Any) -> Any:
    return coins._replace(likelier=jnp.ones_like(coins.likelier))


def from_the_end(coins: Any) -> Any:
    return coins._replace(distance=jnp.zeros_like(coins.distance))


def always_another(coins: Any) -> Any:
    return coins._replace(twin=1 - coins.twin)


def of_coins(rule: Any) -> Callable[[], float]:
    return lambda: coin_error("a vector of coins", rule)


def of_dice(rule: Any) -> Callable[[], float]:
    return lambda: dice_error("a die and a coin", rule)


MUTANTS: dict[str, tuple[Any, str, Any, Callable[[], float]]] = {
    "DisARM, wrong sign": (DisARM, "alternatives", wrong_sign, of_coins(DisARM())),
    "DisARM, wrong scale": (DisARM, "alternatives", doubled, of_coins(DisARM())),
    "DisARM, missing weight": (disarm, "twins", as_if_certain, of_coins(DisARM())),
    "DisARM, other twins": (disarm, "twins", always_another, of_coins(DisARM())),
    "ARM, wrong sign": (ARM, "alternatives", wrong_sign, of_coins(ARM())),
    "ARM, wrong scale": (ARM, "alternatives", doubled, of_coins(ARM())),
    "ARM, missing weight": (arm, "twins", from_the_end, of_coins(ARM())),
    "ARSM, wrong sign": (ARSM, "alternatives", wrong_sign, of_dice(ARSM())),
    "ARSM, wrong scale": (ARSM, "alternatives", doubled, of_dice(ARSM())),
    "ARSM, missing weight": (ARSM, "alternatives", a_pair_forgotten, of_dice(ARSM())),
}


@pytest.mark.wide
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, attribute, mutant, error = MUTANTS[name]
    right = getattr(target, attribute)
    monkeypatch.setattr(target, attribute, lambda *args: mutant(right(*args)))
    assert error() > 1e-3


def coins(key: Array, t: Array) -> Array:
    b = vt.draw(key, dist.Bernoulli(logits=t), name="x").astype(float)
    return jnp.exp(b @ jnp.array([1.0, -0.5, 0.3]))


def coins_mean(t: Array) -> Array:
    return jnp.prod(1 + sigmoid(t) * jnp.expm1(jnp.array([1.0, -0.5, 0.3])))


def two_dice(key: Array, t: Array) -> Array:
    return jnp.prod(1 + score_of(vt.draw(key, dist.Categorical(logits=t).expand((2,)), name="x")))


def two_dice_mean(t: Array) -> Array:
    return jnp.sum(softmax(t) * (1 + score_of(jnp.arange(3)))) ** 2


HONEST = {
    "DisARM": Case(coins, jnp.array([0.4, -0.7, 1.0]), coins_mean, 128, {"x": DisARM()}),
    "ARM": Case(coins, jnp.array([0.4, -0.7, 1.0]), coins_mean, 128, {"x": ARM()}),
    "ARSM": Case(two_dice, jnp.array([0.3, -0.4, 0.8]), two_dice_mean, 128, {"x": ARSM()}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HONEST)
def test_error_bars_are_honest(name: str, key: Array) -> None:
    found = bars(HONEST[name], key)
    assert honest(found), found


@pytest.mark.wide
@pytest.mark.parametrize("rule", [DisARM(), ARM()], ids=str)
@pytest.mark.parametrize("by_logits", [True, False])
def test_coins_that_are_certain_in_single_precision(by_logits: bool, rule: Any, key: Array) -> None:
    """They have no part in the gradient and leave that of the others alone."""
    t = jnp.array([40, 0.5, -200, 3e38], jnp.float32)

    def program(key: Array, t: Array) -> Array:
        law = dist.Bernoulli(logits=t) if by_logits else dist.Bernoulli(probs=sigmoid(t))
        b = vt.draw(key, law, name="x").astype(jnp.float32)
        return b @ jnp.array([1, 2, -3, 5], jnp.float32)

    gradient = vt.grad(program, num_samples=1_024, rules={"x": rule})(key, t)
    assert gradient.value.dtype == jnp.float32
    wanted = sigmoid(t) * sigmoid(-t) * jnp.array([1, 2, -3, 5], jnp.float32)
    assert np.all(np.abs(gradient.value - wanted) <= 5.4 * gradient.stderr + 1e-6)
    assert np.all(gradient.stderr < 0.2)


@pytest.mark.parametrize("by_logits", [True, False])
def test_faces_without_a_chance_in_single_precision(by_logits: bool, key: Array) -> None:
    t = jnp.array([0.5, 0.2, -200, -40], jnp.float32)
    f = jnp.array([0.3, -1, 1.7, 0.9], jnp.float32)

    def program(key: Array, t: Array) -> Array:
        law = dist.Categorical(logits=t) if by_logits else dist.Categorical(probs=softmax(t))
        return f[vt.draw(key, law, name="x")]

    gradient = vt.grad(program, num_samples=1_024, rules={"x": ARSM()})(key, t)
    assert gradient.value.dtype == jnp.float32
    wanted = softmax(t) * (f - jnp.sum(softmax(t) * f))
    assert np.all(np.abs(gradient.value - wanted) <= 5.4 * gradient.stderr + 1e-6)
    assert np.all(gradient.stderr < 0.2)


def thrown(make: Callable[[Array], Any], steps: int = 1) -> Callable[[Array, Array], Array]:
    def step(total: Array, key: Array) -> tuple[Array, None]:
        return total + jnp.sum(vt.draw(key, make(total), name="x").astype(float)), None

    return lambda key, t: jax.lax.scan(step, t, split(key, steps))[0]


def dice_of(faces: int) -> Callable[[Array], Any]:
    return lambda t: dist.Categorical(logits=t * jnp.arange(1.0 * faces))


@pytest.mark.parametrize(
    ("program", "rule", "match"),
    [
        (thrown(dist.Poisson), DisARM(), "Poisson draws no coins"),
        (thrown(dice_of(2)), ARM(), "CategoricalLogits draws no coins"),
        (thrown(lambda t: dist.Bernoulli(logits=t)), ARSM(), "BernoulliLogits draws no categories"),
        (thrown(lambda t: dist.Bernoulli(logits=t), 9), DisARM(8), r"9 replays, one a step .*DisARM\(limit=8\)"),
        (thrown(lambda t: dist.Bernoulli(logits=t), 9), ARM(8), r"9 replays, one a step .*ARM\(limit=8\)"),
        (thrown(dice_of(4), 9), ARSM(53), r"54 replays \(6 pairs of its 4 categories .*ARSM\(limit=53\)"),
    ],
)
def test_draws_that_cannot_be_served(program: Callable, rule: Any, match: str, key: Array) -> None:
    with pytest.raises(ValueError, match=rf"{type(rule).__name__} cannot serve the draw 'x'.*{match}"):
        vt.grad(program, rules={"x": rule})(key, 0.3)


@pytest.mark.parametrize(("make", "rule"), [(coins, DisARM()), (coins, ARM()), (two_dice, ARSM())])
def test_there_is_no_second_derivative(make: Callable, rule: Any, key: Array) -> None:
    with pytest.raises(ValueError, match="only its first derivative is available"):
        vt.grad(vt.grad(make, rules={"x": rule}))(key, jnp.array([0.4, -0.7, 1.0]))


@pytest.mark.parametrize("rule", [DisARM, ARM, ARSM])
@pytest.mark.parametrize("number", [0, -1, True])
def test_limits_that_are_none(rule: Any, number: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="limit must be a positive integer"):
        rule(number)


def test_a_draw_of_many_coins_takes_one_replay(key: Array) -> None:
    many = thrown(lambda t: dist.Bernoulli(logits=t * jnp.ones(5_000)))
    assert np.isfinite(vt.grad(many, rules={"x": DisARM(1)}, num_samples=2)(key, 0.3).value)
