"""Implicit differentiation: the derivative of a solution from its optimality conditions, whatever found it."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from variate import checks, trees
from variate.gradients.optimality.linear_solves import BySize, LinearSolve, check_linear_solve

P = ParamSpec("P")
X = TypeVar("X")


def implicit(
    conditions: Callable[..., Any],
    *,
    solve: LinearSolve = BySize(),
    unique: bool = False,
    within: float | None = 1e-3,
) -> Callable[[Callable[P, X]], Callable[P, X]]:
    r"""Give a solver the derivative of its solution: `@vt.implicit(conditions)` above `def solver(*args): return x`.

    From $F(x(\theta), \theta) = 0$ follows $\partial_x F \; \partial x = -\partial_\theta F$, a linear system at the
    solution. The solver itself is not differentiated, so it may be made of anything that JAX traces: `while_loop`,
    early stopping, a callback. Forward and reverse mode work, and any order as far as $F$ is smooth enough.

    Args:
        conditions: $F$, called as `conditions(x, *args)` with what the solver returned and its own arguments (keywords
            too). It returns what has the structure, shapes and types of `x`, and is zero at the solution. `stationary`,
            `fixed_point`, `projected_gradient` and `proximal_gradient` make such functions.
        solve: how to solve the linear system: called as `solve(matvec, b)`, with $\partial_x F$ as `matvec`, or its
            transpose in reverse mode. Left out, `Dense` up to 512 unknowns and `GMRES` above; see
            `vt.gradients.linear_solves`.
        unique: promise that the solution moves continuously with the arguments, as it does where the conditions have
            only one. It matters only inside `vt.grad`: without it an iteration (`while_loop`, comparisons) on random
            arguments counts as a discontinuity, as the solver might jump from one solution to another.
        within: how far the solver may have stopped from the solution, as a share of one more than the largest number in
            $x$: where the step of Newton's method $(\partial_x F)^{-1} F$ is longer, the derivative is NaN. It takes a
            second linear system; None leaves it out.

    Returns:
        A decorator of solvers. Solutions are pytrees of real arrays; arguments are anything. Derivatives reach the
        real arrays among the arguments and in what `conditions` closes over; integers, keys and other objects pass
        through. An initial guess that the conditions ignore has derivative zero.

    Raises:
        TypeError: `conditions`, `solve` or the solver is no function; the conditions cannot be called with `x` and the
            solver's arguments, or do not return what is like `x`; the solver returns what is not real.

    The derivative is that of $F$ at the point reached, with an error of the order of its distance from the solution.
    It is NaN farther than `within`, and where the linear system has no solution, as for solutions $x$ that are not
    isolated. A solver that gave up should return NaN for others to see in the value too.

    Source: Blondel, Berthet, Cuturi et al. (2022), Efficient and modular implicit differentiation, sec. 2.
    """
    _check_function("conditions", "(x, *args)", conditions)
    check_linear_solve("solve", solve)
    if within is not None:
        checks.check_positive("within", within)

    def decorate(solver: Callable[P, X]) -> Callable[P, X]:
        _check_function("solver", "the arguments; write @vt.implicit(conditions) above it", solver)
        find: Callable[..., X] = solver

        @functools.wraps(solver)
        def solution(*args: P.args, **kwargs: P.kwargs) -> X:
            arguments = _with_new_keys((args, kwargs))

            def found() -> X:
                args, kwargs = jax.tree.map(_held, arguments()) if unique else arguments()
                return _reals(f"the solver {checks.name_of(find)}", find(*args, **kwargs))

            def residual(x: X) -> X:
                args, kwargs = arguments()
                _check_call(conditions, x, args, kwargs)
                return _like(conditions, conditions(x, *args, **kwargs), x)

            return _root(residual, found, solve, within)

        return solution

    return decorate


def _root(residual: Callable[[X], X], found: Callable[[], X], solve: LinearSolve, within: float | None) -> X:
    """What `found` returns, as the root of `residual`. Both may close over whatever is differentiated."""
    solution = lax.stop_gradient(found())
    condition, moving = jax.closure_convert(residual, solution)
    moving = [jnp.asarray(value) for value in moving]

    @jax.custom_jvp
    def root(x: X, moving: list[Any]) -> X:
        # Whoever reads the program sees that x moves with all that F depends on. XLA drops the case never taken.
        return jax.tree.map(lambda value, zero: lax.select_n(False, value, zero), x, condition(x, *moving))

    @root.defjvp
    def _(primals: tuple, tangents: tuple) -> tuple[X, X]:
        x, moving = root(*primals), primals[1]  # the root once more, which has a derivative of its own
        left, linear = jax.linearize(lambda x: condition(x, *moving), x)
        _, shift = jax.jvp(lambda *moving: condition(x, *moving), tuple(moving), tuple(tangents[1]))
        step = lax.custom_linear_solve(linear, jax.tree.map(jnp.negative, shift), solve, transpose_solve=solve)
        if within is not None:
            newton = lax.custom_linear_solve(linear, left, solve, transpose_solve=solve)
            share = _share_of_right(x, left, newton, within)
            step = jax.tree.map(lambda leaf: leaf * share.astype(leaf.dtype), step)
        return x, step

    return root(solution, moving)


def _share_of_right(x: PyTree[Array], left: PyTree[Array], newton: PyTree[Array], within: float) -> Array:
    """What the derivative is multiplied by, which reverse mode keeps: 1 near a solution, else NaN."""

    def largest(tree: PyTree[Array]) -> Array:
        return jnp.stack([jnp.max(jnp.abs(leaf), initial=0) for leaf in jax.tree.leaves(lax.stop_gradient(tree))]).max()

    near = (largest(left) == 0) | (largest(newton) <= within * (1 + largest(x)))
    return jnp.where(near, 1.0, jnp.nan)


def _with_new_keys(tree: PyTree) -> Callable[[], PyTree]:
    """A function that gives the tree with its keys made anew: a solver and its conditions share their random numbers.

    Only one of the two is run for its value, but JAX's check of reused keys takes them for two.
    """
    leaves, structure = jax.tree.flatten(tree)
    kinds = [jax.random.key_impl(leaf) if _is_key(leaf) else None for leaf in leaves]
    data = [leaf if kind is None else jax.random.key_data(leaf) for leaf, kind in zip(leaves, kinds, strict=True)]

    def again() -> PyTree:
        pairs = zip(data, kinds, strict=True)
        new = [leaf if kind is None else jax.random.wrap_key_data(leaf, impl=kind) for leaf, kind in pairs]
        return jax.tree.unflatten(structure, new)

    return again


def _held(leaf: Any) -> Any:
    """An argument whose derivative an analysis does not follow into the solver."""
    return lax.stop_gradient(leaf) if trees.is_traced(leaf) and jnp.issubdtype(_type(leaf), jnp.inexact) else leaf


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _type(leaf: Any) -> Any:
    return getattr(leaf, "dtype", type(leaf))


def _reals(who: str, tree: PyTree) -> PyTree[Array]:
    """The tree with an array for each leaf, all of them real."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    if not leaves:
        raise TypeError(f"{who} must return a pytree of real arrays, got {checks.describe(tree)}")
    for path, leaf in leaves:
        if not trees.is_traced(leaf) or not jnp.issubdtype(_type(leaf), jnp.floating):
            where = f" at x{jax.tree_util.keystr(path)}" if path else ""
            raise TypeError(f"{who} must return a pytree of real arrays, got {checks.describe(leaf)}{where}")
    # Python's floats and what JAX made of them take part in promotion; an array of the same type does not.
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), tree)


def _like(conditions: Callable[..., Any], residual: PyTree, x: PyTree[Array]) -> PyTree[Array]:
    """The residual, if it has the structure, shapes and types of `x`."""
    who = f"conditions {checks.name_of(conditions)}"
    expected, got = jax.tree.structure(x), jax.tree.structure(residual)
    if expected != got:
        raise TypeError(f"{who} must return the structure of x, which is {expected}, got {got}")
    residual = _reals(who, residual)
    pairs = zip(jax.tree_util.tree_leaves_with_path(x), jax.tree.leaves(residual), strict=True)
    for (path, own), other in pairs:
        if (own.shape, own.dtype) != (other.shape, other.dtype):
            where = jax.tree_util.keystr(path)
            raise TypeError(
                f"{who} must return what is like x: x{where} is {checks.describe(own)}, got {checks.describe(other)}"
            )
    return residual


def _check_function(name: str, of: str, value: Any) -> None:
    if not callable(value):
        raise TypeError(f"{name} must be a function of {of}, got {checks.describe(value)}")


def _check_call(conditions: Callable[..., Any], x: Any, args: tuple, kwargs: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(conditions)
    except (TypeError, ValueError):  # some callables written in C have none
        return
    try:
        signature.bind(x, *args, **kwargs)
    except TypeError as error:
        named = [f"{name}={checks.describe(value)}" for name, value in kwargs.items()]
        given = ", ".join(["x", *map(checks.describe, args), *named])
        raise TypeError(
            f"conditions {checks.name_of(conditions)} cannot be called with ({given}): {error}; "
            "they take the solution, then the arguments of the solver"
        ) from None
