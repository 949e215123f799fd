"""Solves of the linear system that implicit differentiation leaves: by a matrix, or by its products alone."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.scipy.sparse import linalg
from jaxtyping import Array, PyTree

from variate import checks

Linear = Callable[[PyTree[Array]], PyTree[Array]]
LinearSolve = Callable[[Linear, PyTree[Array]], PyTree[Array]]  # from `matvec` and `b` to `y` with `matvec(y) = b`


def check_linear_solve(name: str, solve: object) -> None:
    if isinstance(solve, type) or not callable(solve):
        what = f"the class {solve.__name__} itself" if isinstance(solve, type) else checks.describe(solve)
        raise TypeError(f"{name} must be a function of (matvec, b), vt.gradients.linear_solves.GMRES() say, got {what}")


def _check_tol(tol: float | None) -> None:
    if tol is not None:
        checks.check_fraction("tol", tol)


@dataclass(frozen=True)
class Dense:
    r"""$y = A^{-1} b$ by LU decomposition of the matrix $A$, which takes one product for each of its columns.

    Exact up to rounding, for any regular $A$. Where $A$ is singular the result is NaN. The wrong choice for many
    unknowns: $n$ of them take $n^2$ numbers and $n^3$ operations.
    """

    def __call__(self, matvec: Linear, b: PyTree[Array]) -> PyTree[Array]:
        flat, unravel = ravel_pytree(b)
        columns = jax.vmap(lambda unit: ravel_pytree(matvec(unravel(unit)))[0])(jnp.eye(flat.size, dtype=flat.dtype))
        return _checked(unravel(jnp.linalg.solve(columns.T, flat)), matvec, b, _SINGULAR)


@dataclass(frozen=True)
class GMRES:
    r"""$y$ with $\|A y - b\| \le$ `tol` $\|b\|$, in a growing Krylov space: products with $A$ are all it takes.

    For many unknowns and any regular $A$. Where it does not get there the result is NaN. The wrong choice for few
    unknowns (`Dense` is exact), and where $A$ is symmetric and definite (`ConjugateGradient` needs less memory).

    Args:
        tol: the relative residual; left out, $\epsilon^{2/3}$ of the floats in use.
        restart: how many vectors to keep before it starts again from what it has.
        max_restarts: when to give up.

    Source: Saad and Schultz (1986).
    """

    tol: float | None = None
    restart: int = 50
    max_restarts: int = 100

    def __post_init__(self) -> None:
        _check_tol(self.tol)
        checks.check_positive_int("restart", self.restart)
        checks.check_positive_int("max_restarts", self.max_restarts)

    def __call__(self, matvec: Linear, b: PyTree[Array]) -> PyTree[Array]:
        tol = _tolerance(self.tol, b)
        y, _ = linalg.gmres(matvec, b, tol=tol, restart=self.restart, maxiter=self.max_restarts)
        return _checked(y, matvec, b, _SLACK * tol)


@dataclass(frozen=True)
class ConjugateGradient:
    r"""$y$ with $\|A y - b\| \le$ `tol` $\|b\|$ for a symmetric and definite $A$, in the memory of a few vectors.

    For many unknowns and the conditions `stationary(objective)` of an objective that is strictly convex at its minimum.
    Where it does not get there the result is NaN. The wrong choice for conditions with a projection or a proximal map
    in them, whose Jacobian is not symmetric: `GMRES`.

    Args:
        tol: the relative residual; left out, $\epsilon^{2/3}$ of the floats in use.
        max_steps: when to give up.

    Source: Hestenes and Stiefel (1952).
    """

    tol: float | None = None
    max_steps: int = 10_000

    def __post_init__(self) -> None:
        _check_tol(self.tol)
        checks.check_positive_int("max_steps", self.max_steps)

    def __call__(self, matvec: Linear, b: PyTree[Array]) -> PyTree[Array]:
        tol = _tolerance(self.tol, b)
        y, _ = linalg.cg(matvec, b, tol=tol, maxiter=self.max_steps)
        return _checked(y, matvec, b, _SLACK * tol)


@dataclass(frozen=True)
class BySize:
    """One solve up to `limit` unknowns, another above.

    Args:
        limit: the most unknowns, over all arrays of the solution, that `small` serves.
        small: any linear solve, called as `small(matvec, b)`.
        large: any linear solve.
    """

    limit: int = 512
    small: LinearSolve = Dense()
    large: LinearSolve = GMRES()

    def __post_init__(self) -> None:
        checks.check_positive_int("limit", self.limit)
        check_linear_solve("small", self.small)
        check_linear_solve("large", self.large)

    def __call__(self, matvec: Linear, b: PyTree[Array]) -> PyTree[Array]:
        unknowns = sum(leaf.size for leaf in jax.tree.leaves(b))
        return (self.small if unknowns <= self.limit else self.large)(matvec, b)


# The matrix of a singular system is seldom exactly singular in floats: what gives it away is a `y` so large that its
# product with the matrix is off by as much as `b` itself.
_SINGULAR = 1e-2

_SLACK = 10  # the residual that an iteration updates drifts from the true one by rounding


def _tolerance(tol: float | None, b: PyTree[Array]) -> float:
    coarsest = max(float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(b))
    return coarsest ** (2 / 3) if tol is None else tol


def _checked(y: PyTree[Array], matvec: Linear, b: PyTree[Array], tol: float) -> PyTree[Array]:
    """`y`, or NaN where it does not solve the system: a wrong derivative must not look like a right one."""
    error = jax.tree.map(jnp.subtract, matvec(y), b)
    solved = _norm(error) <= tol * _norm(b)
    return jax.tree.map(lambda leaf: jnp.where(solved, leaf, jnp.nan), y)


def _norm(tree: PyTree[Array]) -> Array:
    return jnp.linalg.norm(ravel_pytree(tree)[0])
