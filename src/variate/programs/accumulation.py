"""Running totals of a scan as sums of what its steps add, so that what each step adds can be told apart."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jaxtyping import Array

from variate.programs.program import Operand, Operation, Program, scan_parts
from variate.programs.writing import Writer, renamed_in

_LARGEST = 16  # elements of a total: its increments take that much memory a step


def accumulated(program: Program) -> Program:
    """The same program; a scan that draws reach also stacks what its steps add to totals, and multiply them by."""
    program = replace(program, operations=tuple(_inside(operation) for operation in program.operations))
    if not any(op.sites for op in program.operations):
        return program
    writer = Writer(program.size)
    renamed: dict[int, Operand] = {}
    random: set[Operand] = set()
    for operation in program.operations:
        if any(isinstance(operand, int) and operand in renamed for operand in operation.inputs):
            operation = replace(operation, inputs=tuple(renamed_in(renamed, operand) for operand in operation.inputs))
        reached = bool(operation.sites) or not random.isdisjoint(operation.inputs)
        random.update(operation.outputs if reached else ())
        runs = operation.name == "scan" and operation.params["length"] > 0
        totals = _totals(operation) if runs and reached else []
        if not totals:
            writer.operations.append(operation)
            continue
        operation, stacked = _stacking(operation, totals, writer)
        writer.operations.append(operation)
        constants, _ = scan_parts(operation)
        for total, added in zip(totals, stacked, strict=True):
            aval = operation.avals[total.carry]
            steps = jax.ShapeDtypeStruct((operation.params["length"], *aval.shape), aval.dtype)
            begun = operation.inputs[constants + total.carry]
            summed = functools.partial(_sum, operation.params["reverse"])
            place = writer.write(summed, [begun, *added], [aval, *[steps] * len(added)], operation)
            renamed[operation.outputs[total.carry]] = place
            random.add(place)
    outputs = tuple(renamed_in(renamed, output) for output in program.outputs)
    return replace(program, operations=tuple(writer.operations), outputs=outputs, size=writer.size)


class _Factor(NamedTuple):
    operand: Operand
    aval: Any


class _Increment(NamedTuple):
    """What a step adds: a product, with its sign."""

    factors: tuple[_Factor, ...]
    sign: int = 1


class _Total(NamedTuple):
    """A carried value that a step only multiplies and adds to: its place among the carries, and by and what."""

    carry: int
    increments: tuple[_Increment, ...]
    factors: tuple[_Factor, ...]


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
            step = _step(body.outputs[carry], own, producers, uses)
            found.extend([_Total(carry, *step)] if step and step[0] else [])
    return found


def _step(
    operand: Operand, total: int, producers: Mapping[int, Operation], uses: Mapping[int, int]
) -> tuple[tuple[_Increment, ...], tuple[_Factor, ...]] | None:
    """What is added to `total`, and what it is multiplied by, to make the operand, if that is all that is done."""
    if operand == total:
        return (), ()
    producer = producers.get(operand) if isinstance(operand, int) and uses[operand] == 1 else None
    if producer is None:
        return None
    if producer.name == "convert_element_type" and producer.operands[0].dtype == producer.avals[0].dtype:
        return _step(producer.inputs[0], total, producers, uses)  # to or from a weak type
    if producer.name not in ("add", "sub", "add_any", "mul"):
        return None
    for side in range(1 if producer.name == "sub" else 2):
        before = _step(producer.inputs[side], total, producers, uses)
        if before is not None:
            increments, factors = before
            other = _Factor(producer.inputs[1 - side], producer.operands[1 - side])
            if producer.name == "mul":
                return tuple(i._replace(factors=(*i.factors, other)) for i in increments), (*factors, other)
            return (*increments, _Increment((other,), -1 if producer.name == "sub" else 1)), factors
    return None


def _stacking(scan: Operation, totals: Sequence[_Total], writer: Writer) -> tuple[Operation, list[list[int]]]:
    """The scan that stacks what is added, and multiplied by, and their places for each total."""
    (body,) = scan.bodies
    inside = Writer(body.size)
    inside.operations = list(body.operations)
    extra, avals, places = [], [], []
    for total in totals:
        aval = scan.avals[total.carry]
        sums = [total.increments, *([(_Increment(total.factors),)] if total.factors else [])]
        for increments in sums:
            used = [factor for increment in increments for factor in increment.factors]
            sizes = tuple((len(increment.factors), increment.sign) for increment in increments)
            of_step = functools.partial(_added, aval.shape, sizes)
            plain = [jax.ShapeDtypeStruct(factor.aval.shape, factor.aval.dtype) for factor in used]
            extra.append(inside.write(of_step, [factor.operand for factor in used], plain, scan))
            avals.append(ShapedArray((scan.params["length"], *aval.shape), aval.dtype))
        places.append([writer.place() for _ in sums])
    larger = replace(body, operations=tuple(inside.operations), outputs=(*body.outputs, *extra), size=inside.size)
    outputs = (*scan.outputs, *(place for each in places for place in each))
    return replace(scan, bodies=(larger,), outputs=outputs, avals=(*scan.avals, *avals)), places


def _added(shape: tuple[int, ...], sizes: Sequence[tuple[int, int]], *factors: Any) -> Array:
    """The sum of products of so many factors each, with these signs."""
    parts, rest = [], list(factors)
    for count, sign in sizes:
        product = functools.reduce(jnp.multiply, rest[1:count], rest[0])
        parts.append(product if sign > 0 else -product)
        del rest[:count]
    return jnp.broadcast_to(functools.reduce(jnp.add, parts), shape)


def _sum(reverse: bool, begun: Array, increments: Array, factors: Array | None = None) -> Array:
    """What the steps make of the beginning."""
    if factors is None:
        return begun + jnp.sum(increments, axis=0)
    # What a step has added is multiplied in all that come after it.
    one, first = jnp.ones_like(factors[:1]), -1 if reverse else 0
    each = [one, factors[:-1]] if reverse else [factors[1:], one]
    later = lax.cumprod(jnp.concatenate(each), reverse=not reverse)
    return begun * (later[first] * factors[first]) + jnp.sum(increments * later, axis=0)
