"""The states that chains begin in: those that would begin where none can warm up begin somewhere else."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, PyTree

from .steps import begun

# Where a log density falls like -exp(x), one chain of four that starts 10^5 below the others doubles the gradients of a
# warm-up, and from 10^10 below it spoils it: steps that this chain accepts are too short for the others.
_FAR, _TRIES = 1e5, 10


class NoDensity(ValueError):
    """A chain has nowhere to start."""


def states(
    target: Any,
    like: PyTree[Array],
    tuned: Any,
    key: Key[Array, ""],
    positions: PyTree[Array],
    elsewhere: Callable[[int], PyTree[Array]] | None,
) -> Any:
    """Of the kernel at these positions; of those far below the rest at what `elsewhere` has for them at the n-th try.

    Raises:
        NoDensity: the log density or its gradient is no number where a chain begins.
    """
    state = begun(target, like, tuned, key, positions)
    for attempt in range(_TRIES):
        density = _density(state)
        if elsewhere is None or density.ndim != 1 or not np.any(far := far_below(np.asarray(density))):
            break
        positions = jax.tree.map(functools.partial(_put, far), elsewhere(attempt), positions)
        state = begun(target, like, tuned, jax.random.clone(key), positions)
    if not np.all(np.isfinite(density := _density(state))):
        raise NoDensity(f"start must have a finite log density in every chain, got {density}")
    if not np.all(np.isfinite(gradient := getattr(state, "gradient", np.zeros(0)))):
        name = type(tuned.template).__name__
        raise NoDensity(f"start must have a finite gradient in every chain for {name}, got {gradient}")
    return state


def _density(state: Any) -> Array:
    """Zero of a kernel whose state has none."""
    return getattr(state, "log_density", jnp.zeros(()))


def far_below(density: Float[np.ndarray, " chains"]) -> Bool[np.ndarray, " chains"]:
    """The chains whose log density is so much lower than the best that no step size is right for both.

    And those where rounding alone changes it by one or more, so that no step can be judged.
    """
    best, blurred = np.max(density), -1 / np.finfo(density.dtype).eps
    if not np.isfinite(best):  # no chain has a start, or one none that a density can be compared with
        return np.zeros(density.shape, bool)
    return (best - density > _FAR * (1 + abs(best))) | (density < blurred)


def _put(which: Bool[np.ndarray, " chains"], new: Array, old: Array) -> Array:
    return jnp.where(which.reshape(-1, *[1] * (old.ndim - 1)), new, old)
