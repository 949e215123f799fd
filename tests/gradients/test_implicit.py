"""The derivative of a solution is that of its closed form, whatever the solver; and what breaks that is noticed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients.solvers import PROBLEMS, gap, iterate
from jax import Array, lax

import variate as vt
from variate.gradients import (
    fixed_point,
    linear_solves,
    projected_gradient,
    projections,
    stationary,
)
from variate.gradients.optimality import implicit_diff

SOLVES = {
    "dense": linear_solves.BySize(),
    "gmres": linear_solves.BySize(limit=1),
    "the user's own": lambda matvec, b: lax.fori_loop(0, 3000, lambda _, y: y + 0.02 * (b - matvec(y)), 0 * b),
}


def jacobian_gap(name: str, jacobian: Callable = jax.jacfwd, solve: Any = linear_solves.Dense()) -> float:
    problem = PROBLEMS[name]
    numbers = tuple(range(len(problem.args)))
    solver = vt.implicit(problem.conditions, solve=solve)(problem.solver)
    return gap(jax.jit(jacobian(solver, numbers))(*problem.args), jax.jacfwd(problem.exact, numbers)(*problem.args))


@pytest.mark.wide
@pytest.mark.parametrize("solve", ["dense", "gmres"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_jacobian_is_that_of_the_closed_form(name: str, solve: str) -> None:
    problem = PROBLEMS[name]
    assert gap(vt.implicit(problem.conditions)(problem.solver)(*problem.args), problem.exact(*problem.args)) < 1e-10
    assert jacobian_gap(name, jax.jacfwd, SOLVES[solve]) < 1e-8
    assert jacobian_gap(name, jax.jacrev, SOLVES[solve]) < 1e-8


def test_the_users_own_linear_solve_and_conjugate_gradients_where_they_converge() -> None:
    for solve in (SOLVES["the user's own"], linear_solves.ConjugateGradient(tol=1e-12)):
        for jacobian in (jax.jacfwd, jax.jacrev):
            assert jacobian_gap("ridge", jacobian, solve) < 1e-8


@pytest.mark.wide
@pytest.mark.parametrize("name", PROBLEMS)
def test_second_derivatives_in_every_mode(name: str) -> None:
    problem = PROBLEMS[name]
    solver = vt.implicit(problem.conditions)(problem.solver)
    exact = jax.jit(jax.hessian(problem.exact))(*problem.args)
    for inner in (jax.jacfwd, jax.jacrev):
        for outer in (jax.jacfwd, jax.jacrev):
            assert gap(jax.jit(outer(inner(solver)))(*problem.args), exact) < 1e-7


def test_third_derivatives() -> None:
    @vt.implicit(lambda x, t: x**3 + x - t)
    def root(t: Array) -> Array:
        return iterate(lambda x: x - (x**3 + x - t) / (3 * x**2 + 1), t)

    once, twice = jax.grad(root), jax.grad(jax.grad(root))
    x, *found = jax.jit(lambda t: (root(t), once(t), twice(t), jax.grad(twice)(t)))(0.7)
    slope = 1 / (3 * x**2 + 1)
    # Those of the inverse function of x^3 + x.
    assert gap(found, [slope, -6 * x * slope**3, 3 * (6 * x) ** 2 * slope**5 - 6 * slope**4]) < 1e-9


@pytest.mark.wide
@pytest.mark.parametrize("name", PROBLEMS)
def test_finite_differences(name: str) -> None:
    problem, size = PROBLEMS[name], 1e-5
    theta, *rest = problem.args
    solver = jax.jit(vt.implicit(problem.conditions)(problem.solver))
    direction = jnp.cos(jnp.arange(float(theta.size))).reshape(theta.shape)
    _, tangent = jax.jvp(lambda theta: solver(theta, *rest), (theta,), (direction,))
    ends = [solver(theta + sign * size * direction, *rest) for sign in (1, -1)]
    assert gap(tangent, jax.tree.map(lambda up, down: (up - down) / (2 * size), *ends)) < 1e-7


def test_unrolled_loops_agree() -> None:
    def solver(theta: Array) -> Array:
        return lax.fori_loop(0, 200, lambda _, x: jnp.tanh(x / 2 + theta), jnp.zeros_like(theta))

    theta = jnp.array([0.3, -1.0])
    implicit = vt.implicit(fixed_point(lambda x, theta: jnp.tanh(x / 2 + theta)))(solver)
    assert gap(jax.jacrev(implicit)(theta), jax.jacrev(solver)(theta)) < 1e-12


@pytest.mark.wide
@pytest.mark.parametrize("name", PROBLEMS)
def test_jit_and_vmap_change_nothing(name: str) -> None:
    problem = PROBLEMS[name]
    theta, *rest = problem.args
    eager = jax.jacrev(vt.implicit(problem.conditions)(problem.solver))
    jacobian = jax.jit(eager)
    several = jnp.stack([theta, 1.1 * theta, 0.9 * theta])
    one_by_one = [jacobian(one, *rest) for one in several]
    assert gap(eager(theta, *rest), one_by_one[0]) < 1e-11
    mapped = jax.jit(jax.vmap(lambda theta: jacobian(theta, *rest)))(several)
    for i, one in enumerate(one_by_one):
        assert gap(mapped[i], one) < 1e-10


class Weights(NamedTuple):
    level: Array
    slope: Array


def test_trees_and_what_has_no_derivative(key: Array) -> None:
    def update(x: dict, weights: Weights, n: int, key: Array, names: tuple[str, ...], *, shift: Array) -> dict:
        noise = jax.random.normal(key, (2,))
        a = jnp.tanh(weights.slope * x["a"] + noise) / n + shift
        return {"a": a, names[0]: (weights.level * jnp.sum(x["a"]),)}

    @vt.implicit(fixed_point(update))
    def solver(weights: Weights, n: int, key: Array, names: tuple[str, ...], *, shift: Array) -> dict:
        """Solves."""
        data = jax.random.key_data(key)
        start = {"a": jnp.zeros(2), names[0]: (jnp.array(0.0),)}
        return iterate(lambda x: update(x, weights, n, jax.random.wrap_key_data(data), names, shift=shift), start)

    def loss(weights: Weights, n: int | Array, key: Array, shift: Array) -> Array:
        x = solver(weights, n, key, ("b",), shift=shift)
        return jnp.sum(x["a"]) * x["b"][0]

    assert solver.__name__ == "solver"
    assert solver.__doc__ == "Solves."
    weights, shift = Weights(jnp.array(0.7), jnp.array([0.3, -0.5])), jnp.array(0.2)
    keys = [jax.random.clone(key) for _ in range(20)]
    gradient = jax.grad(loss, (0, 3))(weights, 3, keys[0], shift)
    assert isinstance(gradient[0], Weights)
    assert gap(jax.jit(jax.grad(loss, (0, 3)), static_argnums=1)(weights, 3, keys[1], shift), gradient) < 1e-12
    level = [loss(weights._replace(level=weights.level + h), 3, keys[2], shift) for h in (1e-6, -1e-6)]
    assert gap(gradient[0].level, (level[0] - level[1]) / 2e-6) < 1e-8
    moved = [loss(weights, 3, keys[3], shift + h) for h in (1e-6, -1e-6)]
    assert gap(gradient[1], (moved[0] - moved[1]) / 2e-6) < 1e-8
    counts = jnp.array([3.0, 4.0])
    batched = jax.vmap(lambda n: jax.grad(loss)(weights, n, keys[4], shift))(counts)
    assert gap(batched.slope[0], gradient[0].slope) < 1e-12


def test_what_the_conditions_close_over_is_differentiated() -> None:
    def solution(c: Array) -> Array:
        @vt.implicit(lambda x: x**2 - c)
        def solver() -> Array:
            return iterate(lambda x: (x + c / x) / 2, jnp.ones(()))

        return solver()

    for differentiate in (jax.grad, lambda f: jax.jit(jax.grad(f)), jax.jacfwd):
        assert gap(differentiate(solution)(2.0), 0.5 / np.sqrt(2)) < 1e-12
    assert gap(jax.grad(jax.grad(solution))(2.0), -0.25 * 2**-1.5) < 1e-12


def test_an_initial_guess_that_the_conditions_ignore_has_no_derivative() -> None:
    @vt.implicit(lambda x, start, t: x**2 - t)
    def root(start: Array, t: Array) -> Array:
        return iterate(lambda x: (x + t / x) / 2, start)

    assert gap(jax.grad(root, (0, 1))(1.3, 2.0), (0.0, 0.5 / np.sqrt(2))) < 1e-12


def test_many_unknowns() -> None:
    n = 700
    pull = jnp.linspace(0.5, 1.5, n)

    @vt.implicit(stationary(lambda x, t: jnp.sum(jnp.cosh(x) + 0.5 * pull * (x - t) ** 2) + 0.1 * jnp.sum(x) ** 2 / n))
    def solver(t: Array) -> Array:
        return iterate(lambda x: x - 0.3 * (jnp.sinh(x) + pull * (x - t) + 0.2 * jnp.sum(x) / n), jnp.zeros(n))

    t = jnp.sin(jnp.arange(float(n)))
    x, tangent = jax.jvp(solver, (t,), (jnp.ones(n),))
    exact = jnp.linalg.solve(jnp.diag(jnp.cosh(x) + pull) + 0.2 / n, pull)
    assert gap(tangent, exact) < 1e-8
    assert gap(jax.grad(lambda t: jnp.sum(solver(t)))(t) @ jnp.ones(n), jnp.sum(exact)) < 1e-6


# What must not look like a number.


def test_a_solution_that_is_not_isolated_has_no_derivative() -> None:
    matrix = jnp.array([[1.0, 2.0, 0.3], [2.0, 4.0, 0.6], [0.7, 0.1, 0.2]])  # of rank two
    for solve in (linear_solves.Dense(), linear_solves.GMRES(max_restarts=5), linear_solves.ConjugateGradient()):
        solver = vt.implicit(lambda x, t: matrix @ x - t, solve=solve)(lambda t: jnp.linalg.pinv(matrix) @ t)
        assert np.all(np.isnan(jax.jvp(solver, (jnp.ones(3),), (jnp.array([1.0, 0.0, 0.0]),))[1]))


def test_an_iteration_that_gave_up_says_so() -> None:
    matrix = jnp.diag(jnp.geomspace(1.0, 1e6, 30)) + jnp.triu(jnp.ones((30, 30)), 1)
    for solve in (linear_solves.GMRES(restart=2, max_restarts=1), linear_solves.ConjugateGradient(max_steps=3)):
        solver = vt.implicit(lambda x, t: matrix @ x - t, solve=solve)(lambda t: jnp.linalg.solve(matrix, t))
        assert np.all(np.isnan(jax.jvp(solver, (jnp.ones(30),), (jnp.ones(30),))[1]))


# Mutants, each put in the place of what it breaks.


def wrong_sign(residual: Any, found: Any, solve: Any, within: Any) -> Any:
    return ROOT(residual, found, lambda matvec, b: jax.tree.map(jnp.negative, solve(matvec, b)), within)


def solver_differentiated(residual: Any, found: Any, solve: Any, within: Any) -> Any:
    return found()


def solution_held(residual: Any, found: Any, solve: Any, within: Any) -> Any:
    return lax.stop_gradient(ROOT(residual, found, solve, within))


def transposed(residual: Any, found: Any, solve: Any, within: Any) -> Any:
    def other(matvec: Any, b: Array) -> Array:
        return jnp.linalg.solve(jax.vmap(matvec)(jnp.eye(b.size)), b)  # its rows are the columns of the matrix

    return ROOT(residual, found, other, within)


def matrix_forgotten(residual: Any, found: Any, solve: Any, within: Any) -> Any:
    return ROOT(residual, found, lambda matvec, b: jax.tree.map(jnp.negative, b), within)


ROOT = implicit_diff._root
MUTANTS = {
    "wrong sign of the solve": (wrong_sign, "ridge"),
    "the solver differentiated": (solver_differentiated, "square root by bisection"),
    "no derivative": (solution_held, "ridge"),
    "the matrix transposed": (transposed, "tanh"),
    "the matrix forgotten": (matrix_forgotten, "lasso"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught_by_the_closed_form(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant, problem = MUTANTS[name]  # without the mutant the gap is tested above
    monkeypatch.setattr(implicit_diff, "_root", mutant)
    assert jacobian_gap(problem) > 1e-3


def test_a_constraint_forgotten_is_caught_by_the_closed_form() -> None:
    problem = PROBLEMS["non-negative least squares"]
    solver = vt.implicit(projected_gradient(problem.objective, lambda y: y))(problem.solver)
    assert gap(jax.jacfwd(solver)(*problem.args), jax.jacfwd(problem.exact)(*problem.args)) > 1e-3
    solver = vt.implicit(projected_gradient(problem.objective, projections.non_negative))(problem.solver)
    assert gap(jax.jacfwd(solver)(*problem.args), jax.jacfwd(problem.exact)(*problem.args)) < 1e-8


def stopped_at(x: float, **options: Any) -> Any:
    return vt.implicit(lambda x, t: x**2 - t, **options)(lambda t: jnp.full_like(t, x))


@pytest.mark.parametrize("derivative", [jax.jacfwd, jax.jacrev])
def test_no_solution_has_no_derivative(derivative: Any) -> None:
    """The square root of 4, from a solver that stopped at a distance of 2 has a derivative for those who ask for it."""
    t = jnp.array(4.0)
    assert jnp.isnan(derivative(stopped_at(4.0))(t))
    assert derivative(stopped_at(4.0, within=None))(t) == 1 / 8
    # Newton's step is 0.0102 and 0.00998, one more than x is 3.
    assert jnp.isnan(derivative(stopped_at(2.0102, within=0.00333))(t))
    assert abs(derivative(stopped_at(2.0099, within=0.00333))(t) - 1 / 4.02) < 1e-4
    assert jnp.isnan(derivative(jax.grad(stopped_at(4.0)))(t))
