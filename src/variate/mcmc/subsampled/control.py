"""Control variates: Taylor polynomials of all items of a sum about a center, whose sum is known once for all steps."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from .sum import Parts


class Control(NamedTuple):
    """The sums over all items of what their polynomials are made of; nothing, of order 0."""

    center: Float[Array, " d"] | None
    gradient: Float[Array, " d"] | None
    hessian: Float[Array, "d d"] | None  # of order 2

    @staticmethod
    def about(parts: Parts, center: Any, order: int) -> "Control":
        """By one pass over the data."""
        if order == 0:
            return Control(None, None, None)
        at, start = ravel_pytree(center)[0], parts.target.start()
        if (given := jax.tree.map(jnp.shape, center)) != (like := jax.tree.map(jnp.shape, start)):
            raise ValueError(f"center must have the shapes of a position, {like}, got {given}")

        def total(x: Float[Array, " d"]) -> Float[Array, ""]:
            return jnp.sum(parts.items(x))

        return Control(at, jax.grad(total)(at), jax.hessian(total)(at) if order == 2 else None)

    def between(self, x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
        """What all polynomials together are at y, less that at x."""
        if self.center is None or self.gradient is None:
            return jnp.zeros((), x.dtype)
        slope = self.gradient
        if self.hessian is not None:
            slope = slope + 0.5 * self.hessian @ (x + y - 2 * self.center)
        return slope @ (y - x)

    def rest(
        self, parts: Parts, indices: Int[Array, " m"], x: Float[Array, " d"], y: Float[Array, " d"]
    ) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
        """What some items are at y, less that at x, and less the same of their polynomials; and its rounding error."""
        before, after = parts.items(x, indices), parts.items(y, indices)
        told = jnp.zeros_like(before)
        if (center := self.center) is not None:

            def slope(z: Float[Array, " d"]) -> Float[Array, " m"]:
                found = parts.items(z, indices)
                if self.hessian is None:
                    return found
                across = x + y - 2 * center
                return found + 0.5 * jax.jvp(lambda z: parts.items(z, indices), (z,), (across,))[1]

            told = jax.jvp(slope, (center,), (y - x,))[1]
        rounding = 16 * jnp.finfo(x.dtype).eps * (jnp.abs(before) + jnp.abs(after) + jnp.abs(told))
        return after - before - told, rounding

    def reach(self, x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
        r"""M with $|r(y) - r(x)| \le K M$ for all r with vanishing derivatives below the k-th, of Lipschitz constant K.

        $M = |y - x| \max(|x - c|, |y - c|)^k / k!$, k the order, since $|\nabla r(z)| \le K |z - c|^k / k!$.
        """
        distance = jnp.linalg.norm(y - x)
        if self.center is None:
            return distance
        order = 1 if self.hessian is None else 2
        far = jnp.maximum(jnp.linalg.norm(x - self.center), jnp.linalg.norm(y - self.center))
        return distance * far**order / math.factorial(order)


def check_center(center: Any, order: int, allowed: tuple[int, ...]) -> None:
    """Raise ValueError unless the order is one of those and there is a center where it asks for one."""
    if order not in allowed:
        raise ValueError(f"order must be one of {allowed}, got {order}")
    if (center is None) != (order == 0):
        raise ValueError(f"center must be a position, and is not needed where order is 0, got {center}, {order}")
    for leaf in jax.tree.leaves(center):
        if (
            not isinstance(leaf, Tracer)
            and isinstance(leaf, jax.Array | np.ndarray | float)
            and not np.all(np.isfinite(leaf))
        ):
            raise ValueError(f"center must be finite, got {leaf}")
