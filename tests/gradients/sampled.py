"""What a program is that cannot be enumerated: the program, its expectation, and rules to try on it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array


class Sampled(NamedTuple):
    """A program, arguments for it, its expectation as a function of them, and assignments of rules to its draws.

    An empty assignment is the automatic one.
    """

    program: Callable[..., Any]
    args: tuple
    expectation: Callable[..., Any]
    assignments: tuple[dict[str, Any], ...] = ({},)
    samples: int = 20_000


NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)


def over_normal(f: Callable[[Array], Array], mean: Array, scale: Array) -> Array:
    """E f(z) for z ~ Normal(mean, scale) and a smooth f: quadrature, exact to 1e-10 for the functions here."""
    return jnp.sum(WEIGHTS / np.sqrt(2 * np.pi) * f(mean + scale * NODES))
