"""Slices along curves: a bracket around the current point, and a point drawn from the slice inside of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from variate.mcmc.base import Info, LogDensity
from variate.mcmc.random_walk import State

_MOST = 50  # points that are tried in a bracket, which is then a hundred millionth of what it was

Curve = Callable[[Float[Array, ""]], Float[Array, ""]]  # the log density along a curve, which is now at 0


class Found(NamedTuple):
    """A point of a slice, or the current one if none was found."""

    t: Float[Array, ""]
    log_density: Float[Array, ""]
    inside: Bool[Array, ""]
    lost: Bool[Array, ""]  # the density was no number somewhere
    evaluations: Int[Array, ""]

    def info(self) -> Info:
        """Of one search, or of several with a leading axis: the share of those that found a point."""
        share = jnp.mean(self.inside.astype(self.log_density.dtype))
        return Info(share, jnp.any(self.inside), jnp.any(self.lost), jnp.sum(self.evaluations, dtype=jnp.int32))


def below(key: Key[Array, ""], log_density: Float[Array, ""]) -> Float[Array, ""]:
    """The logarithm of a height that is uniform below a density."""
    return log_density - jax.random.exponential(key, (), log_density.dtype)


def inside(log_density: Float[Array, ""], level: Float[Array, ""]) -> Bool[Array, ""]:
    """Whether a point is in the slice; one without mass, or where the density is no number, is in none."""
    return (log_density >= level) & (log_density > -jnp.inf)


def widen(
    key: Key[Array, ""], curve: Curve, level: Float[Array, ""], most: int
) -> tuple[Float[Array, "2"], Bool[Array, ""], Int[Array, ""]]:
    """The ends of a bracket of length one around 0, each moved outwards by ones until it is off the slice.

    They move by `most` - 1 together, shared between them at random: a bracket of any point in it is as likely.

    Source: Neal (2003), Slice sampling, Annals of Statistics 31(3), 705-767, figure 3.
    """
    place, share = jax.random.uniform(key, (2,), level.dtype)
    left = jnp.floor(most * share).astype(jnp.int32)

    def moved(end: Array, stride: Array, steps: Array) -> tuple[Array, Array, Array]:
        def once(at: tuple[Array, ...]) -> tuple[Array, ...]:
            end, steps, _, lost, count = at
            value = curve(end)
            going = inside(value, level)
            return jnp.where(going, end + stride, end), steps - 1, going, lost | jnp.isnan(value), count + 1

        begun = (end, steps, jnp.asarray(True), jnp.asarray(False), jnp.zeros_like(steps))
        end, _, _, lost, count = lax.while_loop(lambda at: at[2] & (at[1] > 0), once, begun)
        return end, lost, count

    stride = jnp.array([-1, 1], level.dtype)
    ends, lost, count = jax.vmap(moved)(jnp.stack([-place, 1 - place]), stride, jnp.stack([left, most - 1 - left]))
    return ends, jnp.any(lost), jnp.sum(count, dtype=jnp.int32)


def shrink(
    key: Key[Array, ""], curve: Curve, level: Float[Array, ""], low: Float[Array, ""], high: Float[Array, ""]
) -> Found:
    """The first point of the slice among points uniform in a bracket around 0, which each that is not cuts shorter.

    The search ends without one after 50 points, which is as likely from there to here as from here to there.

    Source: Neal (2003), Slice sampling, Annals of Statistics 31(3), 705-767, figure 5.
    """

    def drawn(key: Array, low: Array, high: Array) -> Array:
        return jax.random.uniform(key, (), level.dtype, low, high)

    def once(at: tuple[Array, Array, Array, Found]) -> tuple[Array, Array, Array, Found]:
        key, low, high, found = at
        key, key_t = jax.random.split(key)
        t = drawn(key_t, low, high)
        value = curve(t)
        found = Found(t, value, inside(value, level), found.lost | jnp.isnan(value), found.evaluations + 1)
        return key, jnp.where(t < 0, t, low), jnp.where(t < 0, high, t), found

    def going(at: tuple[Array, Array, Array, Found]) -> Array:
        return ~at[3].inside & (at[3].evaluations < _MOST)

    begun = Found(jnp.zeros_like(level), level, jnp.asarray(False), jnp.isnan(level), jnp.zeros((), jnp.int32))
    found = lax.while_loop(going, once, (key, low, high, begun))[3]
    return found._replace(t=jnp.where(found.inside, found.t, 0))


def turn(key: Key[Array, ""], curve: Curve, level: Float[Array, ""]) -> Found:
    """A point of the slice on a closed curve of length 2 pi, whose bracket is all of it, cut at a random place."""
    key_cut, key_shrink = jax.random.split(key)
    high = 2 * jnp.pi * jax.random.uniform(key_cut, (), level.dtype)
    return shrink(key_shrink, curve, level, high - 2 * jnp.pi, high)


def line(key: Key[Array, ""], curve: Curve, level: Float[Array, ""], most: int) -> Found:
    """A point of the slice on a line, whose bracket is first of length one and then at most `most`."""
    key_widen, key_shrink = jax.random.split(key)
    (low, high), lost, count = widen(key_widen, curve, level, most)
    found = shrink(key_shrink, curve, level, low, high)
    return found._replace(lost=found.lost | lost, evaluations=found.evaluations + count)


def along(
    key: Key[Array, ""], log_density: LogDensity, state: State, direction: Float[Array, " d"], most: int
) -> tuple[State, Found]:
    """The next state on the line through a state, in a direction as long as the first bracket."""
    key_level, key_line = jax.random.split(key)
    level = below(key_level, state.log_density)
    found = line(key_line, lambda t: log_density(state.position + t * direction), level, most)
    return chosen(found, State(state.position + found.t * direction, found.log_density), state), found


def chosen(found: Found, new: Any, old: Any) -> Any:
    """The new state, if there is one."""
    return jax.tree.map(lambda x, y: jnp.where(found.inside, x, y), new, old)
