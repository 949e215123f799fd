"""Totals that are gated, averaged or divided, arrays that are filled: what is a sum over steps, what looks like one.

Gradients are summed over all outcomes, and compared with the derivative of an expectation that is summed by hand.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

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
from variate.gradients import NoBaseline, Score
from variate.programs import accumulation, recurrences
from variate.programs.accumulation import accumulated
from variate.programs.interpretation import evaluate
from variate.programs.recurrences import Affine
from variate.programs.staging import stage
from variate.programs.validity import Counting

# What a step makes of a total, given a state that draws reach, what the step earns, and its number.
Change = Callable[[Any, Array, Array, Array], Any]
AT = jnp.array([0.3, -0.5])
STEPS = 3


def real(i: Array) -> Array:
    return i.astype(float)


def counted(total: tuple[Array, Array], s: Array, r: Array, i: Array) -> tuple[Array, Array]:
    mean, n = total
    return mean + (r - mean) / (n + 1), n + 1


def welford(total: tuple[Array, Array], s: Array, r: Array, i: Array) -> tuple[Array, Array]:
    mean, squares = total
    after = mean + (r - mean) / real(i + 2)
    return after, squares + (r - mean) * (r - after)


LIKE: dict[str, Change] = {
    "added in a branch": lambda x, s, r, i: lax.cond(s > 1.2, lambda x: x + r, lambda x: x, x),
    "added in branches by the step": lambda x, s, r, i: lax.switch(
        i, [lambda x: x - r, lambda x: 0.5 * x + r, lambda x: r * s], x
    ),
    "added where": lambda x, s, r, i: jnp.where(s > 1.2, x + r, x),
    "begun anew at a step": lambda x, s, r, i: jnp.where(i == 1, r, x + r),
    "before and behind a branch": lambda x, s, r, i: 0.9 * lax.cond(s > 1.2, lambda y: y + r, lambda y: -r + y, x - r),
    "added where, or a number": lambda x, s, r, i: jnp.where(jnp.arange(3) > i, x + r, 0.5),
    "divided": lambda x, s, r, i: (x + r) / 1.1,
    "mean of those before": lambda x, s, r, i: (x * real(i) + r) / real(i + 1),
    "running mean": lambda x, s, r, i: x + (r - x) / real(i + 1),
    "running mean, counted": counted,
    "mean and squares": welford,
    "moving mean": lambda x, s, r, i: x + 0.1 * (r - x),
    "added at a place": lambda x, s, r, i: x.at[i].add(jnp.where(s > 1.2, r, 0.0)),
    "written row by row": lambda x, s, r, i: x.at[i + 1].set(jnp.stack([r, s])),
    "written from the end": lambda x, s, r, i: x.at[STEPS - 1 - i].set(r + x[0]),
    "discount carried": lambda x, s, r, i: (x[0] + x[1] * r, 0.9 * x[1]),
}
MULTIPLIES = "scan` that multiplies"
# And the operation for which they are none.
UNLIKE: dict[str, tuple[Change, str]] = {
    "largest": (lambda x, s, r, i: jnp.maximum(x, r), "max"),
    "clipped": (lambda x, s, r, i: jnp.clip(x + r, -1.0, 1.2), "max"),
    "divided by what is drawn": (lambda x, s, r, i: (x + r) / (1 + s), MULTIPLIES),
    "mean with drawn weights": (
        lambda x, s, r, i: (x[0] + (r - x[0]) * s / (x[1] + s), x[1] + s),
        MULTIPLIES,
    ),
    "gated by itself": (lambda x, s, r, i: jnp.where(x > 0.6, x, x + r), "gt"),
    "in a branch by itself": (lambda x, s, r, i: lax.cond(x > 0.6, lambda x: x + 2 * r, lambda x: x - r, x), "gt"),
    "begun anew by what is drawn": (lambda x, s, r, i: jnp.where(s > 1.2, r, x + r), MULTIPLIES),
    "its square in one branch": (lambda x, s, r, i: lax.cond(s > 1.2, lambda x: x + r, lambda x: x**2 + r, x), "cond"),
    "written where it is drawn": (lambda x, s, r, i: x.at[(s > 1.2).astype(int)].set(r), "scatter"),
    "written over": (lambda x, s, r, i: x.at[i // 2].set(r), "scatter"),
    "written off the end": (lambda x, s, r, i: x.at[i + 1].set(r), "scatter"),
    "times itself": (lambda x, s, r, i: x + r * x**2, "integer_pow"),
}
BEGUN: dict[str, Any] = {
    "running mean, counted": (0.3, 0.0),
    "mean and squares": (0.4, 0.0),
    "discount carried": (0.2, 1.0),
    "mean with drawn weights": (0.1, 0.7),
    "added at a place": np.arange(3.0),
    "added where, or a number": np.arange(3.0),
    "written row by row": np.arange(12.0).reshape(6, 2),
    **dict.fromkeys(
        ["written from the end", "written where it is drawn", "written over", "written off the end"], np.arange(3.0)
    ),
}
READ = {"a total that is read": (lambda x, s, r, i: x + r, "mul")}  # by the draws that come after it

ALL_UNLIKE = {name: change for name, (change, _) in (UNLIKE | READ).items()}


def totals(changes: Mapping[str, Change], flip: Callable[[Any, Array], tuple[Array, Array]], xs: Any, t: Array) -> Any:
    """Of linked coins; beside them the log probability, if `flip(x, logits)` gives one with a coin."""

    def step(carry: Any, x: Any) -> tuple[Any, None]:
        s, log_prob, now = carry
        seen = now.get("a total that is read", 0.0)
        b, log = flip(x[0], t[0] * s + t[1] + 0.3 * seen)
        s = 0.5 * s + b
        after = {name: change(now[name], s, s * b - 0.3 * t[0], x[1]) for name, change in changes.items()}
        return (s, log_prob + log, after), None

    begun = {name: jax.tree.map(jnp.asarray, BEGUN.get(name, 0.5)) for name in changes}
    _, log_prob, after = lax.scan(step, (jnp.ones(()), jnp.zeros(()), begun), (xs, jnp.arange(STEPS)))[0]
    # Weights tell the totals apart, which else might make up for each other.
    weights = (w + 0.1 * jnp.arange(float(x.size)).reshape(x.shape) for w, x in enumerate(jax.tree.leaves(after), 1))
    result = sum(jnp.sum(weight * leaf) for weight, leaf in zip(weights, jax.tree.leaves(after), strict=True))
    return result, log_prob


def program(changes: Mapping[str, Change]) -> Callable[[Array, Array], Array]:
    def coin(key: Array, logits: Array) -> tuple[Array, Array]:
        return vt.draw(key, dist.Bernoulli(logits=logits), rule=Score(NoBaseline())).astype(float), jnp.zeros(())

    return lambda key, t: totals(changes, coin, split(key, STEPS), t)[0]


def off(changes: Mapping[str, Change]) -> float:
    """How far the mean of the gradient is from the derivative of the expectation."""

    def given(b: Array, logits: Array) -> tuple[Array, Array]:
        return b, jax.nn.log_sigmoid((2 * b - 1) * logits)

    @jax.jit
    @jax.grad
    def truth(t: Array) -> Array:
        bits = jnp.asarray(list(itertools.product([0.0, 1.0], repeat=STEPS)))
        values, log_probs = jax.vmap(lambda b: totals(changes, given, b, t))(bits)
        return jnp.sum(jnp.exp(log_probs) * values)

    runs = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(SEED), jnp.arange(1))
    gradient = vt.grad(program(changes), num_samples=1)
    found = over_all(lambda: gradient(jax.random.key(SEED), AT).value, noise(program(changes), (AT,), runs)).mean
    return float(jnp.max(jnp.abs(found - truth(AT))))


def reached(changes: Mapping[str, Change], key: Array) -> str:
    (row,) = vt.explain(program(changes), num_samples=1)(key, AT).rows
    return row.reaches


@pytest.mark.parametrize("name", LIKE)
def test_sums_of_what_steps_add_are_told_apart(name: str, key: Array) -> None:
    assert reached({name: LIKE[name]}, key).endswith("causal")


@pytest.mark.parametrize("name", [*UNLIKE, *READ])
def test_what_only_looks_like_a_sum_is_not(name: str, key: Array) -> None:
    change, operation = (UNLIKE | READ)[name]
    assert f", full: `{operation}" in reached({name: change}, key)


@pytest.mark.parametrize(
    "changes", [LIKE, {name: change for name, (change, _) in (UNLIKE | READ).items()}], ids=["like", "unlike"]
)
def test_gradients_are_exact(changes: Mapping[str, Change]) -> None:
    assert off(changes) < 1e-10  # the noise is cut at 13 digits


def first_case(which: Array, *cases: Array) -> Array:
    return cases[0]


def first_branch(self: recurrences.Reading, cond: Any, aval: Any, cases: Any) -> Any:
    return cases[0] if isinstance(cases[0], float) else GIVEN(self, cond, aval, cases)


def not_divided(by: Any, forms: list[Affine]) -> Affine:
    """As if only what is added were divided."""
    return Affine(forms[0].times, recurrences.Formula(jnp.divide, (forms[0].added, forms[1].added)))


def all_alone(scan: Any, wanted: Any, writer: Any) -> Any:
    """As if nothing were made of a total but its end."""
    found, operations = RECURRENCES(scan, wanted, writer)
    return [each._replace(alone=True) for each in found], operations


GIVEN = recurrences.Reading.given
LAID = accumulation.laid
RECURRENCES = recurrences.recurrences
MUTANTS: dict[str, tuple[Any, str, Any]] = {
    "a case for all": (recurrences, "_select", first_case),
    "a branch for all": (recurrences.Reading, "given", first_branch),
    "divided in part": (recurrences.RULES, "div", not_divided),
    "never turned": (accumulation, "laid", lambda first, turned, begun, rows: LAID(first, False, begun, rows)),
    "begun with nothing": (accumulation, "recurrences", all_alone),
}


def changed() -> float:
    """How far the result of one run is from what it is when totals are sums."""
    key = jax.random.key(SEED)
    plain, _ = stage(program(LIKE), key, AT)
    values = []
    for each in (plain, accumulated(plain)):
        (output,) = each.outputs
        assert isinstance(output, int)
        with jax.debug_key_reuse(False):
            values.append(evaluate(each, [key, AT], Counting())[0][output])
    return float(abs(values[0] - values[1]))


def test_results_are_what_they_were() -> None:
    assert changed() < 1e-12


@pytest.mark.wide
@pytest.mark.parametrize("name", MUTANTS)
def test_wrong_steps_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, attribute, mutant = MUTANTS[name]
    if isinstance(where, dict):
        monkeypatch.setitem(where, attribute, mutant)
    else:
        monkeypatch.setattr(where, attribute, mutant)
    assert changed() > 1e-3
