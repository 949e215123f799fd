"""How far what the library estimates, summed over every outcome of its samples, is from the exact."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gradients.coins import Finite
from gradients.finite_programs import PROGRAMS
from gradients.outcomes import Noise, noise, over_all

import variate as vt
from variate.gradients import Coupled, Enumerate, LeaveOneOut, Marginalize, NoBaseline, Rule, Score

SEED = 7


def constant(*args: Any) -> jax.Array:
    return 0.7 + sum((jnp.sum(leaf) for leaf in jax.tree.leaves(eqx.filter(args, eqx.is_array))), start=0.0)


# For each: the rule of the i-th draw, and how many samples the rules need to be themselves.
ASSIGNMENTS: dict[str, tuple[Any, int]] = {
    "automatic": (lambda i: None, 2),
    "score": (lambda i: Score(NoBaseline()), 1),
    "score, leave one out": (lambda i: Score(LeaveOneOut()), 2),
    "score, a function": (lambda i: Score(constant), 1),
    "enumerate": (lambda i: Enumerate(), 2),
    "coupled": (lambda i: Coupled(), 1),
    "marginalize": (lambda i: Marginalize(), 1),
    "score and marginalize": (lambda i: Marginalize() if i else Score(LeaveOneOut()), 2),
    "marginalize and score": (lambda i: Score(LeaveOneOut()) if i else Marginalize(), 2),
    "score and enumerate": (lambda i: Enumerate() if i % 2 else Score(LeaveOneOut()), 2),
}


def rules(case: Finite, assignment: str) -> Mapping[str, Rule]:
    """By the names of the program's draws."""
    found = {name: ASSIGNMENTS[assignment][0](i) for i, name in enumerate(case.draws)}
    return {name: rule for name, rule in found.items() if rule is not None}


@functools.cache
def noise_of(name: str, runs: int) -> Noise:
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(SEED), jnp.arange(runs))
    return noise(PROGRAMS[name].program, PROGRAMS[name].args, keys)


def arrays(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array))]


_EXACT: dict[int, tuple[Finite, list[np.ndarray]]] = {}  # by identity, of cases that are kept so that it stays theirs


def exact(case: Finite) -> list[np.ndarray]:
    """The expectation, then its derivatives, in the order of `vt.value_and_grad`."""
    if id(case) not in _EXACT:
        _EXACT[id(case)] = case, _exact(case)
    return _EXACT[id(case)][1]


def _exact(case: Finite) -> list[np.ndarray]:
    positions = (case.argnums,) if isinstance(case.argnums, int) else case.argnums
    parts = [eqx.partition(case.args[p - 1], eqx.is_array) for p in positions]

    def mean(*moved: Any) -> Any:
        args = list(case.args)
        for p, value, (_, rest) in zip(positions, moved, parts, strict=True):
            args[p - 1] = eqx.combine(value, rest)
        return case.expectation(*args)

    def derived(*moved: Any) -> tuple[Any, Any]:
        return mean(*moved), jax.jacobian(mean, argnums=tuple(range(len(moved))))(*moved)

    value, derivatives = jax.jit(derived)(*[part for part, _ in parts])
    return [*arrays(value), *arrays(derivatives)]


def derivatives(f: Callable, order: int) -> Callable:
    """`f`'s Jacobian, and if `order` is 2 its Hessian, traced together."""
    first = jax.jacrev(f)

    def both(x: Any) -> tuple[Any, Any]:
        second, jacobian = jax.jacfwd(lambda x: (first(x),) * 2, has_aux=True)(x)
        return jacobian, second

    return both if order == 2 else lambda x: (first(x),)


def discrepancy(name: str, assignment: str) -> tuple[float, float]:
    """The largest error of the values and the gradients, and how far their stated variance falls short of their own."""
    case, samples = PROGRAMS[name], ASSIGNMENTS[assignment][1]
    estimate = vt.value_and_grad(fresh(case), case.argnums, num_samples=samples, rules=rules(case, assignment))

    def estimator() -> Any:
        value, gradient = estimate(jax.random.key(SEED), *case.args)
        errors = (value.stderr, gradient.stderr) if samples > 1 else ()
        return arrays_of(value.value, gradient.value), [error**2 for error in arrays_of(errors)]

    found = over_all(estimator, noise_of(name, samples))
    (means, stated), variances = found.mean, found.variance[0]
    short = [np.max(variance - error) for variance, error in zip(variances, stated, strict=False)] if stated else [0.0]
    return largest(means, exact(case)), float(np.max(short))


def second_discrepancy(name: str, assignment: str) -> float:
    """The largest error of the second derivatives, as `jax.hessian` takes them from the surrogate."""
    case, samples = PROGRAMS[name], ASSIGNMENTS[assignment][1]
    surrogate = vt.gradients.surrogate_loss(fresh(case), num_samples=samples, rules=rules(case, assignment))

    def estimator() -> Any:
        hessian = jax.hessian(lambda *args: surrogate(jax.random.key(SEED), *args))(*case.args)
        return arrays_of(hessian)

    return largest(over_all(estimator, noise_of(name, samples)).mean, arrays(jax.hessian(case.expectation)(*case.args)))


def fresh(case: Finite) -> Any:
    """The program as a new function, so that nothing that was compiled for it before is used."""
    return lambda key, *args: case.program(key, *args)


def arrays_of(*tree: Any) -> list[jax.Array]:
    return jax.tree.leaves(eqx.filter(tree, eqx.is_array))


def largest(found: list, wanted: list[np.ndarray]) -> float:
    return max(float(np.max(np.abs(got - want))) for got, want in zip(found, wanted, strict=True))
