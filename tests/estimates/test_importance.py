"""Importance sampling where proposals miss something: runs of the program's own, and without them no error bar."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax.random import clone
from jaxtyping import Array
from scipy import stats
from weighing import HALF, SQUARE, at, square, uniform

import variate as vt
from variate.estimates import Importance


def test_weights_whose_variance_is_infinite_have_no_error_bar(key: Array) -> None:
    """A proposal of half the width: weights like exp(3 x² / 2) with x normal of that width."""
    found = vt.expect(square, method=Importance({"z": at(0.0, 0.5)}, own=0), num_samples=2**15, block_size=2**12)(key)
    assert jnp.isnan(found.stderr)


def test_a_proposal_that_misses_support_has_no_error_bar(key: Array) -> None:
    half = Importance({"u": HALF}, own=0)
    found = vt.expect(uniform, method=half, num_samples=4096)(clone(key))
    assert jnp.isnan(found.stderr)
    np.testing.assert_allclose(found.mean_weight, 0.5, rtol=1e-6)
    assert "mean weight of 0.5 instead of 1" in str(found)
    wide = Importance({"u": dist.Uniform(-jnp.ones(()), 2.0)})
    right = vt.expect(uniform, method=wide, num_samples=4096)(key)
    assert abs(right.value - 0.5) < 5 * right.stderr


def test_runs_of_its_own_make_up_for_a_proposal_that_misses_something(key: Array) -> None:
    """Where runs of the proposal alone are wrong by far more than they say: both errors are 4 standard errors at most.

    Of E z² with the proposal three deviations off, in 2^16 runs, whose error is normal to a few percent: by chance
    one in 15,000 fails. The mutants with w = p / q for all runs, or with the share 1/16 in the weight, do.
    """
    found = vt.expect(square, method=Importance({"z": at(3.0)}), num_samples=2**16, block_size=2**12)(key)
    assert abs(found.value - SQUARE) < 4 * found.stderr
    assert abs(found.mean_weight - 1) < 0.05


def test_a_run_is_its_own_in_all_of_its_draws(key: Array) -> None:
    """Of ten draws, each moved by one: no weight is above 8, where one for each draw would reach 8^10.

    So that the variance is 8 E f² - 0.25 at most, which 16,384 runs know to 2%: a fifth more is ten times that.
    """

    def several(key: Array) -> Array:
        keys = jax.random.split(key, 10)
        return jax.vmap(lambda key: vt.draw(key, dist.Normal(jnp.zeros(()), 1.0), name="z"))(keys).sum() < 0

    method = Importance({"z": at(1.0)})
    found = vt.expect(several, method=method, num_samples=2**14, block_size=2**12)(key)
    assert abs(found.value - 0.5) < stats.norm.isf(5e-7) * found.stderr
    assert found.stderr**2 * 2**14 < 1.2 * (8 * 0.5 - 0.25)


def test_weights_that_are_all_zero_make_no_number(key: Array) -> None:
    outside = Importance({"u": dist.Uniform(jnp.asarray(2.0), 3.0)}, own=0, self_normalized=True)
    found = vt.expect(uniform, method=outside, num_samples=4096)(clone(key))
    assert jnp.isnan(found.value)
    assert not found.converged


@pytest.mark.parametrize("self_normalized", [False, True])
def test_few_runs_far_from_everything_have_no_error_bar(self_normalized: bool, key: Array) -> None:
    """Weights all underflow to 0, and where they add up to 1 one has nearly all of it."""
    far = Importance({"z": at(60.0)}, own=0, self_normalized=self_normalized)
    found = vt.expect(square, method=far, num_samples=200)(key)
    assert jnp.isnan(found.stderr)
    assert not found.converged
