"""Distances between samples on a line, and what all distances between samples ask of their arguments."""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from variate import checks
from variate.programs import draw
from variate.trees import as_float


@runtime_checkable
class Space(Protocol):
    """Where members live, and random functions on it, each of some levels, that push them to the line."""

    def members(self, name: str, sample: Any) -> Array:
        """A sample as what `values` takes, one member a row; raises for what is none."""
        ...

    def size(self, members: Array) -> int:
        """How many normal numbers make a function."""
        ...

    def values(self, function: Float[Array, " size"], members: Array) -> Float[Array, "levels n"]: ...

    def weights(self) -> Float[Array, " levels"]: ...

    def moments(self, x: Array, y: Array) -> Float[Array, "3 levels"]:
        r"""Means over all functions f of $(\bar f(x) - \bar f(y))^2$ and of the variances of f(x) and f(y).

        0 where that is not known beyond rounding.
        """
        ...


def check_space(on: Any) -> None:
    """Raise unless `on` is a space."""
    if not isinstance(on, Space) or isinstance(on, type):
        raise TypeError(f"on must be a space, as Circle() or Sphere(), got {checks.describe(on)}")


def check_sample(name: str, sample: Any) -> Float[Array, "n d"]:
    """A sample as rows of numbers, whatever the shape of a member.

    Raises:
        TypeError: something that is no array of real numbers.
        ValueError: a sample without members, or with a NaN or an infinity.
    """
    dtype = getattr(sample, "dtype", None)
    if dtype is None or jnp.issubdtype(dtype, jnp.complexfloating) or jnp.issubdtype(dtype, jax.dtypes.extended):
        raise TypeError(f"{name} must be an array of real numbers, got {checks.describe(sample)}")
    if np.ndim(sample) == 0 or np.size(sample) == 0:
        raise ValueError(f"{name} must have its members along the first axis, got {checks.describe(sample)}")
    if not isinstance(sample, Tracer) and (bad := int(np.sum(~np.isfinite(np.asarray(sample, float))))):
        raise ValueError(f"{name} must be finite, got {bad} numbers of {np.size(sample)} that are not")
    return as_float(sample).reshape(len(sample), -1)


def check_alike(x: Any, y: Any) -> None:
    """Raise unless members of the two have one shape."""
    if np.shape(x)[1:] != np.shape(y)[1:]:
        raise ValueError(
            f"x and y must have members of one shape, got {checks.describe(x)} and {checks.describe(y)}, with their "
            "members along the first axis"
        )


def check_samples(x: Any, y: Any) -> tuple[Float[Array, "n d"], Float[Array, "m d"]]:
    """Two samples as rows of numbers; raises as `check_sample` and `check_alike` do."""
    found = check_sample("x", x), check_sample("y", y)
    check_alike(x, y)
    return found


def check_order(order: Any) -> float:
    """The p of a distance.

    Raises:
        ValueError: a number below 1, or none at all.
    """
    if isinstance(order, bool) or not isinstance(order, int | float) or not 1 <= order < np.inf:
        raise ValueError(f"order must be a number from 1 on, got {checks.describe(order)}")
    return float(order)


def draw_function(key: Key[Array, ""], size: int) -> Float[Array, " size"]:
    """Normal numbers, whose direction is uniform on the sphere."""
    return draw(key, dist.Normal(jnp.zeros(size), 1.0).to_event(1), name="function")


def unit(z: Float[Array, " d"]) -> Float[Array, " d"]:
    return z / jnp.linalg.norm(z)


def line_distance(x: Float[Array, " n"], y: Float[Array, " m"], order: float) -> Float[Array, ""]:
    r"""$W_p^p = \int_0^1 |F^{-1}(u) - G^{-1}(u)|^p du$ of the empirical distributions of two sorted samples."""
    if len(x) == len(y):
        return jnp.mean(jnp.abs(x - y) ** order)
    a, b, widths = matched(x, y)
    return jnp.sum(widths * jnp.abs(a - b) ** order)


def matched(
    x: Float[Array, " n"], y: Float[Array, " m"]
) -> tuple[Float[Array, " k"], Float[Array, " k"], Float[Array, " k"]]:
    """Both quantile functions where neither jumps, of sorted samples, and the widths of those pieces."""
    edges = np.union1d(np.arange(len(x) + 1) / len(x), np.arange(len(y) + 1) / len(y))
    middles, widths = (edges[1:] + edges[:-1]) / 2, jnp.asarray(np.diff(edges), x.dtype)
    return x[(middles * len(x)).astype(int)], y[(middles * len(y)).astype(int)], widths
