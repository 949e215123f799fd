"""Gradients of finite programs, summed over every outcome of their samples, are the exact gradients."""

import functools
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients.finite_programs import PROGRAMS, Finite
from gradients.outcomes import Noise, Sum, noise, over_all

import variate as vt
from variate.gradients import Enumerate, LeaveOneOut, NoBaseline, Rule, Score
from variate.programs.staging import stage

SEED = 7


def constant(*args: Any) -> jax.Array:
    return 0.7 + sum((jnp.sum(leaf) for leaf in jax.tree.leaves(eqx.filter(args, eqx.is_array))), start=0.0)


def names(case: Finite) -> list[str]:
    numbers, static = vt.trees.split(case.args)
    program, _ = stage(
        lambda key, *numbers: case.program(key, *vt.trees.join(list(numbers), static)), jax.random.key(0), *numbers
    )
    return sorted({site.name for site in program.sites if site.name is not None})


# For each: the rule of the i-th draw, and how many samples the rule needs to be itself.
ASSIGNMENTS: dict[str, tuple[Any, int]] = {
    "automatic": (lambda i: None, 2),
    "score": (lambda i: Score(NoBaseline()), 1),
    "score, leave one out": (lambda i: Score(LeaveOneOut()), 2),
    "score, a function": (lambda i: Score(constant), 1),
    "enumerate": (lambda i: Enumerate(), 1),
    "score and enumerate": (lambda i: Enumerate() if i % 2 else Score(LeaveOneOut()), 2),
}


def rules(case: Finite, assignment: str) -> Mapping[str, Rule]:
    found = {name: ASSIGNMENTS[assignment][0](i) for i, name in enumerate(names(case))}
    return {name: rule for name, rule in found.items() if rule is not None}


@functools.cache
def noise_of(name: str, runs: int) -> Noise:
    case = PROGRAMS[name]
    return noise(
        case.program, case.args, jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(SEED), jnp.arange(runs))
    )


def arrays(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array))]


def exact(case: Finite) -> tuple[Any, list[np.ndarray]]:
    """The expectation, and its derivatives in the structure of `vt.value_and_grad`."""
    single = isinstance(case.argnums, int)
    positions = (case.argnums,) if single else case.argnums
    parts = [eqx.partition(case.args[p - 1], eqx.is_array) for p in positions]

    def mean(*moved: Any) -> Any:
        args = list(case.args)
        for p, value, (_, rest) in zip(positions, moved, parts, strict=True):
            args[p - 1] = eqx.combine(value, rest)
        return case.expectation(*args)

    moved = [part for part, _ in parts]
    gradient = jax.jacobian(mean, argnums=tuple(range(len(moved))))(*moved)
    return arrays(mean(*moved)), arrays(gradient)


def estimated(name: str, assignment: str) -> Sum:
    case, samples = PROGRAMS[name], ASSIGNMENTS[assignment][1]
    fresh = lambda key, *args: case.program(key, *args)  # noqa: E731  (nothing that was compiled before is used)
    estimate = vt.value_and_grad(fresh, case.argnums, num_samples=samples, rules=rules(case, assignment))

    def estimator() -> Any:
        value, gradient = estimate(jax.random.key(SEED), *case.args)
        errors = (value.stderr, gradient.stderr) if samples > 1 else ()
        return value.value, gradient.value, jax.tree.map(jnp.square, errors)

    return over_all(estimator, noise_of(name, samples))


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_sum_over_outcomes_is_exact(name: str, assignment: str) -> None:
    found, (value, gradient) = estimated(name, assignment), exact(PROGRAMS[name])
    for got, want in zip(arrays(found.mean[:2]), [*value, *gradient], strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-10)
    if ASSIGNMENTS[assignment][1] > 1:
        for error, variance in zip(arrays(found.mean[2]), arrays(found.variance[:2]), strict=True):
            assert np.all(error > variance - 1e-12)
