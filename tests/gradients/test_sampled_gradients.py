"""Gradients of programs that cannot be enumerated agree with the exact ones within their own error bars."""

import jax
import pytest
from gradients.sampled_checks import blind, estimated, exact_gradient, far, flat
from gradients.sampled_programs import PROGRAMS

pytestmark = [pytest.mark.slow, pytest.mark.table]
CASES = [(name, n) for name, case in PROGRAMS.items() for n in range(len(case.assignments))]


@pytest.mark.wide
@pytest.mark.parametrize(("name", "n"), CASES)
def test_the_estimate_is_as_near_as_it_says(name: str, n: int, key: jax.Array) -> None:
    case = PROGRAMS[name]
    value, gradient = estimated(case, n, key)
    truth = exact_gradient(case)
    assert not far(value, flat(case.expectation(*case.args)))
    assert not far(gradient, truth), (gradient, truth)
    assert not blind(gradient, truth), (gradient, truth)
    assert bool(gradient.converged)
    assert not gradient.biased
