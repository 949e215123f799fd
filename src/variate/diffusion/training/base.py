"""What losses check of their arguments, as far as `jit` lets them be seen."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from variate.checks import check_key, describe

from ..checks import check_points
from ..denoisers.base import Denoiser


def check_rows(key: Any, rows: Any) -> Float[Array, "n ..."]:
    check_key(key)
    return check_points("rows", rows)


def check_column(name: str, value: Any, rows: Float[Array, "n ..."]) -> Float[Array, " n"]:
    """One number for each row: with another axis, errors would be multiplied by all of them."""
    column = jnp.asarray(value)
    if column.shape != rows.shape[:1] or not jnp.issubdtype(column.dtype, jnp.floating):
        raise ValueError(f"{name} must be {len(rows)} real numbers, one for each row, got {describe(column)}")
    return column


def check_times(name: str, value: Any, model: Denoiser, rows: Float[Array, "n ..."]) -> Float[Array, " n"]:
    times, horizon = check_column(name, value, rows), model.process.horizon
    traced = isinstance(times, Tracer) or isinstance(horizon, Tracer)
    if not traced and not np.all((np.asarray(times) >= 0) & (np.asarray(times) <= horizon)):
        ends = f"{np.min(times):.4g} and {np.max(times):.4g}"
        raise ValueError(f"{name} must lie between 0 and {horizon}, the horizon, got numbers between {ends}")
    return times
