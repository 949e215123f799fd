"""Checks that several of this room need and no other room does."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from variate.checks import describe, name_of


def check_points(name: str, value: Any) -> jax.Array:
    """Points, one a row, as an array of real numbers; whole ones are made real."""
    points = _real(value)
    if points is None or points.ndim < 1:
        raise TypeError(f"{name} must be points of real numbers, one a row, got {describe(value)}")
    return points


def check_point(name: str, value: Any) -> jax.Array:
    """One point, likewise."""
    point = _real(value)
    if point is None:
        raise TypeError(f"{name} must be a point, an array of real numbers, got {describe(value)}")
    return point


def _real(value: Any) -> jax.Array | None:
    if isinstance(value, str):
        return None
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        return None
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer)):
        return None
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


def check_numbers(name: str, value: Any) -> np.ndarray:
    """An array of real numbers in double precision, outside of any program."""
    check_untraced(name, value)
    try:
        array = np.asarray(value)
        if not np.iscomplexobj(array):
            return array.astype(np.float64)
    except (TypeError, ValueError):  # words, or rows of several lengths
        pass
    raise TypeError(f"{name} must be an array of real numbers, got {describe(value)}")


def asked(name: str, function: Callable[..., Any], *args: Any) -> Any:
    """What a function says inside a program; raises TypeError where it is not made of what JAX can trace.

    Functions of NumPy and PyTorch, `float` and `if` need numbers, and inside a program there are none yet.
    """
    try:
        return function(*args)
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
        cause = error
    except (AttributeError, TypeError) as error:
        if "Tracer" not in str(error):  # a mistake of its own, which says enough
            raise
        cause = error
    raise TypeError(
        f"{name} must be made of what JAX can trace, jax.numpy and jax.lax say, got {name_of(function)}, which asks "
        "for numbers that are not there before the program runs: for NumPy's there is jax.pure_callback, for a module "
        "of PyTorch vt.diffusion.TorchFunction"
    ) from cause


def check_untraced(name: str, value: Any) -> None:
    """Raise TypeError if it is traced: coefficients are made of it in double precision, outside `jit`."""
    if isinstance(value, Tracer):
        raise TypeError(
            f"{name} must be numbers, which `jit`, `vmap` and `grad` may not trace: close over them instead"
        )
