"""What kernels share: the position that they work on, and the decision of Metropolis and Hastings."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Key

from variate.programs import distributions
from variate.protocols import Kernel

State = TypeVar("State", bound=tuple)
LogDensity = Callable[[Float[Array, " d"]], Float[Array, ""]]
# S with S S^T about the covariance: of all coordinates, of each, or a lower triangle.
Scale = float | Float[Array, "..."]


class Info(NamedTuple):
    """What a step tells of itself."""

    acceptance: Float[Array, ""]  # probability, not the decision
    accepted: Bool[Array, ""]
    divergent: Bool[Array, ""]  # the proposal's density was no number, or the energy of its path was lost
    evaluations: Int[Array, ""] | int = 1  # of the density, or of its gradient
    energy: Float[Array, ""] | None = None  # with which a path began, where there is one


def unbound(position: Float[Array, " d"]) -> Float[Array, ""]:
    """The log density of a kernel that was given none."""
    raise TypeError("log_density: the kernel has none yet; give it one, RandomWalk(0.5, log_density=f) say")


def given(name: str, value: Any) -> Any:
    """The setting of a kernel that runs, which has to be known by then."""
    if value is None:
        raise TypeError(f"{name}: the kernel has none; vt.sample finds it, or give it one")
    return value


def is_kernel(value: Any) -> bool:
    """Whether it is a kernel, not its class, that can be given a density."""
    return not inspect.isclass(value) and isinstance(value, Kernel) and hasattr(value, "log_density")


def walkers_of(kernel: Any) -> int:
    """How many draws a step of a kernel makes, which depend on each other."""
    return getattr(kernel, "walkers", 1)


def has_history(kernel: Any) -> bool:
    """Whether a step of a kernel depends on more than the one before, which its state keeps."""
    return getattr(kernel, "history", False)


def vector_drawn(name: str, distribution: Any, key: Key[Array, ""], position: Float[Array, " d"]) -> Float[Array, " d"]:
    """A draw of a distribution on vectors; raises ValueError for one of another shape than the position."""
    draw = jnp.asarray(distributions.sample(distribution, key))
    if jnp.shape(draw) != position.shape:
        raise ValueError(
            f"{name} must draw vectors like the position, of shape {position.shape}, got {jnp.shape(draw)}"
        )
    return draw.astype(position.dtype)


def vector_log_prob(distribution: Any, position: Float[Array, " d"]) -> Float[Array, ""]:
    """Of all members of a batch together."""
    # A distribution that has been through a transformation forgets that it masks what is off its support.
    return jnp.sum(distributions.drawn_log_prob(distribution, position, checked=True)).astype(position.dtype)


def check_scale(name: str, value: Any) -> None:
    """Raise ValueError unless what is known of a step size or scale is positive and finite."""
    if value is None or isinstance(value, Tracer):
        return
    numbers = np.asarray(value)
    if numbers.dtype == object:
        return
    if numbers.ndim > 2 or (numbers.ndim == 2 and np.any(numbers != np.tril(numbers))):
        raise ValueError(f"{name} must be a number, one for each coordinate or a lower triangle, got {value}")
    positive = np.diagonal(numbers) if numbers.ndim == 2 else numbers
    if not (np.all(positive > 0) and np.all(np.isfinite(numbers))):
        raise ValueError(f"{name} must be positive and finite, got {value}")


def check_finite(name: str, value: Any) -> None:
    """Raise ValueError unless what is known of a point is finite."""
    if not isinstance(value, Tracer) and not np.all(np.isfinite(np.asarray(value, float))):
        raise ValueError(f"{name} must be finite, got {value}")


def stretched(scale: Any, z: Float[Array, " d"]) -> Float[Array, " d"]:
    """S z, from the coordinates in which all scales are one."""
    return jnp.asarray(scale) @ z if jnp.ndim(scale) == 2 else scale * z


def pulled(scale: Any, gradient: Float[Array, " d"]) -> Float[Array, " d"]:
    """The gradient in the coordinates in which all scales are one."""
    return gradient @ jnp.asarray(scale) if jnp.ndim(scale) == 2 else scale * gradient


def metropolis(
    key: Key[Array, ""], log_ratio: Float[Array, ""], proposal: State, state: State
) -> tuple[State, Float[Array, ""], Bool[Array, ""]]:
    r"""The proposal with probability $\min(1, e^r)$, else the state; r, the log ratio of Metropolis and Hastings.

    A ratio that is no number is never accepted. Returns the acceptance probability and the decision too.

    Source: Hastings (1970), Monte Carlo sampling methods using Markov chains and their applications, Biometrika 57(1),
    97-109, section 2.
    """
    acceptance = jnp.where(jnp.isnan(log_ratio), 0, jnp.exp(jnp.minimum(log_ratio, 0)))
    accepted = jax.random.uniform(key, dtype=acceptance.dtype) < acceptance
    return jax.tree.map(lambda new, old: jnp.where(accepted, new, old), proposal, state), acceptance, accepted
