"""Projections onto convex sets and proximal maps, with their derivatives."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from variate import checks, trees

Tree = PyTree[Float[Array, "..."]]
Like = PyTree[ArrayLike]  # real arrays or numbers; beside x, one number for all, or a pytree like x

# All are written in `max`, `min`, `sort` and sums: differentiable but at their kinks, and an analysis of a program sees
# that they are continuous.


def non_negative(x: Like) -> Tree:
    r"""$\max(x, 0)$: the nearest point without negative coordinates. A pytree of real arrays, as for all here."""
    return jax.tree.map(lambda leaf: jnp.maximum(leaf, 0), _reals(x))


def box(x: Like, lower: Like, upper: Like) -> Tree:
    r"""$\min(\max(x, l), u)$: the nearest point with $l \le x \le u$.

    Args:
        x: a pytree of real arrays.
        lower: $l$, one number for all coordinates, or a pytree like `x`; `-inf` for none.
        upper: $u \ge l$, likewise.
    """
    if _is_number(lower) and _is_number(upper) and lower > upper:
        raise ValueError(f"lower must not be above upper, got {lower!r} and {upper!r}")
    x = _reals(x)
    low, high = _spread("lower", lower, x), _spread("upper", upper, x)
    return jax.tree.map(lambda leaf, least, most: jnp.minimum(jnp.maximum(leaf, least), most), x, low, high)


def simplex(x: Like, total: ArrayLike = 1.0) -> Tree:
    r"""The nearest point with $x \ge 0$ and $\sum_i x_i = s$: $\max(x - \tau, 0)$ for the $\tau$ that makes it so.

    $\tau = \max_j \frac{1}{j} (\sum_{i \le j} u_i - s)$ over the coordinates $u_1 \ge u_2 \ge \dots$ in order.

    Args:
        x: a pytree of real arrays, taken as one vector; `jax.vmap` projects many.
        total: $s > 0$.

    Source: Duchi, Shalev-Shwartz, Singer and Chandra (2008), fig. 1; the maximum: Condat (2016).
    """
    _check_number("total", total, positive=True)
    flat, unravel = _vector(x)
    return unravel(jnp.maximum(flat - _threshold(flat, jnp.asarray(total, flat.dtype)), 0))


def l1_ball(x: Like, radius: ArrayLike = 1.0) -> Tree:
    r"""The nearest point with $\|x\|_1 \le r$: `prox_l1` with the $\tau$ of `simplex` for $|x|$, if positive.

    Args:
        x: a pytree of real arrays, taken as one vector; `jax.vmap` projects many.
        radius: $r > 0$.

    Source: Duchi, Shalev-Shwartz, Singer and Chandra (2008), sec. 4.
    """
    _check_number("radius", radius, positive=True)
    flat, unravel = _vector(x)
    return unravel(_shrink(flat, jnp.maximum(_threshold(jnp.abs(flat), jnp.asarray(radius, flat.dtype)), 0)))


def l2_ball(x: Like, radius: ArrayLike = 1.0) -> Tree:
    r"""$x / \max(1, \|x\|_2 / r)$: the nearest point with $\|x\|_2 \le r$.

    Args:
        x: a pytree of real arrays, taken as one vector; `jax.vmap` projects many.
        radius: $r > 0$.
    """
    _check_number("radius", radius, positive=True)
    flat, unravel = _vector(x)
    # Of the square, as the norm has no derivative at zero.
    squares = jnp.sum((flat / jnp.asarray(radius, flat.dtype)) ** 2)
    return unravel(flat * jax.lax.rsqrt(jnp.maximum(squares, 1)))


def hyperplane(x: Like, normal: Like, offset: ArrayLike = 0.0) -> Tree:
    r"""$x - \frac{a \cdot x - b}{a \cdot a} a$: the nearest point with $a \cdot x = b$.

    Args:
        x: a pytree of real arrays, taken as one vector; `jax.vmap` projects many.
        normal: $a \ne 0$, like `x`.
        offset: $b$.
    """
    flat, unravel = _vector(x)
    a = _normal(x, normal)
    return unravel(flat - (jnp.dot(a, flat) - jnp.asarray(offset, flat.dtype)) / jnp.dot(a, a) * a)


def half_space(x: Like, normal: Like, offset: ArrayLike = 0.0) -> Tree:
    r"""$x - \frac{\max(a \cdot x - b, 0)}{a \cdot a} a$: the nearest point with $a \cdot x \le b$; see `hyperplane`."""
    flat, unravel = _vector(x)
    a = _normal(x, normal)
    return unravel(flat - jnp.maximum(jnp.dot(a, flat) - jnp.asarray(offset, flat.dtype), 0) / jnp.dot(a, a) * a)


def prox_l1(x: Like, strength: Like = 1.0) -> Tree:
    r"""$\mathrm{argmin}_z \frac{1}{2} \|x - z\|^2 + \lambda \|z\|_1$: each coordinate $\lambda$ nearer to zero.

    Args:
        x: a pytree of real arrays.
        strength: $\lambda \ge 0$, one number for all coordinates, or a pytree like `x`.

    Source: Parikh and Boyd (2014), sec. 6.5.
    """
    _check_number("strength", strength)
    x = _reals(x)
    return jax.tree.map(_shrink, x, _spread("strength", strength, x))


def prox_elastic_net(x: Like, l1: Like = 1.0, l2: Like = 1.0) -> Tree:
    r"""$\mathrm{argmin}_z \frac{1}{2} \|x - z\|^2 + \lambda \|z\|_1 + \frac{\mu}{2} \|z\|^2$: `prox_l1` over $1 + \mu$.

    Args:
        x: a pytree of real arrays.
        l1: $\lambda \ge 0$, one number for all coordinates, or a pytree like `x`.
        l2: $\mu \ge 0$, likewise.

    Source: Parikh and Boyd (2014), sec. 6.5.
    """
    _check_number("l1", l1)
    _check_number("l2", l2)
    x = _reals(x)
    by, over = _spread("l1", l1, x), _spread("l2", l2, x)
    return jax.tree.map(lambda leaf, first, second: _shrink(leaf, first) / (1 + second), x, by, over)


def prox_group_lasso(x: Like, strength: Like = 1.0) -> Tree:
    r"""$\mathrm{argmin}_z \frac{1}{2} \|x - z\|^2 + \sum_g \lambda_g \|z_g\|_2$: groups $\lambda_g$ shorter, or zero.

    Args:
        x: a pytree of real arrays, each of which is one group $x_g$; `jax.vmap` takes the rows of a matrix as groups.
        strength: $\lambda_g \ge 0$, one number for all groups, or a pytree of numbers like `x`.

    Source: Parikh and Boyd (2014), sec. 6.5.
    """
    _check_number("strength", strength)
    x = _reals(x)
    strengths = jax.tree.map(lambda _: strength, x) if _is_leaf(strength) else strength
    _check_like("strength", strengths, x)

    def shorten(group: Array, strength: ArrayLike) -> Array:
        strength = jnp.asarray(strength, group.dtype)
        # Of the square, as the norm has no derivative at zero; the smallest float keeps 0 / 0 out. The root of a square
        # is exact, and so is the zero.
        square = jnp.maximum(jnp.sum(group**2), strength**2)
        return group * (1 - strength / jnp.sqrt(jnp.maximum(square, jnp.finfo(group.dtype).tiny)))

    return jax.tree.map(shorten, x, strengths)


def _threshold(x: Float[Array, " n"], total: Float[Array, ""]) -> Float[Array, ""]:
    """The largest mean excess over `total` of the first coordinates in descending order."""
    sums = jnp.cumsum(-jnp.sort(-x))
    return jnp.max((sums - total) / jnp.arange(1, x.size + 1, dtype=x.dtype))


def _shrink(x: Array, by: ArrayLike) -> Array:
    return jnp.maximum(x - by, 0) - jnp.maximum(-x - by, 0)


def _reals(x: Any) -> Tree:
    """The arrays of `x`, which must all be real."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(x):
        if not trees.is_traced(leaf) or not jnp.issubdtype(getattr(leaf, "dtype", type(leaf)), jnp.floating):
            where = jax.tree_util.keystr(path)
            raise TypeError(f"x{where} must be real numbers, as floats, got {checks.describe(leaf)}")
    return jax.tree.map(jnp.asarray, x)


def _vector(x: Any) -> tuple[Float[Array, " n"], Callable[[Array], Tree]]:
    flat, unravel = ravel_pytree(_reals(x))
    if not flat.size:
        raise TypeError(f"x must hold a coordinate at least, got {checks.describe(x)}")
    return flat, unravel


def _normal(x: Any, normal: Any) -> Float[Array, " n"]:
    _check_like("normal", normal, x)
    for (path, own), other in zip(jax.tree_util.tree_leaves_with_path(x), jax.tree.leaves(normal), strict=True):
        if jnp.shape(own) != jnp.shape(other):
            where = jax.tree_util.keystr(path)
            raise ValueError(f"normal must be like x: x{where} has shape {jnp.shape(own)}, got {jnp.shape(other)}")
    return ravel_pytree(jax.tree.map(lambda own, other: jnp.asarray(other, jnp.result_type(own)), x, normal))[0]


def _spread(name: str, value: Like, x: Tree) -> Tree:
    """A value for each coordinate of `x`."""
    value = jax.tree.map(lambda _: value, x) if _is_leaf(value) else value
    _check_like(name, value, x)
    return jax.tree.map(lambda leaf, own: jnp.broadcast_to(jnp.asarray(own, leaf.dtype), leaf.shape), x, value)


def _check_like(name: str, value: Any, x: Any) -> None:
    if jax.tree.structure(value) != jax.tree.structure(x):
        expected = jax.tree.structure(x)
        raise TypeError(f"{name} must have the structure of x, which is {expected}, got {jax.tree.structure(value)}")


def _is_leaf(value: Any) -> bool:
    return jax.tree_util.treedef_is_leaf(jax.tree.structure(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _check_number(name: str, value: Any, positive: bool = False) -> None:
    """Raise at a written number that is out of range; of an array JAX does not know the value while it traces."""
    if _is_number(value) and not (value > 0 if positive else value >= 0):
        raise ValueError(f"{name} must be a {'positive' if positive else 'non-negative'} number, got {value!r}")
