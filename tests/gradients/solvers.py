"""Problems whose solution has a closed form, and solvers that no automatic differentiation would pass."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from variate.gradients import fixed_point, projected_gradient, projections, proximal_gradient, stationary


def iterate(update: Callable[[Any], Any], start: Any, steps: int | None = None) -> Any:
    """`update` again and again, until nothing moves or for so many steps."""
    if steps is not None:
        return lax.fori_loop(0, steps, lambda _, x: update(x), start)

    def go(state: tuple) -> tuple:
        x, _, count = state
        new = update(x)
        moves = [jnp.max(jnp.abs(a - b)) for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(x), strict=True)]
        return new, jnp.max(jnp.stack(moves)), count + 1

    def unfinished(state: tuple) -> Array:
        return (state[1] > 1e-14) & (state[2] < 20_000)

    start = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), start)
    return lax.while_loop(unfinished, go, (start, jnp.array(1.0), jnp.array(0)))[0]


def gap(a: Any, b: Any) -> float:
    """The largest difference, NaN counting as infinite."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.nan_to_num(np.max(np.abs(x - y)), nan=np.inf)) for x, y in pairs)


class Problem(NamedTuple):
    """A solver, its conditions, an explicit formula of the solution near `args`, and the objective if there is one."""

    solver: Callable[..., Any]
    conditions: Callable[..., Any]
    exact: Callable[..., Any]
    args: tuple[Any, ...]
    objective: Callable[..., Any] = lambda *args: jnp.zeros(())


FEATURES = jnp.array([[1.0, 0.4, -0.3, 0.2], [0.1, 1.2, 0.5, -0.4], [-0.6, 0.3, 0.9, 0.1], [0.2, -0.1, 0.4, 1.1],
                      [0.5, 0.5, -0.2, 0.3], [-0.1, 0.2, 0.3, -0.7]])  # fmt: skip
TARGETS = jnp.array([1.5, -0.7, 0.3, -1.2, 0.8, 0.4])


def ridge_loss(x: Array, penalty: Array, targets: Array) -> Array:
    return 0.5 * jnp.sum((FEATURES @ x - targets) ** 2) + 0.5 * penalty * jnp.sum(x**2)


def ridge() -> Problem:
    def solver(penalty: Array, targets: Array) -> Array:
        return iterate(lambda x: x - 0.2 * jax.grad(ridge_loss)(x, penalty, targets), jnp.zeros(4))

    def exact(penalty: Array, targets: Array) -> Array:
        return jnp.linalg.solve(FEATURES.T @ FEATURES + penalty * jnp.eye(4), FEATURES.T @ targets)

    return Problem(solver, stationary(ridge_loss), exact, (jnp.array(0.7), TARGETS), ridge_loss)


def nonnegative() -> Problem:
    """The constraint is active in coordinates 2 and 3."""

    def loss(x: Array, targets: Array) -> Array:
        return ridge_loss(x, jnp.array(0.1), targets)

    def solver(targets: Array) -> Array:
        return iterate(lambda x: projections.non_negative(x - 0.2 * jax.grad(loss)(x, targets)), jnp.ones(4))

    def exact(targets: Array) -> Array:
        free = FEATURES[:, jnp.array([0, 1])]
        found = jnp.linalg.solve(free.T @ free + 0.1 * jnp.eye(2), free.T @ targets)
        return jnp.zeros(4).at[jnp.array([0, 1])].set(found)

    return Problem(solver, projected_gradient(loss, projections.non_negative), exact, (TARGETS,), loss)


def simplex() -> Problem:
    """Quadratic over a simplex of moving size; the last coordinate is held at zero."""
    curvature = jnp.array([[2.0, 0.3, 0.1], [0.3, 1.5, -0.2], [0.1, -0.2, 1.0]])

    def loss(x: Array, theta: Array, total: Array) -> Array:
        return 0.5 * x @ curvature @ x - theta @ x

    def solver(theta: Array, total: Array) -> Array:
        def update(x: Array) -> Array:
            return projections.simplex(x - 0.3 * jax.grad(loss)(x, theta, total), total)

        return iterate(update, jnp.ones(3))

    def exact(theta: Array, total: Array) -> Array:
        system = jnp.array([[2.0, 0.3, 1.0], [0.3, 1.5, 1.0], [1.0, 1.0, 0.0]])
        found = jnp.linalg.solve(system, jnp.stack([theta[0], theta[1], total]))
        return jnp.zeros(3).at[:2].set(found[:2])

    conditions = projected_gradient(loss, projections.simplex, lambda theta, total: (total,))
    return Problem(solver, conditions, exact, (jnp.array([0.6, 0.4, -2.0]), jnp.array(1.4)), loss)


def lasso() -> Problem:
    """The support is of coordinates 0 and 3, with the signs + and -."""
    signs, support = jnp.array([1.0, -1.0]), jnp.array([0, 3])

    def loss(x: Array, strength: Array, targets: Array) -> Array:
        return 0.5 * jnp.sum((FEATURES @ x - targets) ** 2)

    def solver(strength: Array, targets: Array) -> Array:
        def update(x: Array) -> Array:
            return projections.prox_l1(x - 0.2 * jax.grad(loss)(x, strength, targets), 0.2 * strength)

        return iterate(update, jnp.zeros(4))

    def exact(strength: Array, targets: Array) -> Array:
        free = FEATURES[:, support]
        return jnp.zeros(4).at[support].set(jnp.linalg.solve(free.T @ free, free.T @ targets - strength * signs))

    conditions = proximal_gradient(loss, projections.prox_l1, lambda strength, targets: (strength,))
    return Problem(solver, conditions, exact, (jnp.array(0.75), TARGETS), loss)


def tanh() -> Problem:
    """Its closed form goes the other way: theta is artanh(x) - A x. One step of Newton from x has its derivatives."""
    matrix = jnp.array([[0.3, -0.4, 0.1], [0.5, 0.2, -0.3], [-0.1, 0.35, 0.25]])

    def update(x: Array, theta: Array) -> Array:
        return jnp.tanh(matrix @ x + theta)

    def solver(theta: Array) -> Array:
        return iterate(lambda x: update(x, theta), jnp.zeros(3))

    def exact(theta: Array) -> Array:
        x = lax.stop_gradient(solver(lax.stop_gradient(theta)))
        for _ in range(3):  # each step doubles the number of derivatives that are right
            error = jnp.arctanh(x) - matrix @ x - theta
            x = x - jnp.linalg.solve(jnp.diag(1 / (1 - x**2)) - matrix, error)
        return x

    return Problem(solver, fixed_point(update), exact, (jnp.array([0.4, -0.9, 0.2]),))


def bisection() -> Problem:
    """Comparisons alone: the solver itself has derivative zero."""

    def solver(theta: Array) -> Array:
        def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = ends
            middle = (low + high) / 2
            return jnp.where(middle**2 < theta, middle, low), jnp.where(middle**2 < theta, high, middle)

        return lax.fori_loop(0, 60, halve, (jnp.array(0.0), jnp.array(4.0)))[0]

    return Problem(solver, lambda x, theta: x**2 - theta, jnp.sqrt, (jnp.array(2.3),))


PROBLEMS = {
    "ridge": ridge(),
    "non-negative least squares": nonnegative(),
    "simplex": simplex(),
    "lasso": lasso(),
    "tanh": tanh(),
    "square root by bisection": bisection(),
}
