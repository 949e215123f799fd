"""The heat bath: each coordinate in turn drawn from its conditional law over the few values that it can have."""

import operator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from .base import Info, LogDensity, unbound


class State(NamedTuple):
    position: Float[Array, " d"]


def _counts(counts: Any) -> int | tuple[int, ...]:
    try:
        found = tuple(operator.index(count) for count in counts) if hasattr(counts, "__iter__") else (int(counts),)
    except TypeError:
        raise TypeError(f"counts must be integers, got {counts}") from None
    if not found or min(found) < 1:
        raise ValueError(f"counts must be positive, got {counts}")
    return found if hasattr(counts, "__iter__") else found[0]


class HeatBath(eqx.Module):
    r"""Gibbs sampling of coordinates that are 0, 1, ..., K - 1, one by one: $x_i \sim \pi(x_i \mid x_{-i})$.

    A step goes once through all coordinates, in an order that is drawn anew: so it is reversible, and leaves $\pi$
    invariant. It evaluates the density K times for each coordinate, of all K values at once.

    Choose it for discrete coordinates of few values, in `Gibbs` beside a kernel of the real ones. The wrong choice
    where coordinates hold each other, so that one alone hardly moves; for binary ones whose density is dear, there
    `LocallyBalanced` flips one at a time. A density that is no number counts as no mass, and the step as divergent.

    Raises:
        TypeError: counts that are no integers.
        ValueError: counts that are not positive; while it runs, not one for each coordinate.

    Source: Geman and Geman (1984), Stochastic relaxation, Gibbs distributions, and the Bayesian restoration of images,
    IEEE Trans. Pattern Anal. Mach. Intell. 6(6), 721-741.
    """

    counts: int | tuple[int, ...] = eqx.field(static=True, converter=_counts)  # K, of each coordinate or of all
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        if isinstance(self.counts, tuple) and len(self.counts) != position.size:
            raise ValueError(f"counts must be one for each of {position.size} coordinates, got {len(self.counts)}")
        return State(position)

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_order, key_turns = jax.random.split(key)
        order = jax.random.permutation(key_order, state.position.size)
        position, lost = self.turned(key_turns, state.position, order)
        moved, evaluations = jnp.any(position != state.position), state.position.size * int(np.max(self.counts))
        return State(position), Info(jnp.ones((), position.dtype), moved, jnp.any(lost), evaluations)

    def turned(
        self, key: Key[Array, ""], position: Float[Array, " d"], order: Int[Array, " n"]
    ) -> tuple[Float[Array, " d"], Bool[Array, " n"]]:
        """With new values of the coordinates in `order`, one after another; where a density was no number."""
        counts, values = jnp.broadcast_to(jnp.asarray(self.counts), position.shape), jnp.arange(np.max(self.counts))

        def turn(position: Array, at: tuple[Int[Array, ""], Key[Array, ""]]) -> tuple[Array, Array]:
            site, own = at
            with_value = position.at[site].set
            each = jax.vmap(lambda value: self.log_density(with_value(value.astype(position.dtype))))(values)
            possible = values < counts[site]
            lost = jnp.any(possible & jnp.isnan(each))
            each = jnp.where(possible & ~jnp.isnan(each), each, -jnp.inf)
            drawn = jax.random.categorical(own, each).astype(position.dtype)
            # Where no value has mass it stays.
            return jnp.where(jnp.max(each) > -jnp.inf, with_value(drawn), position), lost

        return lax.scan(turn, position, (order, jax.random.split(key, len(order))))
