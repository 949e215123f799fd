"""Each projection is the nearest feasible point and each proximal map a minimum, and their derivatives are right."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jax.test_util import check_grads

from variate.gradients import projections

NORMAL = jnp.array([1.0, -2.0, 0.5, 0.3, -0.7])
LOWER, UPPER = jnp.array([-0.5, -1.0, 0.0, 0.2, -jnp.inf]), jnp.array([0.5, 0.1, 0.3, jnp.inf, 0.4])


class Set(NamedTuple):
    """A projection, how far a point is outside of its set, and some points of the set made of any others."""

    project: Callable[[Array], Array]
    outside: Callable[[Array], Array]
    inside: Callable[[Array], Array]


def half_space_points(z: Array) -> Array:
    return z - (jnp.abs(z[0]) + jnp.dot(NORMAL, z) - 0.4) / jnp.dot(NORMAL, NORMAL) * NORMAL


SETS = {
    "simplex": Set(
        lambda x: projections.simplex(x, 1.3),
        lambda x: jnp.abs(jnp.sum(x) - 1.3) + jnp.sum(jnp.maximum(-x, 0)),
        lambda z: 1.3 * jax.nn.softmax(3 * z),
    ),
    "non-negative": Set(projections.non_negative, lambda x: jnp.sum(jnp.maximum(-x, 0)), lambda z: jnp.abs(z)),
    "box": Set(
        lambda x: projections.box(x, LOWER, UPPER),
        lambda x: jnp.sum(jnp.maximum(LOWER - x, 0) + jnp.maximum(x - UPPER, 0)),
        lambda z: jnp.clip(z, LOWER, UPPER),
    ),
    "l2 ball": Set(
        lambda x: projections.l2_ball(x, 0.8),
        lambda x: jnp.maximum(jnp.linalg.norm(x) - 0.8, 0),
        lambda z: 0.8 * z / (jnp.linalg.norm(z) + jnp.abs(z[0])),
    ),
    "l1 ball": Set(
        lambda x: projections.l1_ball(x, 1.1),
        lambda x: jnp.maximum(jnp.sum(jnp.abs(x)) - 1.1, 0),
        lambda z: 1.1 * z**3 / (jnp.sum(jnp.abs(z**3)) + 0.1 * jnp.abs(z[0])),
    ),
    "hyperplane": Set(
        lambda x: projections.hyperplane(x, NORMAL, 0.4),
        lambda x: jnp.abs(jnp.dot(NORMAL, x) - 0.4),
        lambda z: z - (jnp.dot(NORMAL, z) - 0.4) / jnp.dot(NORMAL, NORMAL) * NORMAL,
    ),
    "half-space": Set(
        lambda x: projections.half_space(x, NORMAL, 0.4),
        lambda x: jnp.maximum(jnp.dot(NORMAL, x) - 0.4, 0),
        half_space_points,
    ),
}


class Prox(NamedTuple):
    """A proximal map, and the function that it is of."""

    prox: Callable[[Array], Array]
    function: Callable[[Array], Array]


STRENGTHS = jnp.array([0.1, 0.5, 0.0, 1.0, 2.0])
PROXES = {
    "l1": Prox(lambda x: projections.prox_l1(x, 0.6), lambda z: 0.6 * jnp.sum(jnp.abs(z))),
    "weighted l1": Prox(lambda x: projections.prox_l1(x, STRENGTHS), lambda z: jnp.sum(STRENGTHS * jnp.abs(z))),
    "elastic net": Prox(
        lambda x: projections.prox_elastic_net(x, 0.4, 0.7),
        lambda z: 0.4 * jnp.sum(jnp.abs(z)) + 0.35 * jnp.sum(z**2),
    ),
    "group lasso": Prox(lambda x: projections.prox_group_lasso(x, 0.9), lambda z: 0.9 * jnp.linalg.norm(z)),
}

MAPS = {name: each.project for name, each in SETS.items()} | {name: each.prox for name, each in PROXES.items()}


def points(key: Array, n: int = 20) -> Array:
    """Of scales from well inside of every set to far outside."""
    return jax.random.normal(key, (n, 5)) * jnp.geomspace(0.05, 20, n)[:, None]


def close(a: Any, b: Any, tolerance: float = 1e-12) -> bool:
    return bool(np.allclose(a, b, rtol=tolerance, atol=tolerance))


@pytest.mark.parametrize("name", SETS)
def test_a_projection_is_feasible_idempotent_and_nearest(name: str, key: Array) -> None:
    each, (for_points, for_others) = SETS[name], jax.random.split(key)
    x = points(for_points)
    projected = jax.vmap(each.project)(x)
    assert np.max(jax.vmap(each.outside)(projected)) < 1e-12
    assert close(jax.vmap(each.project)(projected), projected)
    others = jax.vmap(each.inside)(points(for_others, 2000))
    assert np.max(jax.vmap(each.outside)(others)) < 1e-12
    # The nearest point of a convex set, and no other, makes no acute angle between x and any of its points.
    angles = jnp.einsum("nd,nmd->nm", x - projected, others[None] - projected[:, None])
    assert np.max(angles / (1 + jnp.linalg.norm(x, axis=1, keepdims=True))) < 1e-12


@pytest.mark.parametrize("name", PROXES)
def test_a_proximal_map_is_the_minimum(name: str, key: Array) -> None:
    each, (for_points, *keys) = PROXES[name], jax.random.split(key, 21)
    for x, for_steps in zip(points(for_points), keys, strict=True):
        found = each.prox(x)
        steps = jnp.concatenate([points(for_steps, 200), -jnp.diag(found)])

        def above(step: Array, x: Array = x, found: Array = found) -> Array:
            here, there = (0.5 * jnp.sum((x - z) ** 2) + each.function(z) for z in (found, found + step))
            return there - here

        assert np.min(jax.vmap(above)(jnp.concatenate([steps, 1e-3 * steps]))) >= -1e-12


def test_what_is_held_at_zero_is_exactly_zero() -> None:
    x = jnp.array([0.3, -0.4, 0.2, 1.7])
    for strength in (0.6, 1.1, jnp.array(0.7)):
        assert np.all(projections.prox_group_lasso(x[:3], strength) == 0)
        assert np.all(projections.prox_l1(x[:3], strength) == 0)
    assert np.all(projections.simplex(x)[:3] == 0)
    assert np.all(projections.l1_ball(x)[:3] == 0)
    assert close(projections.prox_group_lasso(x, 0.0), x)


@pytest.mark.wide
@pytest.mark.parametrize("name", MAPS)
def test_the_derivative_away_from_kinks(name: str, key: Array) -> None:
    for x in points(key, 8):
        check_grads(MAPS[name], (x,), order=2, eps=1e-6, atol=1e-4, rtol=1e-4)


@pytest.mark.wide
@pytest.mark.parametrize("name", MAPS)
def test_the_derivative_is_finite_at_zero_and_where_coordinates_are_equal(name: str) -> None:
    for x in (jnp.zeros(5), jnp.full(5, 0.3), jnp.array([1.0, 1.0, -1.0, 0.0, 2.0])):
        assert np.all(np.isfinite(jax.jacrev(MAPS[name])(x)))
        assert np.all(np.isfinite(jax.jacfwd(MAPS[name])(x)))


@pytest.mark.parametrize("name", MAPS)
def test_jit_and_vmap_change_nothing(name: str, key: Array) -> None:
    x = points(key, 6)
    one_by_one = jnp.stack([MAPS[name](row) for row in x])
    assert close(jax.jit(jax.vmap(MAPS[name]))(x), one_by_one)


def test_the_jacobian_of_the_simplex() -> None:
    # On the support S the mean over S is taken off; nothing else moves (Martins and Astudillo 2016, prop. 2).
    x = jnp.array([0.5, 0.9, -0.2, 0.6])
    support = (projections.simplex(x) > 0).astype(float)
    exact = jnp.diag(support) - jnp.outer(support, support) / support.sum()
    assert close(jax.jacrev(projections.simplex)(x), exact)
    assert close(jax.grad(lambda s: projections.simplex(x, s)[0])(1.0), 1 / 3)


def test_the_derivative_in_the_parameters(key: Array) -> None:
    x = points(key, 8)[5]

    def all_of_them(a: Array, normal: Array) -> Any:
        return [
            projections.simplex(x, a),
            projections.l1_ball(x, a),
            projections.l2_ball(x, a),
            projections.box(x, -a, a),
            projections.prox_l1(x, a),
            projections.prox_elastic_net(x, a, 2 * a),
            projections.prox_group_lasso(x, a),
            projections.hyperplane(x, normal, a),
            projections.half_space(x, normal, a),
        ]

    check_grads(all_of_them, (jnp.array(0.7), NORMAL), order=2, eps=1e-6, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["simplex", "l1_ball", "l2_ball", "non_negative", "prox_l1", "prox_elastic_net"])
def test_a_tree_is_one_vector(name: str, key: Array) -> None:
    project = getattr(projections, name)
    x = points(key, 8)[5]
    tree = {"a": x[:3].reshape(3, 1), "b": (x[3], x[4:])}
    found = project(tree)
    assert jax.tree.structure(found) == jax.tree.structure(tree)
    assert [leaf.shape for leaf in jax.tree.leaves(found)] == [(3, 1), (), (1,)]
    assert close(jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(found)]), project(x))


def test_trees_beside_x(key: Array) -> None:
    x = points(key, 8)[5]
    tree, normal = {"a": x[:3], "b": x[3:]}, {"a": NORMAL[:3], "b": NORMAL[3:]}
    for project in (projections.hyperplane, projections.half_space):
        found = project(tree, normal, 0.4)
        assert close(jnp.concatenate([found["a"], found["b"]]), project(x, NORMAL, 0.4))
    found = projections.box(tree, {"a": LOWER[:3], "b": 0.1}, 0.5)
    assert close(found["a"], jnp.clip(x[:3], LOWER[:3], 0.5))
    assert close(found["b"], jnp.clip(x[3:], 0.1, 0.5))
    groups = projections.prox_group_lasso(tree, {"a": 0.2, "b": 0.9})
    assert close(groups["a"], projections.prox_group_lasso(x[:3], 0.2))
    assert close(groups["b"], projections.prox_group_lasso(x[3:], 0.9))


def test_single_precision_stays() -> None:
    x = jnp.array([0.5, -2.0, 0.1, 3.0, 0.0], jnp.float32)
    for name in ("simplex", "l1_ball", "l2_ball", "non_negative", "prox_l1", "prox_elastic_net", "prox_group_lasso"):
        assert getattr(projections, name)(x).dtype == jnp.float32
    assert projections.box(x, -1.0, jnp.ones(())).dtype == jnp.float32
    assert projections.hyperplane(x, NORMAL, 1).dtype == jnp.float32


BAD: dict[str, tuple[str, tuple, type[Exception], str]] = {
    "integers": ("simplex", (jnp.arange(3),), TypeError, r"x must be real numbers, as floats, got int64\[3\]"),
    "integers in a tree": ("prox_l1", ({"w": jnp.arange(3)},), TypeError, r"x\['w'\] must be .*got int64\[3\]"),
    "nothing": ("l2_ball", (jnp.zeros(0),), TypeError, "x must hold a coordinate"),
    "no total": ("simplex", (NORMAL, 0.0), ValueError, r"total must be a positive number, got 0\.0"),
    "a negative radius": ("l1_ball", (NORMAL, -1), ValueError, "radius must be a positive number, got -1"),
    "a radius of zero": ("l2_ball", (NORMAL, 0.0), ValueError, "radius must be a positive number"),
    "a negative strength": (
        "prox_l1",
        (NORMAL, -0.5),
        ValueError,
        r"strength must be a non-negative number, got -0\.5",
    ),
    "a negative l2": ("prox_elastic_net", (NORMAL, 1.0, -0.5), ValueError, "l2 must be a non-negative number"),
    "bounds that cross": ("box", (NORMAL, 1.0, 0.0), ValueError, r"lower must not be above upper, got 1\.0 and 0\.0"),
    "another normal": ("hyperplane", (NORMAL, NORMAL[:3]), ValueError, r"x has shape \(5,\), got \(3,\)"),
    "another tree": ("half_space", (NORMAL, [NORMAL]), TypeError, "normal must have the structure of x"),
    "another tree of bounds": ("box", ({"a": NORMAL}, {"b": 0.0}, 1.0), TypeError, "lower must have the structure of"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    function, args, error, match = BAD[name]
    with pytest.raises(error, match=match):
        inspect.unwrap(getattr(projections, function))(*args)
