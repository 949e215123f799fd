"""Running totals of a scan as sums of what its steps add, so that what each step adds can be told apart."""

import functools
import itertools
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jaxtyping import Array

from variate.programs.buffers import Buffer, buffers
from variate.programs.checkpoints import CHECKPOINTS, opened, zeros
from variate.programs.program import Operand, Operation, Program, scan_parts
from variate.programs.recurrences import recurrences, write
from variate.programs.writing import Writer, renamed_in

_LARGEST = 16  # elements of a total: its increments take that much memory a step


def accumulated(program: Program, random: Collection[Operand] = ()) -> Program:
    """The same program; a scan that draws reach also stacks what its steps add to totals, and multiply them by.

    What a checkpoint that draws reach adds last is added behind it. `random` are the inputs that draws reach.
    """
    if not random and not any(op.sites for op in program.operations):
        return program
    writer = Writer(program.size)
    renamed: dict[int, Operand] = {}
    reached: set[Operand] = set(random)
    iotas = (op for op in program.operations if op.name == "iota" and op.avals[0].ndim == 1)
    counters = {op.outputs[0]: op.avals[0].shape[0] for op in iotas}
    live = {operand for operation in program.operations for operand in operation.inputs}.union(program.outputs)
    for operation in program.operations:
        if any(isinstance(operand, int) and operand in renamed for operand in operation.inputs):
            operation = replace(operation, inputs=tuple(renamed_in(renamed, operand) for operand in operation.inputs))
        if not operation.sites and reached.isdisjoint(operation.inputs):
            writer.operations.append(operation)
            continue
        reached.update(operation.outputs)
        operation = _inside(operation, reached)
        if operation.name in CHECKPOINTS:
            renamed.update(opened(operation, writer))
        elif operation.name == "scan" and operation.params["length"]:
            renamed.update(_summed(operation, live, counters, writer))
        else:
            writer.operations.append(operation)
        reached.update(renamed.values())
    outputs = tuple(renamed_in(renamed, output) for output in program.outputs)
    return replace(program, operations=tuple(writer.operations), outputs=outputs, size=writer.size)


def _inside(operation: Operation, reached: Collection[Operand]) -> Operation:
    """The operation with its bodies rewritten in the same way; those without draws only where that helps."""
    if not operation.bodies or not (operation.sites or operation.name in CHECKPOINTS or operation.name == "scan"):
        return operation
    body, *others = operation.bodies
    if others or len(body.inputs) != len(operation.inputs):
        return replace(operation, bodies=tuple(accumulated(each) for each in operation.bodies))
    into = {place for place, operand in zip(body.inputs, operation.inputs, strict=True) if operand in reached}
    if operation.name == "scan":
        constants, carried = scan_parts(operation)
        into.update(body.inputs[constants : constants + carried])
    return replace(operation, bodies=(accumulated(body, into),))


def _summed(
    scan: Operation, live: Collection[Operand], counters: Mapping[int, int], writer: Writer
) -> dict[int, Operand]:
    """Write a scan, its totals as sums of what it stacks and what it fills as that; the places of these, by theirs."""
    filled, rows = _rows(scan, live, counters, writer)
    larger, stacked = _stacking(filled, live, writer)
    writer.operations.append(larger)
    constants, _ = scan_parts(scan)
    found = {}
    for carry, added in stacked.items():
        aval = scan.avals[carry]
        steps = jax.ShapeDtypeStruct((scan.params["length"], *aval.shape), aval.dtype)
        summed = functools.partial(_sum, scan.params["reverse"])
        operands = [scan.inputs[constants + carry], *added]
        found[scan.outputs[carry]] = writer.write(summed, operands, [aval, *[steps] * len(added)], scan)
    for buffer, place, aval in rows:
        whole = functools.partial(laid, buffer.first, buffer.turned)
        operands, before = [scan.inputs[constants + buffer.carry], place], scan.avals[buffer.carry]
        found[scan.outputs[buffer.carry]] = writer.write(whole, operands, [before, aval], scan)
    return found


def _rows(
    scan: Operation, live: Collection[Operand], counters: Mapping[int, int], writer: Writer
) -> tuple[Operation, list[tuple[Buffer, int, Any]]]:
    """The scan that also stacks the rows that it writes into arrays, and the place and type of these."""
    (body,), length = scan.bodies, scan.params["length"]
    found = buffers(scan, [n for n in range(scan_parts(scan)[1]) if scan.outputs[n] in live], counters)
    avals = [ShapedArray((length, *buffer.aval.shape), buffer.aval.dtype) for buffer in found]
    places = [writer.place() for _ in found]
    larger = replace(body, outputs=(*body.outputs, *(buffer.row for buffer in found)))
    more = replace(scan, bodies=(larger,), outputs=(*scan.outputs, *places), avals=(*scan.avals, *avals))
    plain = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]
    return (more if found else scan), list(zip(found, places, plain, strict=True))


def laid(first: int, turned: bool, begun: Array, rows: Array) -> Array:
    """An array with these rows from `first` on."""
    rows = rows.reshape(len(rows), *begun.shape[1:])
    rows = jnp.flip(rows, 0) if turned else rows
    return jnp.concatenate([begun[:first], rows, begun[first + len(rows) :]]) if len(rows) < len(begun) else rows


def _stacking(scan: Operation, live: Collection[Operand], writer: Writer) -> tuple[Operation, dict[int, list[int]]]:
    """The scan that stacks what is added to totals, and multiplied by, and the places of these by that of the total."""
    (body,) = scan.bodies
    constants, carried = scan_parts(scan)
    inside = Writer(body.size)
    small = [n for n in range(carried) if scan.outputs[n] in live and _is_small(scan.avals[n])]
    found, inside.operations = recurrences(scan, small, inside) if small else ([], [])
    if not found:
        return scan, {}
    extra, avals, places = [], [], {}
    for each in found:
        aval = scan.avals[each.carry]
        sums = [each.step.added, *([each.step.times] if each.step.times != 1 else [])]
        extra += [write(inside, expression, aval, scan) for expression in sums]
        avals += [ShapedArray((scan.params["length"], *aval.shape), aval.dtype)] * len(sums)
        places[each.carry] = [writer.place() for _ in sums]
    larger = replace(body, operations=tuple(inside.operations), outputs=(*body.outputs, *extra), size=inside.size)
    # The scan itself still makes the totals. Those that nobody reads begin with zeros there, which are read once then.
    begun = {constants + each.carry for each in found if each.alone}
    inputs = tuple(zeros(scan.operands[i]) if i in begun else operand for i, operand in enumerate(scan.inputs))
    outputs = (*scan.outputs, *itertools.chain.from_iterable(places.values()))
    return replace(scan, bodies=(larger,), inputs=inputs, outputs=outputs, avals=(*scan.avals, *avals)), places


def _is_small(aval: Any) -> bool:
    return aval.dtype != bool and jnp.issubdtype(aval.dtype, jnp.number) and aval.size <= _LARGEST


def _sum(reverse: bool, begun: Array, increments: Array, factors: Array | None = None) -> Array:
    """What the steps make of the beginning."""
    if factors is None:
        return begun + jnp.sum(increments, axis=0, dtype=begun.dtype)
    # What a step has added is multiplied in all that come after it.
    one, first = jnp.ones_like(factors[:1]), -1 if reverse else 0
    each = [one, factors[:-1]] if reverse else [factors[1:], one]
    later = lax.cumprod(jnp.concatenate(each), reverse=not reverse)
    return begun * (later[first] * factors[first]) + jnp.sum(increments * later, axis=0, dtype=begun.dtype)
