"""Running totals of a scan as sums of their increments, so that what each step adds can be told apart."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import ShapedArray

from variate.programs.program import Operand, Operation, Program, scan_parts
from variate.programs.writing import Writer, renamed_in

_LARGEST = 16  # elements of a total: its increments take that much memory a step


def accumulated(program: Program) -> Program:
    """The same program; a scan with draws also stacks the increments of the totals that only accumulate in it."""
    program = replace(program, operations=tuple(_inside(operation) for operation in program.operations))
    if not any(op.name == "scan" and op.sites for op in program.operations):
        return program
    writer = Writer(program.size)
    renamed: dict[int, Operand] = {}
    for operation in program.operations:
        if any(isinstance(operand, int) and operand in renamed for operand in operation.inputs):
            operation = replace(operation, inputs=tuple(renamed_in(renamed, operand) for operand in operation.inputs))
        totals = _totals(operation) if operation.name == "scan" and operation.sites else []
        if not totals:
            writer.operations.append(operation)
            continue
        operation, stacked = _stacking(operation, totals, writer)
        writer.operations.append(operation)
        constants, _ = scan_parts(operation)
        for total, increments in zip(totals, stacked, strict=True):
            aval = operation.avals[total.carry]
            steps = jax.ShapeDtypeStruct((operation.params["length"], *aval.shape), aval.dtype)
            begun = operation.inputs[constants + total.carry]
            renamed[operation.outputs[total.carry]] = writer.write(_sum, [begun, increments], [aval, steps], operation)
    outputs = tuple(renamed_in(renamed, output) for output in program.outputs)
    return replace(program, operations=tuple(writer.operations), outputs=outputs, size=writer.size)


class _Total(NamedTuple):
    """A carried value that a step only adds to: its place among the carries, and what is added, with signs."""

    carry: int
    increments: list[tuple[Operand, int]]


def _inside(operation: Operation) -> Operation:
    if not operation.sites or not operation.bodies:
        return operation
    return replace(operation, bodies=tuple(accumulated(body) for body in operation.bodies))


def _totals(scan: Operation) -> list[_Total]:
    (body,) = scan.bodies
    constants, carried = scan_parts(scan)
    producers = {place: op for op in body.operations for place in op.outputs}
    uses: dict[int, int] = {}
    for operand in (*(operand for op in body.operations for operand in op.inputs), *body.outputs):
        if isinstance(operand, int):
            uses[operand] = uses.get(operand, 0) + 1
    found = []
    for carry in range(carried):
        aval, own = scan.avals[carry], body.inputs[constants + carry]
        if jnp.issubdtype(aval.dtype, jnp.floating) and aval.size <= _LARGEST and uses.get(own) == 1:
            increments = _increments(body.outputs[carry], own, producers, uses)
            found.extend([_Total(carry, increments)] if increments else [])
    return found


def _increments(
    operand: Operand, total: int, producers: dict[int, Operation], uses: dict[int, int]
) -> list[tuple[Operand, int]] | None:
    """What is added to `total` to make the operand, if it is made of nothing but sums."""
    if operand == total:
        return []
    producer = producers.get(operand) if isinstance(operand, int) and uses[operand] == 1 else None
    if producer is None:
        return None
    if producer.name == "convert_element_type" and producer.operands[0].dtype == producer.avals[0].dtype:
        return _increments(producer.inputs[0], total, producers, uses)  # to or from a weak type
    if producer.name not in ("add", "sub", "add_any"):
        return None
    for side in range(1 if producer.name == "sub" else 2):
        before = _increments(producer.inputs[side], total, producers, uses)
        if before is not None:
            sign = -1 if producer.name == "sub" else 1
            return [*before, (producer.inputs[1 - side], sign)]
    return None


def _stacking(scan: Operation, totals: Sequence[_Total], writer: Writer) -> tuple[Operation, list[int]]:
    """The scan that stacks the increments too, and their places."""
    (body,) = scan.bodies
    inside = Writer(body.size)
    inside.operations = list(body.operations)
    extra = []
    for total in totals:
        operands, signs = zip(*total.increments, strict=True)
        aval = _plain(scan.avals[total.carry])
        extra.append(inside.write(functools.partial(_signed, signs), operands, [aval] * len(operands), scan))
    larger = replace(body, operations=tuple(inside.operations), outputs=(*body.outputs, *extra), size=inside.size)
    places = [writer.place() for _ in totals]
    length = scan.params["length"]
    stacks = tuple(ShapedArray((length, *(a := scan.avals[t.carry]).shape), a.dtype) for t in totals)
    return replace(scan, bodies=(larger,), outputs=(*scan.outputs, *places), avals=(*scan.avals, *stacks)), places


def _signed(signs: Sequence[int], *parts: Any) -> Any:
    first, *rest = (part if sign > 0 else -part for part, sign in zip(parts, signs, strict=True))
    return functools.reduce(jnp.add, rest, first)


def _plain(aval: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype)


def _sum(begun: Any, increments: Any) -> Any:
    return begun + jnp.sum(increments, axis=0)
