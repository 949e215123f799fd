"""Sums over tables of log weights with an axis for each draw that is summed out, one draw after another."""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Key

from variate.programs.weighing import Piece

Axes = tuple[int, ...]  # indices of draws, ascending, each an axis of its values, in front of all other axes
LogSum = Callable[[Array, int, int], Array]  # over an axis of an array, and the draw that it is of


class Table(NamedTuple):
    """A log weight for all values of the draws in `axes`, and behind them for elements.

    `links`: for each draw whose elements are summed alone, behind which axes they are here, in its own order.
    """

    log: Array
    axes: Axes
    links: Mapping[int, tuple[int, ...]]

    @property
    def sizes(self) -> dict[int, int]:
        return dict(zip(self.axes, self.log.shape, strict=False))


class Run(NamedTuple):
    """Outputs, the draws that each is an array over, the log weights, and what made them."""

    outputs: list[Any]
    axes: list[Axes]
    tables: list[Table]
    pieces: dict[int, Piece]


class Unlinked(Exception):
    """Elements of two draws are linked in more than one way."""


def joined(each: Sequence[Axes]) -> Axes:
    return tuple(sorted({axis for axes in each for axis in axes}))


def without(axes: Axes, others: Collection[int]) -> Axes:
    return tuple(axis for axis in axes if axis not in others)


def sizes_of(arrays: Sequence[Any], own: Sequence[Axes]) -> dict[int, int]:
    each = zip(arrays, own, strict=True)
    return {axis: size for x, axes in each for axis, size in zip(axes, jnp.shape(x), strict=False)}


def reduced(piece: Piece, axes: Axes) -> Piece:
    """For those values for which the density is largest; what was given is the same for all."""
    leading, first = tuple(range(len(axes))), (0,) * len(axes)
    values, volume = jax.tree.map(lambda x: jnp.asarray(x)[first], (piece.values, piece.volume))
    return Piece(jnp.max(piece.log_density, leading), jnp.max(piece.invalid, leading), values, volume)


def mapped(function: Any, axes: Sequence[Axes]) -> Any:
    """`function` mapped over the axes of all of its operands, which are in front of all results."""
    for axis in reversed(joined(axes)):
        function = jax.vmap(function, tuple(0 if axis in own else None for own in axes))
    return function


def spread(x: Array, axes: Axes, onto: Axes, sizes: Mapping[int, int]) -> Array:
    """With the axes `onto`, all of `axes` among them, in front."""
    order = [axes.index(axis) for axis in onto if axis in axes]
    behind = range(len(axes), x.ndim)
    x = jnp.transpose(x, (*order, *behind))
    x = jnp.expand_dims(x, [n for n, axis in enumerate(onto) if axis not in axes])
    return jnp.broadcast_to(x, (*(sizes[axis] for axis in onto), *x.shape[len(onto) :]))


def summed_over(tables: Sequence[Table], draw: int, log_sum: LogSum) -> list[Table]:
    """The tables without a draw, those that it was in multiplied and summed over its values, element by element."""
    own, rest = [t for t in tables if draw in t.axes], [t for t in tables if draw not in t.axes]
    axes = joined([t.axes for t in own])
    sizes = {axis: size for t in own for axis, size in t.sizes.items()}
    links = links_without(draw, [{axis: t.links.get(axis, ()) for axis in t.axes} for t in own])
    total = added([spread(_elements(t, draw), t.axes, axes, sizes) for t in own])
    found = log_sum(total, axes.index(draw), draw)
    return [*rest, Table(found, tuple(axis for axis in axes if axis != draw), links)]


def added(parts: Sequence[Array]) -> Array:
    """Their sum; elements along which a table does not vary are its axes of size 1."""
    shape = jnp.broadcast_shapes(*(x.shape for x in parts))
    return sum((jnp.broadcast_to(x, shape) for x in parts[1:]), jnp.broadcast_to(parts[0], shape))


def _elements(table: Table, draw: int) -> Array:
    """Its log weights with no elements behind but those of a draw, in its own order."""
    at, keep = len(table.axes), table.links.get(draw, ())
    x = jnp.sum(table.log, [at + n for n in range(table.log.ndim - at) if n not in keep])
    left = sorted(keep)
    return jnp.transpose(x, (*range(at), *(at + left.index(n) for n in keep)))


def links_without(draw: int, links: Sequence[Mapping[int, tuple[int, ...]]]) -> dict[int, tuple[int, ...]]:
    """Where the elements of other draws are when those of `draw` alone are left; `Unlinked` where that differs."""
    found: dict[int, tuple[int, ...]] = {}
    for each in links:
        for other, places in each.items():
            if other == draw:
                continue
            if not set(places) <= set(each[draw]):
                raise Unlinked
            here = tuple(each[draw].index(place) for place in places)
            if found.setdefault(other, here) != here:
                raise Unlinked
    return found


def order(tables: Sequence[Mapping[int, int]], finest: Mapping[int, int]) -> int:
    """Which draw to sum out next: of those of the most axes of elements, that which leaves the smallest table."""

    def cost(draw: int) -> tuple[int, int, int]:
        sizes = {axis: size for table in tables if draw in table for axis, size in table.items()}
        count = 1
        for size in sizes.values():
            count *= size
        return -finest.get(draw, 0), count, -draw

    return min({draw for table in tables for draw in table}, key=cost)


def summed(tables: Sequence[Table], keep: Axes, finest: Mapping[int, int], log_sum: LogSum) -> list[Table]:
    """Tables of the draws in `keep`; all others are summed out."""
    tables = list(tables)
    while left := [{a: n for a, n in t.sizes.items() if a not in keep} for t in tables if not set(t.axes) <= set(keep)]:
        tables = summed_over(tables, order(left, finest), log_sum)
    return tables


def together(tables: Sequence[Table], draws: Axes) -> tuple[Table, list[Table]]:
    """One table of all that depends on any of the `draws`, whose elements are linked alike, and the tables left.

    Elements that are not theirs are added up.
    """
    own, rest = [t for t in tables if {*draws} & {*t.axes}], [t for t in tables if not {*draws} & {*t.axes}]
    if not own:
        return Table(jnp.zeros(()), (), {}), rest
    axes = joined([t.axes for t in own])
    sizes = {axis: size for t in own for axis, size in t.sizes.items()}
    log = added([spread(_elements(t, min({*draws} & {*t.axes})), t.axes, axes, sizes) for t in own])
    return Table(log, axes, dict.fromkeys(draws, tuple(range(log.ndim - len(axes))))), rest


def total(tables: Sequence[Table]) -> Array:
    """Of tables of no draws."""
    return sum((jnp.sum(t.log) for t in tables), jnp.zeros(()))


def log_sum(x: Array, axis: int, draw: int = 0) -> Array:
    """Of values that cannot be, minus infinity without a derivative that is NaN."""
    most = lax.stop_gradient(jnp.max(x, axis, keepdims=True))
    most = jnp.where(jnp.isfinite(most), most, 0)
    total = jnp.sum(jnp.exp(x - most), axis)
    return jnp.where(total == 0, -jnp.inf, jnp.log(jnp.where(total == 0, 1, total)) + jnp.squeeze(most, axis))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def drawing_log_sum(x: Array, axis: int, key: Key[Array, ""]) -> Array:
    """`log_sum` whose derivative is that by one of the values, which is drawn with its share of the sum."""
    return log_sum(x, axis)


def _forth(x: Array, axis: int, key: Key[Array, ""]) -> tuple[Array, tuple[Array, Key[Array, ""]]]:
    return log_sum(x, axis), (x, key)


def _back(axis: int, kept: tuple[Array, Key[Array, ""]], slope: Array) -> tuple[Array, None]:
    x, key = kept
    drawn = jnp.expand_dims(jax.random.categorical(key, x, axis), axis)
    return jnp.where(drawn == lax.broadcasted_iota(drawn.dtype, x.shape, axis), jnp.expand_dims(slope, axis), 0.0), None


drawing_log_sum.defvjp(_forth, _back)
