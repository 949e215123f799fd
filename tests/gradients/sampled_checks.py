"""Whether an estimate is as near to the truth as it says: z-tests of a stated rate of false alarms.

Numbers of samples are those of whole blocks, here and in the tests: blocks of two sizes are compiled twice.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest
from gradients.sampled import Sampled
from scipy import stats

import variate as vt

ALPHA = 1e-6  # of a false alarm, for one estimate with all its coordinates


def compiled_once(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a slow test most of whose time is compiling."""
    return pytest.mark.slow(pytest.mark.table(test))


def flat(tree: Any) -> np.ndarray:
    leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_array))
    return np.concatenate([np.ravel(leaf) for leaf in leaves])


def exact_gradient(case: Sampled) -> np.ndarray:
    moved, rest = eqx.partition(case.args[0], eqx.is_array)
    return flat(jax.jacobian(lambda moved: case.expectation(eqx.combine(moved, rest), *case.args[1:]))(moved))


def far(estimate: vt.Estimate, truth: np.ndarray) -> bool:
    """Whether an estimate rejects the truth; it does so by chance with probability `ALPHA`."""
    bound = stats.t.isf(ALPHA / 2 / truth.size, int(estimate.num_samples) - 1)
    return not np.all(np.abs(flat(estimate.value) - truth) <= bound * flat(estimate.stderr) + 1e-12)


def blind(estimate: vt.Estimate, truth: np.ndarray) -> bool:
    """Whether a gradient of half its true size could pass for the right one: with more than `ALPHA`, everywhere."""
    bound = stats.t.isf(ALPHA / 2 / truth.size, int(estimate.num_samples) - 1)
    return not np.any(np.abs(truth) / 2 > 2 * bound * flat(estimate.stderr))


def estimated(case: Sampled, n: int, key: jax.Array) -> tuple[vt.Estimate, vt.Estimate]:
    """Value and gradient by the n-th assignment of rules."""
    fresh = lambda key, *args: case.program(key, *args)  # noqa: E731  (nothing that was compiled before is used)
    options = {"num_samples": case.samples, "block_size": 2_000, "rules": case.assignments[n]}
    return eqx.filter_jit(vt.value_and_grad(fresh, **options))(key, *case.args)
