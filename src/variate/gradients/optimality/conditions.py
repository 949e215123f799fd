"""Optimality conditions for `vt.implicit`, made of an objective and of what constrains or regularizes it."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float, PyTree

from variate import checks

Objective = Callable[..., Float[Array, ""]]  # called as objective(x, *args), with the arguments of the solver
Conditions = Callable[..., PyTree[Array]]
Parameters = Callable[..., tuple[Any, ...]]


def stationary(objective: Objective) -> Conditions:
    r"""$F(x, \theta) = \nabla_x f(x, \theta)$: the solution of a minimization (or a saddle point) without constraints.

    Args:
        objective: $f$, called as `objective(x, *args)` with the solver's arguments; real, twice differentiable.

    The wrong choice with constraints or kinks at the solution: `projected_gradient`, `proximal_gradient`. Its Jacobian
    is the Hessian of $f$, symmetric, so that `ConjugateGradient` serves a minimum with many unknowns.

    Source: Blondel, Berthet, Cuturi et al. (2022), sec. 2.
    """
    _check("objective", "(x, *args)", objective)
    return jax.grad(objective)


def fixed_point(update: Callable[..., PyTree[Array]]) -> Conditions:
    r"""$F(x, \theta) = T(x, \theta) - x$: the solution of $x = T(x, \theta)$.

    Args:
        update: $T$, called as `update(x, *args)` with the solver's arguments; returns what is like `x`.

    Source: Blondel, Berthet, Cuturi et al. (2022), sec. 2.
    """
    _check("update", "(x, *args)", update)

    def step(x: PyTree[Array], *args: Any, **kwargs: Any) -> PyTree[Array]:
        moved = update(x, *args, **kwargs)
        if jax.tree.structure(moved) != jax.tree.structure(x):
            return moved  # `vt.implicit` says what is wrong with it
        return jax.tree.map(lambda new, old: new - old, moved, x)

    return step


def projected_gradient(
    objective: Objective, projection: Callable[..., PyTree[Array]], parameters: Parameters | None = None
) -> Conditions:
    r"""$F(x, \theta) = P_C(x - \nabla_x f(x, \theta)) - x$: the minimum of $f$ over a closed convex set $C$.

    The derivative of a coordinate that an active constraint holds is zero, or that of the constraint itself. Where a
    constraint is active with a multiplier of exactly zero the solution has a kink, and the derivative is of one side.

    Args:
        objective: $f$, called as `objective(x, *args)` with the solver's arguments; real, twice differentiable.
        projection: $P_C$, called as `projection(y)`, one of `vt.gradients.projections` say.
        parameters: for a set that moves with the arguments: called as `parameters(*args)`, returns the tuple of what
            the projection takes after `y`.

    Source: Blondel, Berthet, Cuturi et al. (2022), sec. 2, with a step of 1: every step has the same solutions.
    """
    _check("projection", "a point", projection)
    return _forward_backward(objective, projection, parameters)


def proximal_gradient(
    objective: Objective, prox: Callable[..., PyTree[Array]], parameters: Parameters | None = None
) -> Conditions:
    r"""$F(x, \theta) = \mathrm{prox}_g(x - \nabla_x f(x, \theta)) - x$: the minimum of $f + g$, where $g$ has kinks.

    A coordinate that $g$ holds at a kink (a coefficient that a lasso sets to zero) has derivative zero.

    Args:
        objective: the smooth part $f$, called as `objective(x, *args)` with the solver's arguments.
        prox: $\mathrm{prox}_g(y) = \mathrm{argmin}_z \frac{1}{2} \|y - z\|^2 + g(z)$, called as `prox(y)`, one of
            `vt.gradients.projections` say.
        parameters: for a $g$ that moves with the arguments: called as `parameters(*args)`, returns the tuple of what
            `prox` takes after `y`.

    Source: Blondel, Berthet, Cuturi et al. (2022), sec. 2, with a step of 1: every step has the same solutions.
    """
    _check("prox", "a point", prox)
    return _forward_backward(objective, prox, parameters)


def _forward_backward(objective: Objective, backward: Callable[..., PyTree[Array]], parameters: Any) -> Conditions:
    _check("objective", "(x, *args)", objective)
    if parameters is not None:
        _check("parameters", "the solver's arguments", parameters)

    def update(x: PyTree[Array], *args: Any, **kwargs: Any) -> PyTree[Array]:
        slope = jax.grad(objective)(x, *args, **kwargs)
        more = () if parameters is None else parameters(*args, **kwargs)
        if not isinstance(more, tuple):
            raise TypeError(f"parameters must return a tuple, got {checks.describe(more)}")
        return backward(jax.tree.map(lambda value, step: value - step, x, slope), *more)

    return fixed_point(update)


def _check(name: str, of: str, value: Any) -> None:
    if not callable(value):
        raise TypeError(f"{name} must be a function of {of}, got {checks.describe(value)}")
