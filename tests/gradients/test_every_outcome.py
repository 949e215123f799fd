"""Derivatives of finite programs, summed over every outcome of their samples, are the exact derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients.exactness import ASSIGNMENTS, SEED, discrepancy, exact, fresh, second_discrepancy
from gradients.finite_programs import PROGRAMS
from gradients.outcomes import noise, over_all

import variate as vt
from variate.gradients import Enumerate, LeaveOneOut, NoBaseline, Score

EXACT = 1e-10


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_values_and_gradients_are_exact_and_no_error_bar_is_short(name: str, assignment: str) -> None:
    error, short = discrepancy(name, assignment)
    assert error < EXACT
    assert short < EXACT


SECOND = ["one coin", "linked coins", "nested conditionals", "a vector of coins"]


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives_are_exact(name: str, assignment: str) -> None:
    assert second_discrepancy(name, assignment) < EXACT


@pytest.mark.parametrize("name", ["scan", "vmap in scan"])
def test_second_derivatives_are_exact_in_loops(name: str) -> None:
    assert second_discrepancy(name, "score, leave one out") < EXACT


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
        assert all(np.max(np.abs(x)) > 0.05 for x in exact(case)), name
