"""Gradients of programs that cannot be enumerated agree with the exact ones within their own error bars."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest
from gradients.sampled_programs import PROGRAMS, Sampled
from scipy import stats

import variate as vt

pytestmark = pytest.mark.slow
CASES = [(name, n) for name, case in PROGRAMS.items() for n in range(len(case.assignments))]
ALPHA = 1e-6  # of a false alarm, for one estimate with all its coordinates


def flat(tree: Any) -> np.ndarray:
    leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_array))
    return np.concatenate([np.ravel(leaf) for leaf in leaves])


def exact_gradient(case: Sampled) -> np.ndarray:
    moved, rest = eqx.partition(case.args[0], eqx.is_array)
    return flat(jax.jacobian(lambda moved: case.expectation(eqx.combine(moved, rest), *case.args[1:]))(moved))


def far(estimate: vt.Estimate, truth: np.ndarray) -> bool:
    """Whether an estimate rejects the truth; it does so by chance with probability `ALPHA`."""
    error = flat(estimate.stderr)
    bound = stats.t.isf(ALPHA / 2 / truth.size, int(estimate.num_samples) - 1)
    return not np.all(np.abs(flat(estimate.value) - truth) <= bound * error + 1e-12)


def estimated(case: Sampled, n: int, key: jax.Array) -> Any:
    fresh = lambda key, *args: case.program(key, *args)  # noqa: E731  (nothing that was compiled before is used)
    options = {"num_samples": case.samples, "block_size": 2_000, "rules": case.assignments[n]}
    return jax.jit(vt.value_and_grad(fresh, **options))(key, *case.args)


@pytest.mark.parametrize(("name", "n"), CASES)
def test_the_estimate_is_as_near_as_it_says(name: str, n: int, key: jax.Array) -> None:
    case = PROGRAMS[name]
    value, gradient = estimated(case, n, key)
    truth = exact_gradient(case)
    assert not far(value, flat(case.expectation(*case.args)))
    assert not far(gradient, truth), (gradient, truth)
    # A test that passes whatever comes is no test: a gradient that is half of what it should be is told from it by
    # twice the bound somewhere, so it passes with probability ALPHA too.
    assert np.max(np.abs(truth) / 2 / np.maximum(flat(gradient.stderr), 1e-12)) > 10.5
    assert bool(gradient.converged)
    assert not gradient.biased
