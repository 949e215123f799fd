"""Distances between samples on a line, and what all distances between samples ask of their arguments."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from variate import checks
from variate.trees import as_float


def check_samples(x: Any, y: Any) -> tuple[Float[Array, "n d"], Float[Array, "m d"]]:
    """Two samples as rows of numbers, whatever the shape of a member.

    Raises:
        TypeError: something that is no array of real numbers.
        ValueError: samples without members, or with members of different shapes.
    """
    found = []
    for name, sample in (("x", x), ("y", y)):
        dtype = getattr(sample, "dtype", None)
        if dtype is None or jnp.issubdtype(dtype, jnp.complexfloating) or jnp.issubdtype(dtype, jax.dtypes.extended):
            raise TypeError(f"{name} must be an array of real numbers, got {checks.describe(sample)}")
        if np.ndim(sample) == 0 or np.size(sample) == 0:
            raise ValueError(f"{name} must have its members along the first axis, got {checks.describe(sample)}")
        found.append(as_float(sample).reshape(len(sample), -1))
    if np.shape(x)[1:] != np.shape(y)[1:]:
        raise ValueError(
            f"x and y must have members of one shape, got {checks.describe(x)} and {checks.describe(y)}, with their "
            "members along the first axis"
        )
    return found[0], found[1]


def check_order(order: Any) -> float:
    """The p of a distance.

    Raises:
        ValueError: a number below 1, or none at all.
    """
    if isinstance(order, bool) or not isinstance(order, int | float) or not 1 <= order < np.inf:
        raise ValueError(f"order must be a number from 1 on, got {checks.describe(order)}")
    return float(order)


def line_distance(x: Float[Array, " n"], y: Float[Array, " m"], order: float) -> Float[Array, ""]:
    r"""$W_p^p = \int_0^1 |F^{-1}(u) - G^{-1}(u)|^p du$ of the empirical distributions of two sorted samples."""
    if len(x) == len(y):
        return jnp.mean(jnp.abs(x - y) ** order)
    edges = np.union1d(np.arange(len(x) + 1) / len(x), np.arange(len(y) + 1) / len(y))
    middles, widths = (edges[1:] + edges[:-1]) / 2, jnp.asarray(np.diff(edges), x.dtype)
    both = (sample[(middles * len(sample)).astype(int)] for sample in (x, y))
    return jnp.sum(widths * jnp.abs(next(both) - next(both)) ** order)
