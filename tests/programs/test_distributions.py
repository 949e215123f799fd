"""Every distribution draws from its density and differentiates it, and ours are right where NumPyro's are wrong."""

import pytest
from jax import Array
from programs.laws import ALPHA, p_value, worst_derivative
from programs.rows import ROWS


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_draws_follow_the_density(name: str, key: Array) -> None:
    assert p_value(ROWS[name], key) >= ALPHA


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_derivatives_are_those_of_the_values(name: str, key: Array) -> None:
    assert worst_derivative(ROWS[name], key) <= 1
