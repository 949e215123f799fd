"""Every assignment of the discrete draws of a small model, and what a density costs that sums over them."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import variate as vt


class Case(NamedTuple):
    """A model of data; how many values its discrete draws have, and their shapes; values of the others."""

    model: Callable
    discrete: dict[str, tuple[int, tuple]]
    values: dict[str, Any]


def anew(case: Case) -> Case:
    """The model as a function of its own, of which nothing that was compiled with a mutant, or without, is used."""
    return case._replace(model=lambda key, y: case.model(key, y))


def assignments(case: Case) -> dict[str, np.ndarray]:
    """All of them, in the order of the digits of their number."""
    sizes = [(count, int(np.prod(shape))) for count, shape in case.discrete.values()]
    every = np.array(list(itertools.product(*[range(count) for count, size in sizes for _ in range(size)])))
    parts = np.split(every, np.cumsum([size for _, size in sizes])[:-1], axis=1)
    named = zip(case.discrete.items(), parts, strict=True)
    return {name: part.reshape(len(every), *shape) for (name, (_, shape)), part in named}


def number_of(case: Case, values: dict[str, Any]) -> np.ndarray:
    """Of each assignment in `values`."""
    flat = [np.asarray(values[name]).reshape(len(values[name]), -1) for name in case.discrete]
    radix = [count for count, shape in case.discrete.values() for _ in range(int(np.prod(shape)))]
    place = np.cumprod([1, *radix[::-1]])[:-1][::-1]
    return (np.concatenate(flat, axis=1) * place).sum(1).astype(int)


def log_weights(case: Case, values: dict[str, Any], y: jax.Array) -> jax.Array:
    """The joint log densities of all assignments with these values of the other draws."""
    return jax.vmap(lambda given: vt.density(case.model)({**values, **given}, y))(assignments(case))


def check_sum(case: Case, y: jax.Array) -> None:
    """The density of a target, and its gradient, is that of the sum over all assignments."""
    target = vt.condition(case.model, y)
    assert set(target.names) == set(target.supports) == set(case.values)
    total = lambda values: jax.nn.logsumexp(log_weights(case, values, y))  # noqa: E731
    both = jax.jit(lambda values: [jax.value_and_grad(of)(values) for of in (target.log_prob, total)])
    (found, slopes), (expected, wanted) = both(case.values)
    assert np.isfinite(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    for draw in case.values:
        np.testing.assert_allclose(slopes[draw], wanted[draw], rtol=1e-9, atol=1e-11)


class Cost(NamedTuple):
    """Of a function: its equations, and the elements of its largest array."""

    equations: int
    largest: int


def cost(jaxpr: Any) -> Cost:
    leaves = [leaf for e in jaxpr.eqns for leaf in jax.tree.leaves(list(e.params.values()), is_leaf=_is_jaxpr)]
    inside = [cost(getattr(leaf, "jaxpr", leaf)) for leaf in leaves if _is_jaxpr(leaf)]
    own = [getattr(variable.aval, "size", 0) for e in jaxpr.eqns for variable in e.outvars]
    return Cost(
        len(jaxpr.eqns) + sum(c.equations for c in inside), max([*own, *(c.largest for c in inside)], default=0)
    )


def _is_jaxpr(leaf: Any) -> bool:
    return hasattr(leaf, "eqns")
