"""What the laws of this room share: checks of their parameters, noise, and sums in logs."""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Key

from variate.checks import describe
from variate.programs import generator


def check_logits(logits: Any, axes: int = 1) -> Float[Array, "..."]:
    """Real and, where they have a value, finite; with `axes` axes or more, none of which is empty."""
    found = jnp.asarray(logits)
    if not jnp.issubdtype(found.dtype, jnp.floating):
        raise TypeError(f"logits must be real numbers, got {describe(found)}: cast them with .astype(float)")
    if found.ndim < axes or 0 in found.shape[-axes:]:
        raise ValueError(f"logits must have {axes} axes or more, each of length one or more, got {describe(found)}")
    if not isinstance(found, Tracer):
        values = np.asarray(found, np.float64)
        wrong = values[~np.isfinite(values)]
        if wrong.size:
            raise ValueError(f"logits must be finite, got {wrong[0]}: -1e4 keeps an item out for all that matters")
    return found


def check_size(name: str, size: Any, most: int, of: str) -> int:
    """An integer that Python knows, from 1 to `most`."""
    try:
        number = operator.index(size)
    except TypeError:
        number = 0
    if isinstance(size, bool | np.bool_ | Tracer) or not 1 <= number <= most:
        error = ValueError if isinstance(size, int | np.integer) and not isinstance(size, bool) else TypeError
        raise error(f"{name} must be an integer from 1 to {most}, {of}, got {describe(size)}")
    return number


def gumbel(key: Key[Array, ""], like: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Standard Gumbel noise whose upper tail, which decides who is first, is not cut off in single precision."""
    return jax.random.gumbel(generator.flat(key), like.shape, like.dtype, mode="high")


# In these, what is only there for stability is held before it is compared: a maximum would be taken for a kink.


def log_sum_exp(x: Float[Array, "*batch n"]) -> Float[Array, "*batch"]:
    most = jnp.max(lax.stop_gradient(x), axis=-1, keepdims=True)
    return jnp.log(jnp.sum(jnp.exp(x - most), axis=-1)) + jnp.squeeze(most, -1)


def log_softmax(x: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    return x - log_sum_exp(x)[..., None]


def log_add(a: Float[Array, "*shape"], b: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Of finite numbers."""
    most = jnp.maximum(lax.stop_gradient(a), lax.stop_gradient(b))
    return jnp.log(jnp.exp(a - most) + jnp.exp(b - most)) + most


def is_mask(x: Float[Array, "*batch n"], size: int) -> Bool[Array, "*batch"]:
    """Whether `x` is of zeros and `size` ones."""
    ones = jnp.sum(x == 1, axis=-1)
    return (ones == size) & (ones + jnp.sum(x == 0, axis=-1) == x.shape[-1])


def check_value(x: Any, logits: Array, event: tuple[int, ...], axes: int = 1) -> tuple[Array, Array]:
    """A value whose last axes are those of an event, and logits, of which `axes` are no batch, with the same batch."""
    found = jnp.asarray(x)
    if found.shape[max(found.ndim - len(event), 0) :] != event:
        raise ValueError(f"x must end in axes of lengths {event}, got {describe(found)}")
    own = logits.ndim - axes
    batch = jnp.broadcast_shapes(found.shape[: found.ndim - len(event)], logits.shape[:own])
    return jnp.broadcast_to(found, batch + event), jnp.broadcast_to(logits, batch + logits.shape[own:])


def check_mask(x: Any, logits: Array, length: int, axes: int = 1) -> tuple[Array, Array]:
    """The same for a mask of this length, which may be of integers or booleans."""
    found, logits = check_value(x, logits, (length,), axes)
    return found.astype(logits.dtype), logits
