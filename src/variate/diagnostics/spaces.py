"""Spaces with random functions on them: lines through numbers, and eigenfunctions of the Laplacian elsewhere.

An intrinsic slice pushes members to the line by a function that the space itself has, of unit mean square: one of the
eigenspace of an eigenvalue $\\lambda$, drawn so that no choice of a basis matters. Its weight is
$e^{-t\\lambda/\\lambda_1}$ times the dimension of that eigenspace, that of the heat kernel after a time t in units of
the slowest decay: the smaller t, the more fine detail counts.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from variate import checks

from .base import check_sample, unit


class Lines(eqx.Module):
    """Members of any shape as vectors of numbers, seen along a uniformly random direction."""

    def members(self, name: str, sample: Any) -> Float[Array, "n d"]:
        return check_sample(name, sample)

    def size(self, members: Float[Array, "n d"]) -> int:
        return members.shape[1]

    def weights(self) -> Float[Array, " 1"]:
        return jnp.ones(1)

    def values(self, function: Float[Array, " d"], members: Float[Array, "n d"]) -> Float[Array, "1 n"]:
        return (members @ unit(function).astype(members.dtype))[None]

    def moments(self, x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "3 1"]:
        return _over_all(x, y)[:, None] / x.shape[1]


class Circle(eqx.Module):
    r"""Angles, by $\sqrt 2 \cos(k(x - \phi))$ with $k = 1 \dots$ `num_levels` and $\phi$ uniform; $\lambda = k^2$.

    Level 1 alone tells any two distributions apart, since it sees them in the plane along all directions. `period` is
    what a whole turn measures: 24 for hours.

    Raises `TypeError` or `ValueError` for a `time`, a `period` or a number of levels that is not positive.
    """

    time: float = eqx.field(static=True)
    num_levels: int = eqx.field(static=True)
    period: float = eqx.field(static=True)

    def __init__(self, time: float | int = 0.1, num_levels: int = 8, period: float | int = 2 * math.pi):
        self.time = checks.check_positive("time", time)
        self.num_levels = checks.check_positive_int("num_levels", num_levels)
        self.period = checks.check_positive("period", period)

    def members(self, name: str, sample: Any) -> Float[Array, " n"]:
        found = check_sample(name, sample)
        if np.ndim(sample) != 1:
            raise ValueError(f"{name} must be one angle a member, got {checks.describe(sample)}")
        return found[:, 0] * (2 * math.pi / self.period)

    def size(self, members: Float[Array, " n"]) -> int:
        return 2

    def weights(self) -> Float[Array, " levels"]:
        return 2 * jnp.exp(-self.time * self._levels(jnp.zeros(())) ** 2)

    def values(self, function: Float[Array, " 2"], members: Float[Array, " n"]) -> Float[Array, "levels n"]:
        away = members - jnp.arctan2(function[1], function[0]).astype(members.dtype)
        return math.sqrt(2) * jnp.cos(jnp.outer(self._levels(members), away))

    def moments(self, x: Float[Array, " n"], y: Float[Array, " m"]) -> Float[Array, "3 levels"]:
        def around(level: Array) -> Array:
            a, b = (jnp.stack([jnp.cos(level * z), jnp.sin(level * z)], axis=1) for z in (x, y))
            return _over_all(a, b)

        return jax.vmap(around, out_axes=1)(self._levels(x))

    def _levels(self, like: Array) -> Float[Array, " levels"]:
        return jnp.arange(1, self.num_levels + 1, dtype=like.dtype)


class Sphere(eqx.Module):
    r"""Unit vectors, by zonal functions around a uniformly random pole p; $\lambda = \ell(\ell + d - 2)$.

    They are $\sqrt{D_\ell} P_\ell(x^\top p)$ with $P_\ell$ the Gegenbauer polynomial of d dimensions that is 1 at 1
    (Legendre's in three) and $D_\ell$ the dimension of the space of spherical harmonics of degree $\ell = 1 \dots$
    `num_levels`. Level 1 alone tells any two distributions apart. Its controls cost all pairs of members once.

    - `dimension`: d, of the space around: 3 for directions in space.

    Raises `TypeError` or `ValueError` for a `dimension` below 2, and a `time` or number of levels that is not positive.

    Source of the polynomials: Müller (1966), Spherical harmonics, sections 1 and 2.
    """

    dimension: int = eqx.field(static=True)
    time: float = eqx.field(static=True)
    num_levels: int = eqx.field(static=True)

    def __init__(self, dimension: int = 3, time: float | int = 0.1, num_levels: int = 8):
        self.dimension = checks.check_at_least("dimension", dimension, 2)
        self.time = checks.check_positive("time", time)
        self.num_levels = checks.check_positive_int("num_levels", num_levels)

    def members(self, name: str, sample: Any) -> Float[Array, "n d"]:
        found = check_sample(name, sample)
        if np.shape(sample)[1:] != (self.dimension,):
            raise ValueError(
                f"{name} must have members of shape ({self.dimension},), those of {self}, got {checks.describe(sample)}"
            )
        norms = jnp.linalg.norm(found, axis=1, keepdims=True)
        if not isinstance(norms, Tracer) and not bool(jnp.all(jnp.abs(norms - 1) < 1e-3)):
            worst = float(norms.ravel()[jnp.argmax(jnp.abs(norms - 1))])
            raise ValueError(f"{name} must have members of norm 1, got one of norm {worst:.4g}")
        return found / norms

    def size(self, members: Float[Array, "n d"]) -> int:
        return self.dimension

    def weights(self) -> Float[Array, " levels"]:
        eigenvalues = np.array([level * (level + self.dimension - 2) for level in range(1, self.num_levels + 1)])
        return jnp.asarray(np.exp(-self.time * eigenvalues / eigenvalues[0]) * self._dimensions(), float)

    def values(self, function: Float[Array, " d"], members: Float[Array, "n d"]) -> Float[Array, "levels n"]:
        along = members @ unit(function).astype(members.dtype)
        return jnp.asarray(np.sqrt(self._dimensions()), along.dtype)[:, None] * self.zonal(along)

    def zonal(self, t: Float[Array, " n"]) -> Float[Array, "levels n"]:
        r"""$P_1 \dots P_L$ by their recurrence."""
        found, last = [jnp.ones_like(t), t], self.dimension - 2
        for level in range(1, self.num_levels):
            ahead = (2 * level + last) * t * found[-1] - level * found[-2]
            found.append(ahead / (level + last))
        return jnp.stack(found[1:])

    def moments(self, x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "3 levels"]:
        def near(member: Array, sample: Array) -> Array:
            return jnp.mean(self.zonal(sample @ member), axis=1)

        def to_both(members: Array) -> tuple[Array, Array]:
            return jax.lax.map(lambda member: (near(member, x), near(member, y)), members)

        (xx, xy), (yx, yy) = to_both(x), to_both(y)
        shift = jnp.mean(xx - xy, axis=0) - jnp.mean(yx - yy, axis=0)
        found = jnp.stack([shift, 1 - jnp.mean(xx, axis=0), 1 - jnp.mean(yy, axis=0)])
        return jnp.where(found > 1024 * jnp.finfo(found.dtype).eps, found, 0)

    def _dimensions(self) -> np.ndarray:
        d = self.dimension
        return np.array(
            [(2 * n + d - 2) * math.comb(n + d - 3, n - 1) // n for n in range(1, self.num_levels + 1)], float
        )


class Graph(eqx.Module):
    r"""Nodes of a connected graph, by $\sqrt N U_\lambda \theta$: eigenvectors mixed by a uniform unit vector $\theta$.

    $U_\lambda$ are the eigenvectors of $L = D - A$ at an eigenvalue above 0. Members are numbers of nodes.

    - `adjacency`: A, the weights of the edges, [N, N], symmetric.
    - `time`: t, in units of $1 / \lambda_1$.
    - `num_levels`: how many eigenvalues, from the least on; all by default, which tells any two distributions apart.
      Eigenvalues that differ by no more than rounding are one.

    Raises `TypeError` or `ValueError` for what is no matrix of weights, is not symmetric, has negative weights, or has
    parts without an edge between them; and for a `time` or a number of levels that is not positive.
    """

    functions: Float[Array, "nodes r"]
    level: Int[Array, " r"]  # of each function
    alpha: Float[Array, " levels"]
    num_levels: int = eqx.field(static=True)

    def __init__(self, adjacency: Any, time: float | int = 0.1, num_levels: int | None = None):
        weights = _check_adjacency(adjacency)
        eigenvalues, vectors = np.linalg.eigh(np.diag(weights.sum(axis=1)) - weights)
        rounding = len(weights) * np.finfo(float).eps * eigenvalues[-1]
        if eigenvalues[1] <= 4 * rounding:
            raise ValueError("adjacency must be that of a connected graph: some nodes cannot be reached from others")
        level = np.concatenate([[0], np.cumsum(np.diff(eigenvalues[1:]) > 16 * rounding)])
        most = int(level[-1]) + 1
        self.num_levels = most if num_levels is None else checks.check_positive_int("num_levels", num_levels, most)
        kept = level < self.num_levels
        first = np.searchsorted(level, np.arange(self.num_levels))
        falls = np.exp(-checks.check_positive("time", time) * eigenvalues[1:][first] / eigenvalues[1])
        self.functions = jnp.asarray(math.sqrt(len(weights)) * vectors[:, 1:][:, kept], float)
        self.level = jnp.asarray(level[kept])
        self.alpha = jnp.asarray(falls, float)

    def members(self, name: str, sample: Any) -> Int[Array, " n"]:
        check_sample(name, sample)
        nodes = len(self.functions)
        if np.ndim(sample) != 1 or not jnp.issubdtype(sample.dtype, jnp.integer):
            raise TypeError(f"{name} must be the number of a node a member, got {checks.describe(sample)}")
        if not isinstance(sample, Tracer) and not (np.min(sample) >= 0 and np.max(sample) < nodes):
            raise ValueError(
                f"{name} must be numbers of nodes from 0 to {nodes - 1}, got {np.min(sample)} to {np.max(sample)}"
            )
        return jnp.asarray(sample)

    def size(self, members: Int[Array, " n"]) -> int:
        return self.functions.shape[1]

    def weights(self) -> Float[Array, " levels"]:
        return self.alpha * self._sums(jnp.ones_like(self.functions[0]))

    def values(self, function: Float[Array, " r"], members: Int[Array, " n"]) -> Float[Array, "levels n"]:
        z = function.astype(self.functions.dtype)
        mixed = self._sums((self.functions * z[None]).T) / jnp.sqrt(self._sums(z**2))[:, None]
        return mixed[:, members]

    def moments(self, x: Int[Array, " n"], y: Int[Array, " m"]) -> Float[Array, "3 levels"]:
        sums = self._sums(_of_columns(self.functions[x], self.functions[y]).T).T
        return _beyond_rounding(sums[:3], sums[3]) / self._sums(jnp.ones_like(self.functions[0]))[None]

    def _sums(self, of: Float[Array, "r *more"]) -> Float[Array, "levels *more"]:
        return jax.ops.segment_sum(of, self.level, self.num_levels)


def _over_all(x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, " 3"]:
    """The squared distance of the means, and the traces of the covariances."""
    each = _of_columns(x, y)
    return _beyond_rounding(jnp.sum(each[:3], axis=1), jnp.sum(each[3]))


def _of_columns(x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "4 d"]:
    """Their squared differences of means, their variances, and a square of which rounding is a part."""
    shift = jnp.mean(x, axis=0) - jnp.mean(y, axis=0)
    square = jnp.maximum(jnp.mean(x**2, axis=0), jnp.mean(y**2, axis=0))
    return jnp.stack([shift**2, jnp.var(x, axis=0), jnp.var(y, axis=0), square])


def _beyond_rounding(moments: Float[Array, "3 *levels"], square: Float[Array, "*levels"]) -> Float[Array, "3 *levels"]:
    """0 in place of the square of what rounding makes of equal numbers, or of little more."""
    return jnp.where(moments > (4096 * jnp.finfo(square.dtype).eps) ** 2 * square[None], moments, 0)


def _check_adjacency(adjacency: Any) -> np.ndarray:
    if isinstance(adjacency, Tracer) or not hasattr(adjacency, "dtype"):
        raise TypeError(f"adjacency must be an array of weights, got {checks.describe(adjacency)}")
    if jnp.issubdtype(adjacency.dtype, jnp.complexfloating):
        raise TypeError(f"adjacency must be an array of real weights, got {checks.describe(adjacency)}")
    weights = np.asarray(adjacency, float)
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1] or len(weights) < 2:
        raise ValueError(f"adjacency must be a square matrix of two nodes at least, got {checks.describe(adjacency)}")
    if not np.all(np.isfinite(weights)) or np.any(weights < 0):
        raise ValueError("adjacency must be finite weights from 0 on")
    if not np.array_equal(weights, weights.T):
        raise ValueError("adjacency must be symmetric: the weight of an edge is the same both ways")
    return weights
