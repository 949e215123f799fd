"""Checks that several of this room need and no other room does."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from variate.checks import describe


def check_points(name: str, value: Any) -> jax.Array:
    """Points, one a row, as an array of real numbers; whole ones are made real."""
    try:
        points = jnp.asarray(value)
    except (TypeError, ValueError):
        points = None
    kinds = (jnp.floating, jnp.integer)
    if points is None or points.ndim < 1 or not any(jnp.issubdtype(points.dtype, kind) for kind in kinds):
        raise TypeError(f"{name} must be points of real numbers, one a row, got {describe(value)}")
    return points if jnp.issubdtype(points.dtype, jnp.floating) else points.astype(float)


def check_untraced(name: str, value: Any) -> None:
    """Raise TypeError if it is traced: coefficients are made of it in double precision, outside `jit`."""
    if isinstance(value, Tracer):
        raise TypeError(
            f"{name} must be numbers, which `jit`, `vmap` and `grad` may not trace: close over them instead"
        )
