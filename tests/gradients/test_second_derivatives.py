"""Second derivatives are right for every unbiased rule that has them; all others are refused by name."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import sampled_programs, test_covariance
from gradients.dice_programs import elements_apart
from gradients.exactness import SEED, arrays, arrays_of, fresh, largest
from gradients.law_programs import FINITE, LAWS
from gradients.outcomes import noise, over_all
from gradients.sampled_checks import far
from gradients.test_truth import EVERY, EXACT
from jax import Array
from subsets import small_laws

import variate as vt
from variate.gradients import (
    AcceptanceRejection,
    Enumerate,
    ImplicitReparameterization,
    Marginalize,
    NoBaseline,
    Pathwise,
    Score,
)

SUMMED = {
    "Score": lambda i: Score(NoBaseline()),
    "Enumerate": lambda i: Enumerate(),
    "Marginalize": lambda i: Marginalize(),
    "Score, then Marginalize": lambda i: Marginalize() if i else Score(NoBaseline()),
}
SAMPLED = {
    "Pathwise": (Pathwise(), "smooth", "z"),
    "ImplicitReparameterization": (ImplicitReparameterization(), "smooth", "z"),
    "AcceptanceRejection": (AcceptanceRejection(), "gamma", "x"),
    "Score": (Score(), "smooth", "z"),
}


def second_errors(name: str) -> list[float]:
    """The largest error of the Hessian by each rule, summed over the outcomes of the draws."""
    case = FINITE[name]
    runs = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(SEED), jnp.arange(1))

    def estimator() -> Any:
        found = []
        for rule in SUMMED.values():
            rules = {name: rule(i) for i, name in enumerate(case.draws)}
            surrogate = vt.gradients.surrogate_loss(fresh(case), num_samples=1, rules=rules)
            found.append(arrays_of(jax.hessian(lambda t, f=surrogate: f(jax.random.key(SEED), t))(*case.args)))
        return found

    with elements_apart():
        means = over_all(estimator, noise(case.program, case.args, runs)).mean
    truth = arrays(jax.hessian(case.expectation)(*case.args))
    return [largest(mean, truth) for mean in means]


@pytest.mark.wide
@pytest.mark.table
@pytest.mark.parametrize(
    "law", [pytest.param(law, marks=() if law == "CategoricalLogits" else pytest.mark.slow) for law in LAWS]
)
def test_of_laws_of_finite_support_they_are_exact(law: str) -> None:
    # What linked draws add to a law's own derivatives is the same for all laws.
    kind = "linked" if law == "CategoricalLogits" else "in lanes"
    assert max(second_errors(f"{law}, {kind}")) < EXACT


def hessian(rule: str, key: Array, samples: int = 40_000) -> tuple[vt.Estimate, np.ndarray]:
    instance, program, draw = SAMPLED[rule]
    case = sampled_programs.PROGRAMS[program]
    inner = vt.grad(lambda key, t: case.program(key, t), rules={draw: instance})
    found = jax.jit(vt.grad(inner, num_samples=samples, block_size=2_000))(key, *case.args)
    return found, np.ravel(jax.hessian(case.expectation)(*case.args))


@pytest.mark.wide
@pytest.mark.slow
@pytest.mark.parametrize("rule", SAMPLED)
def test_of_others_they_are_as_near_as_they_say(rule: str, key: Array) -> None:
    found, truth = hessian(rule, key)
    assert not far(found, truth), (found, truth)
    assert far(found, truth / 2)


@pytest.mark.parametrize("rule", sorted(EVERY.keys() - SUMMED.keys() - SAMPLED.keys()))
def test_all_others_are_refused_by_name(rule: str, key: Array) -> None:
    def of_a_mask(key: Array, logits: Array) -> Array:
        return jnp.sum(vt.draw(key, small_laws.LAWS["three drawn"].make(logits), name="a").astype(float) ** 2)

    normal, spins = sampled_programs.PROGRAMS["smooth"], test_covariance.one
    programs: dict[str, tuple[Any, Any, str]] = {
        "MeasureValued": (normal.program, normal.args[0], "z"),
        "Covariance": (spins, test_covariance.AT, "x"),
        "ARSM": (FINITE["CategoricalLogits, in lanes"].program, FINITE["CategoricalLogits, in lanes"].args[0], "a"),
        **dict.fromkeys(
            ("StructuredRelaxation", "MarginalStraightThrough"),
            (of_a_mask, jnp.asarray(small_laws.LAWS["three drawn"].logits), "a"),
        ),
    }
    coin = FINITE["BernoulliLogits, in lanes"]
    program, at, draw = programs.get(rule, (coin.program, coin.args[0], "a"))
    with pytest.raises(ValueError, match=rf"{rule} cannot serve the draw '{draw}'.*only its first derivative"):
        vt.grad(vt.grad(program, rules={draw: EVERY[rule]}))(key, at)
