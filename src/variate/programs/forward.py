"""The forward algorithm: a scan in which discrete draws are summed out step after step."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from variate.programs.carries import before_of, carried, first_of, labels_in
from variate.programs.program import Operation, scan_parts
from variate.programs.tensors import (
    Axes,
    Run,
    Table,
    joined,
    mapped,
    reduced,
    sizes_of,
    spread,
    together,
    total,
    without,
)

if TYPE_CHECKING:
    from variate.programs.worlds import Worlds


def forward(
    worlds: "Worlds", scan: Operation, operands: list[Any], own: list[Axes], tables: list[Table], needed: Axes
) -> Run:
    """A scan in which draws are summed out; those before it that are read in its carries alone begin it.

    `needed` are the draws on which depends what is read after it.
    """
    flags, (constants, carries) = carried(scan, worlds.draws), scan_parts(scan)
    flagged = [False] * constants + flags + [False] * (len(operands) - constants - carries)
    alive = {*needed, *joined([each for each, flag in zip(own, flagged, strict=True) if not flag])}
    first = joined([each for each, flag in zip(own, flagged, strict=True) if flag])
    tables, begun, first = _begun(worlds, tables, without(first, alive), alive)
    sizes = sizes_of([begun.log, *operands], [begun.axes, *own])

    def flat(x: Array, axes: Axes) -> Array:
        left = without(axes, first)
        x = spread(x, axes, left + first, sizes)
        return x.reshape(*x.shape[: len(left)], -1, *x.shape[len(left) + len(first) :])

    operands = [flat(x, axes) if flag else x for x, axes, flag in zip(operands, own, flagged, strict=True)]
    over = [without(begun.axes, first), *(without(axes, first) for axes in own)]
    outputs, messages, rest, pieces = mapped(lambda *operands: _scan(worlds, scan, operands, flags), over)(
        flat(begun.log, begun.axes), *operands
    )
    axes, last = joined(over), first_of(scan, worlds.draws)
    elements = tuple(range(messages.ndim - len(axes) - 1))
    sizes[last] = messages.shape[len(axes)]

    def ended(x: Array, flag: bool) -> Array:
        return spread(x, (*axes, last), joined([axes, (last,)]), sizes) if flag else x

    flags = [*flags, *[False] * (len(outputs) - len(flags))]
    return Run(
        [ended(x, flag) for x, flag in zip(outputs, flags, strict=True)],
        [joined([axes, (last,)]) if flag else axes for flag in flags],
        [*tables, Table(rest, axes, {}), Table(ended(messages, True), joined([axes, (last,)]), {last: elements})],
        {i: reduced(piece, axes) for i, piece in pieces.items()},
    )


def _begun(worlds: "Worlds", tables: list[Table], first: Axes, alive: set[int]) -> tuple[list[Table], Table, Axes]:
    """The weights with which a scan begins that is the only one to read the draws `first`, and the other tables."""
    inside: set[int] = set(first)
    while True:
        group = [n for n, table in enumerate(tables) if inside & set(table.axes)]
        reached = set(joined([tables[n].axes for n in group]))
        if reached - alive <= inside:
            break
        inside |= reached - alive
    if any(worlds.plates.axes.get(axis) for axis in reached & alive):
        _check_whole(worlds, first)
        return tables, Table(jnp.zeros(()), (), {}), ()
    left = worlds.summed([tables[n] for n in group], joined([first, tuple(reached & alive)]))
    begun, others = together(left, first)
    return [*(table for n, table in enumerate(tables) if n not in group), *others], begun, first


def _check_whole(worlds: "Worlds", first: Axes) -> None:
    for draw in first:
        if worlds.plates.axes.get(draw):
            label = worlds.draws[draw].label
            raise TypeError(f"the draw {label!r} cannot be summed out: a scan begins with it, on which others depend")


def _scan(
    worlds: "Worlds", scan: Operation, inputs: Sequence[Any], flags: list[bool]
) -> tuple[list, Array, Array, dict]:
    """Outputs, the log weights of what the last step drew, those of all else, and pieces.

    Carries that differ have an axis of what was drawn last, and weights, behind it, those of elements that are alone.
    The first input has the weights of what was drawn before.
    """
    (constants, carries), (body,) = scan_parts(scan), scan.bodies
    message, *operands = inputs
    alone = worlds.plates.axes.get(first_of(scan, worlds.draws), ()) if any(flags) else ()
    message = message.reshape(len(message), *(message.shape[1:] or [1] * len(alone)))
    consts, init, xs = operands[:constants], operands[constants:][:carries], operands[constants + carries :]
    own, at_step = worlds.handler.stepped(body)
    before = before_of(first_of(scan, worlds.draws))
    over = [*[()] * constants, *((before,) if flag else () for flag in flags), *[()] * len(xs)]

    keys = None
    if worlds.key is not None:
        keys = jax.random.split(jax.random.fold_in(worlds.key, 3 * abs(before) + 2), scan.params["length"])

    def once(carry: list[Any], message: Array, xs: Sequence[Any], own: Any, key: Any) -> Run:
        here = replace(worlds, handler=at_step(own), key=key)
        elements = tuple(range(message.ndim - 1))
        return here.run(body, [*consts, *carry, *xs], over, [Table(message, (before,), {before: elements})])

    def drawn(found: Run) -> Axes:
        return joined([axes for axes, flag in zip(found.axes, flags, strict=False) if flag])

    def handed_on(found: Run, key: Any) -> tuple[Table, Array]:
        left = replace(worlds, key=key).summed(found.tables, drawn(found))
        table, rest = together(left, drawn(found))
        return table, total(rest)

    def weights(at: tuple) -> Array:
        found = once(init, message, *at)
        _check_carried(scan, found, before, worlds.draws)
        table, _ = handed_on(found, at[-1])
        return flat(table)

    def flat(table: Table) -> Array:
        return table.log.reshape(-1, *table.log.shape[len(table.axes) :])

    at = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), (xs, own, keys))
    count, *elements = jax.eval_shape(weights, at).shape
    size = max(len(message), count)

    def step(state: tuple[list[Any], Array], at: tuple[Sequence[Any], Any, Any]) -> tuple[tuple, tuple]:
        found = once(*state, *at)
        table, rest = handed_on(found, at[-1])

        def last(x: Array, axes: Axes) -> Array:
            x = spread(x, axes, table.axes, table.sizes)
            return _longer(x.reshape(-1, *x.shape[len(table.axes) :]), size)

        which = zip(found.outputs, found.axes, flags, strict=False)
        after = [last(x, axes) if flag else x for x, axes, flag in which]
        message = _longer(flat(table), size, -jnp.inf)
        return (after, message), (found.outputs[carries:], rest, found.pieces)

    begun = [_longer(x, size) if flag else x for x, flag in zip(init, flags, strict=True)]
    options = {name: scan.params[name] for name in ("reverse", "unroll", "length")}
    state = (begun, _longer(jnp.broadcast_to(message, (len(message), *elements)), size, -jnp.inf))
    (carry, message), (ys, rest, pieces) = lax.scan(step, state, (xs, own, keys), **options)
    return [*carry, *ys], message, jnp.sum(rest), pieces


def _check_carried(scan: Operation, found: Run, before: int, draws: Collection[int]) -> None:
    """Nothing that a step hands on may depend on the draws before its own, and nothing that it stacks on any."""
    carries, problem = scan_parts(scan)[1], None
    if any(before in axes for axes in found.axes[:carries]):
        problem = "carries more of it than the last step"
    if any(found.axes[carries:]):
        problem = "stacks what depends on it"
    if problem:
        raise TypeError(f"the draw {labels_in(scan, draws)} cannot be summed out: the scan around it {problem}")


def _longer(x: Array, size: int, filled: float | None = None) -> Array:
    """With more rows, like the first or filled."""
    if len(x) == size:
        return x
    more = (size - len(x), *x.shape[1:])
    return jnp.concatenate([x, jnp.broadcast_to(x[:1], more) if filled is None else jnp.full(more, filled, x.dtype)])
