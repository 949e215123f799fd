"""Derivatives of finite programs, summed over every outcome of their samples, are the exact derivatives."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients.exactness import ASSIGNMENTS, SEED, discrepancy, exact, fresh, second_discrepancy
from gradients.finite_programs import PROGRAMS
from gradients.outcomes import noise, over_all

import variate as vt
from variate.gradients import Enumerate, LeaveOneOut, NoBaseline, Score

pytestmark = pytest.mark.spared  # where the truth table has rows of the same rules in as many kinds of program
EXACT = 1e-10
QUICK = ("one coin", "linked coins", "scan", "vmap in scan")  # the others stand in the tables, which are slow


def rows(cases: list[tuple[str, str]]) -> list[Any]:
    table = (pytest.mark.slow, pytest.mark.table)
    return [pytest.param(*case, marks=() if case[0] in QUICK else table) for case in cases]


# Draws that are marginalized may depend on scored ones and not the other way round, and cannot be in branches.
MARGINALIZED = [
    *((name, "marginalize") for name in (*QUICK, "integers and booleans", "scan in vmap")),
    ("linked coins", "score and marginalize"),
    ("one distribution drawn twice", "marginalize and score"),
]
# One draw cannot have two rules. What a baseline is does not depend on the program: a charge that is wrong in the mean
# is wrong with leave-one-out too. Unasked, all of these draws are enumerated, but for one of those of several results.
CASES = [
    (name, assignment)
    for name, case in PROGRAMS.items()
    for assignment in ASSIGNMENTS
    if "marginalize" not in assignment
    and (assignment != "score and enumerate" or len(case.draws) > 1)
    and (assignment not in ("score", "score, a function") or name in QUICK)
    and (assignment != "automatic" or name in (*QUICK, "several results"))
] + MARGINALIZED
SECOND = [
    *(("linked coins", a) for a in ASSIGNMENTS if a not in ("coupled", "marginalize and score")),
    ("one distribution drawn twice", "marginalize and score"),
    ("one coin at a logit of zero", "automatic"),
    ("nested conditionals", "score, leave one out"),
    ("nested conditionals", "score and enumerate"),
    ("a vector of coins", "enumerate"),
    ("a bound", "score, leave one out"),
    ("scan", "score, leave one out"),
    ("vmap in scan", "score"),
]


@pytest.mark.wide
@pytest.mark.parametrize(("name", "assignment"), rows(CASES))
def test_values_and_gradients_are_exact_and_no_error_bar_is_short(name: str, assignment: str) -> None:
    error, short = discrepancy(name, assignment)
    assert error < EXACT
    assert short < EXACT


@pytest.mark.wide
@pytest.mark.parametrize(("name", "assignment"), rows(SECOND))
def test_second_derivatives_are_exact(name: str, assignment: str) -> None:
    assert second_discrepancy(name, assignment) < EXACT


@pytest.mark.parametrize("rule", [Score(NoBaseline()), Score(LeaveOneOut()), Enumerate()])
def test_the_gradient_of_a_gradient_is_exact(rule: vt.gradients.Rule) -> None:
    case = PROGRAMS["linked coins"]
    inner, outer = 2, 1
    names = dict.fromkeys("abc", rule)
    twice = vt.grad(vt.grad(fresh(case), num_samples=inner, rules=names), num_samples=outer)

    def runs(seed: jax.Array) -> jax.Array:
        return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(seed, 0), jnp.arange(inner))

    found = over_all(
        lambda: twice(jax.random.key(SEED), *case.args).value,
        noise(case.program, case.args, runs(jax.random.key(SEED))),
    )
    np.testing.assert_allclose(found.mean, jax.hessian(case.expectation)(*case.args), atol=EXACT)


def test_the_exact_values_are_not_all_alike() -> None:
    """A table whose gradients were zero would let anything pass."""
    for name, case in PROGRAMS.items():
        assert all(np.max(np.abs(x)) > 0.01 for x in exact(case)), name
