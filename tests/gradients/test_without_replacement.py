"""Rules that try some of the values of a draw: exact over all that they could have tried, and honest in their error."""

import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from gradients import finite_programs
from gradients.coins import Finite
from gradients.dice_programs import dice_programs, elements_apart, score_of
from gradients.exactness import SEED, arrays_of, exact, fresh, largest
from gradients.outcomes import Noise, noise, over_all
from gradients.test_gradient_coverage import Case, bars, honest
from jax import Array, lax
from jax.nn import softmax

import variate as vt
from variate.gradients import Enumerate, NoBaseline, Score
from variate.gradients.base import Alternatives, Facts, Replay
from variate.gradients.rules import sum_and_sample, unordered_set
from variate.gradients.rules.sum_and_sample import SumAndSample
from variate.gradients.rules.unordered_set import UnorderedSet
from variate.programs import distributions

pytestmark = pytest.mark.spared

EXACT = 1e-10
FACES = 4


def at_the_edge(key: Array, t: Array) -> Array:
    """Faces of probability zero, which have a derivative."""
    return score_of(vt.draw(key, dist.Categorical(probs=t / jnp.sum(t)), name="a"))


PROGRAMS = {
    **dice_programs(jnp.array([0.3, -0.4, 0.8, 0.1])),
    "mixture by indexing": finite_programs.PROGRAMS["mixture by indexing"],
    "two faces of probability zero": Finite(
        at_the_edge,
        (jnp.array([0.25, 0.0, 0.75, 0.0]),),
        lambda t: jnp.sum(t / jnp.sum(t) * score_of(jnp.arange(4))),
        "a",
    ),
}
RULES: list[Any] = [SumAndSample(1), SumAndSample(2), UnorderedSet(2), UnorderedSet(3)]


@contextmanager
def choosing(places: Array) -> Iterator[list[Array]]:
    """The rules' own random choice is `places`, in this order; yields the probabilities that it was given."""
    seen: list[Array] = []

    def one(key: Array, probabilities: Array) -> Array:
        seen.append(probabilities)
        return jnp.broadcast_to(places[0], probabilities.shape[:-1])

    def several(key: Array, probabilities: Array, size: int) -> Array:
        seen.append(probabilities)
        return jnp.broadcast_to(places, (*probabilities.shape[:-1], size))

    with (
        mock.patch.object(sum_and_sample, "one_of", one),
        mock.patch.object(unordered_set, "without_replacement", several),
    ):
        yield seen


def chance_of(places: Any, probabilities: Array) -> Array:
    """To draw these places in this order, without replacement."""
    chance, left = jnp.ones(()), probabilities
    for place in places:
        chance = chance * left[..., place] / jnp.sum(left, axis=-1)
        left = left.at[..., place].set(0)
    return lax.stop_gradient(chance)


@dataclass(frozen=True)
class EveryChoice(Replay):
    """The mean of a rule over its own choices: these serve elements one by one, so means may be taken by element."""

    rule: Any

    def serves(self, facts: Facts) -> str | None:
        return self.rule.serves(facts)

    def alternatives(self, distribution: Any, value: Array, key: Array) -> Alternatives:
        values = distributions.element_probs(distribution).shape[0]
        if values <= self.rule.size + isinstance(self.rule, SumAndSample):
            return self.rule.alternatives(distribution, value, key)
        if isinstance(self.rule, SumAndSample):
            places = np.arange(values - self.rule.size)[:, None]
        else:
            places = np.array(list(itertools.permutations(range(values), self.rule.size)))

        def one(places: Array) -> Alternatives:
            with choosing(places) as seen:
                found = self.rule.alternatives(distribution, value, key)
            return found._replace(weights=found.weights * chance_of(places, seen[0])[..., None])

        found = jax.vmap(one)(jnp.asarray(places))
        axis, log_prob = found.log_prob.ndim - 1, found.log_prob[0]
        weights, values = (jnp.moveaxis(x, 0, axis) for x in found[1:])
        return Alternatives(
            log_prob, *(x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :]) for x in (weights, values))
        )


@functools.cache
def noise_of(name: str) -> Noise:
    runs = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(SEED), jnp.arange(1))
    with elements_apart():
        return noise(PROGRAMS[name].program, PROGRAMS[name].args, runs)


def error(name: str, rule: Any) -> float:
    """Of value and gradient, summed over all outcomes of the draws and of the rule; a coin beside dice is scored."""
    case = PROGRAMS[name]
    rules = {draw: Score(NoBaseline()) if draw == "c" else EveryChoice(rule) for draw in case.draws}
    estimate = vt.value_and_grad(fresh(case), case.argnums, num_samples=1, rules=rules)

    def estimator() -> Any:
        value, gradient = estimate(jax.random.key(SEED), *case.args)
        return arrays_of(value.value, gradient.value)

    with elements_apart():
        mean = over_all(estimator, noise_of(name)).mean
    return largest(mean, exact(case))


# The truth table has each rule in more kinds of program, with three faces; here is what it has not.
CASES = [
    *((name, rule) for name in ("linked dice", "two faces of probability zero") for rule in RULES),
    *((name, rule) for name in ("a die and a coin", "mixture by indexing") for rule in RULES[::2]),
]


@pytest.mark.wide
@pytest.mark.parametrize(("name", "rule"), CASES)
def test_values_and_gradients_are_exact(name: str, rule: Any) -> None:
    assert error(name, rule) < EXACT


def wrong_sign(found: Alternatives) -> Alternatives:
    return found._replace(weights=-found.weights)


def doubled(found: Alternatives) -> Alternatives:
    return found._replace(weights=2 * found.weights)


def the_last_forgotten(found: Alternatives) -> Alternatives:
    return found._replace(weights=found.weights.at[..., -1].set(0))


def without_the_last_baseline(probabilities: Array, chosen: Array) -> Any:
    """Ratios within the set without a value as if they were those of the whole set."""
    single, _ = RATIOS(probabilities, chosen)
    return single, single[..., None] * single[..., None, :]


def with_replacement(probabilities: Array, chosen: Array) -> Any:
    _, double = RATIOS(probabilities, chosen)
    inside = jnp.take_along_axis(probabilities, chosen, axis=-1)
    return 1 / (chosen.shape[-1] * inside), double


RATIOS, POSITIVE = unordered_set.ratios, sum_and_sample.positive
MUTANTS: dict[str, tuple[Any, Any, str, Any]] = {
    **{
        f"{type(rule).__name__}, {what}": (rule, type(rule), "alternatives", mutate)
        for rule in (SumAndSample(2), UnorderedSet(2))
        for what, mutate in {
            "wrong sign": wrong_sign, "wrong scale": doubled, "missing weight": the_last_forgotten,
        }.items()
    },
    "the chosen one stands for itself alone": (SumAndSample(2), sum_and_sample, "positive", jnp.ones_like),
    "as if with replacement": (UnorderedSet(2), unordered_set, "ratios", with_replacement),
    "own part in the baseline": (UnorderedSet(3), unordered_set, "ratios", without_the_last_baseline),
}  # fmt: skip


@pytest.mark.wide
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, target, attribute, mutant = MUTANTS[name]
    if attribute == "alternatives":
        right: Callable[..., Alternatives] = target.alternatives
        monkeypatch.setattr(target, attribute, lambda *args: mutant(right(*args)))
    else:
        monkeypatch.setattr(target, attribute, mutant)
    assert error("independent dice", rule) > 1e-3


@pytest.mark.parametrize("rule", [SumAndSample(3), SumAndSample(9), UnorderedSet(4), UnorderedSet(9)], ids=str)
def test_with_room_for_all_values_it_is_enumeration(rule: Any, key: Array) -> None:
    case = PROGRAMS["linked dice"]
    gradients = [
        vt.grad(fresh(case), num_samples=3, rules=dict.fromkeys("ab", each))(jax.random.clone(key), *case.args).value
        for each in (rule, Enumerate())
    ]
    np.testing.assert_array_equal(*gradients)


def test_the_ratios_are_those_of_the_sets(key: Array) -> None:
    p = softmax(jax.random.normal(key, (5,)))

    def of_set(places: tuple[int, ...], p: Array) -> Array:
        return jnp.sum(jnp.stack([chance_of(np.array(order, int), p) for order in itertools.permutations(places)]))

    def without(*places: int) -> Array:
        left = p.at[jnp.array(places)].set(0)
        return left / jnp.sum(left)

    chosen = (4, 0, 3)
    single, double = unordered_set.ratios(p, jnp.array(chosen))
    for i, s in enumerate(chosen):
        others = tuple(c for c in chosen if c != s)
        ratio = of_set(others, without(s)) / of_set(chosen, p)
        np.testing.assert_allclose(single[i], ratio, rtol=1e-12)
        for j, r in enumerate(chosen):
            last = tuple(c for c in others if c != r)
            second = 1 if r == s else of_set(last, without(s, r)) / of_set(others, without(s))
            np.testing.assert_allclose(double[i, j], ratio * second, rtol=1e-12)


def test_sets_have_their_probabilities(key: Array) -> None:
    """No frequency of an ordered pair is further off than happens once in a million times."""
    p, count = jnp.array([0.5, 0.3, 0.15, 0.05]), 100_000
    drawn = np.asarray(unordered_set.without_replacement(key, jnp.broadcast_to(p, (count, 4)), 2))
    for places in itertools.permutations(range(4), 2):
        chance = float(chance_of(np.array(places), p))
        found = np.mean(np.all(drawn == np.array(places), axis=1))
        assert abs(found - chance) < 5.4 * np.sqrt(chance * (1 - chance) / count)


def die(key: Array, t: Array) -> Array:
    z = vt.draw(key, dist.Categorical(logits=t).expand((2,)).to_event(1), name="a")
    return jnp.prod(1 + score_of(z))


def die_mean(t: Array) -> Array:
    return jnp.sum(softmax(t) * (1 + score_of(jnp.arange(4)))) ** 2


@pytest.mark.slow
@pytest.mark.parametrize("rule", [SumAndSample(1), UnorderedSet(2)], ids=str)
def test_error_bars_are_honest(rule: Any, key: Array) -> None:
    found = bars(Case(die, jnp.array([0.3, -0.4, 0.8, 0.1]), die_mean, 128, {"a": rule}), key)
    assert honest(found), found


@pytest.mark.parametrize("rule", [SumAndSample(2), UnorderedSet(3)], ids=str)
def test_single_precision_with_probabilities_that_underflow(rule: Any, key: Array) -> None:
    def program(key: Array, t: Array) -> Array:
        z = vt.draw(key, dist.Categorical(logits=t), name="a")
        return jnp.array([0.3, -1.0, 1.7, 0.9, 2.0], jnp.float32)[z]

    t = jnp.array([0.5, 0.2, -40, -200, -20], jnp.float32)
    gradient = vt.grad(program, num_samples=128, rules={"a": rule})(key, t).value
    assert gradient.dtype == jnp.float32
    p = softmax(t)
    f = jnp.array([0.3, -1.0, 1.7, 0.9, 2.0], jnp.float32)
    np.testing.assert_allclose(gradient, p * (f - jnp.sum(p * f)), atol=1e-5)


def test_fields_and_draws_that_cannot_be_served(key: Array) -> None:
    for rule in (SumAndSample, UnorderedSet):
        for number in (0, -1, True):
            for name in ("size", "limit"):
                with pytest.raises((ValueError, TypeError), match=f"{name} must be a positive integer"):
                    rule(**{name: number})
    with pytest.raises(ValueError, match="size must be at least 2"):
        UnorderedSet(1)
    with pytest.raises(ValueError, match="size must be a positive integer up to 10"):
        UnorderedSet(11)

    def count(key: Array, t: Array) -> Array:
        return vt.draw(key, dist.Poisson(jnp.exp(t)), name="x").astype(float)

    def faces(key: Array, t: Array) -> Array:
        return jnp.sum(vt.draw(key, dist.Categorical(logits=t * jnp.arange(30.0)).expand((9,)), name="x").astype(float))

    for rule, replays in ((SumAndSample(2, limit=20), 27), (UnorderedSet(3, limit=20), 27)):
        name = type(rule).__name__
        with pytest.raises(ValueError, match=f"{name} cannot serve the draw 'x'.*its support is not finite"):
            vt.grad(count, rules={"x": rule})(key, 0.3)
        with pytest.raises(ValueError, match=rf"{name} cannot.*{replays} replays \(9 elements with 3 .*limit=20"):
            vt.grad(faces, rules={"x": rule})(key, 0.3)
        small = type(rule)(2)
        with pytest.raises(ValueError, match="only its first derivative is available"):
            vt.grad(vt.grad(faces, rules={"x": small}))(key, 0.3)
