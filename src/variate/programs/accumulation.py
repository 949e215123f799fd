"""Running totals of a scan as sums of what its steps add, so that what each step adds can be told apart."""

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jaxtyping import Array

from variate.programs.checkpoints import CHECKPOINTS, opened, zeros
from variate.programs.program import Operand, Operation, Program, scan_parts
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
        elif operation.name == "scan" and operation.params["length"] and (totals := _totals(operation)):
            renamed.update(_summed(operation, totals, writer))
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


def _summed(scan: Operation, totals: Sequence["_Total"], writer: Writer) -> dict[int, Operand]:
    """Write a scan, and its totals as sums of what it stacks; the places of these, by those of the totals."""
    larger, stacked = _stacking(scan, totals, writer)
    constants, _ = scan_parts(scan)
    # The scan itself still makes the totals, which nobody reads: of zeros, so that what they begin with is read once.
    begun = {constants + total.carry for total in totals}
    inputs = (zeros(scan.operands[i]) if i in begun else operand for i, operand in enumerate(scan.inputs))
    writer.operations.append(replace(larger, inputs=tuple(inputs)))
    found = {}
    for total, added in zip(totals, stacked, strict=True):
        aval = scan.avals[total.carry]
        steps = jax.ShapeDtypeStruct((scan.params["length"], *aval.shape), aval.dtype)
        summed = functools.partial(_sum, scan.params["reverse"])
        operands = [scan.inputs[constants + total.carry], *added]
        found[scan.outputs[total.carry]] = writer.write(summed, operands, [aval, *[steps] * len(added)], scan)
    return found


class _Factor(NamedTuple):
    operand: Operand
    aval: Any


class _Increment(NamedTuple):
    """What a step adds: a product, with its sign."""

    factors: tuple[_Factor, ...]
    sign: int = 1


class _Total(NamedTuple):
    """A carried value that a step only multiplies and adds to: its place among the carries, what, and by what."""

    carry: int
    increments: tuple[_Increment, ...]
    factor: _Increment | None


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
        if (
            aval.dtype != bool
            and jnp.issubdtype(aval.dtype, jnp.number)
            and aval.size <= _LARGEST
            and uses.get(own) == 1
        ):
            step = _step(body.outputs[carry], own, producers, uses)
            if step and step[0]:
                factor = step[1]
                found.append(_Total(carry, step[0], factor if factor.factors or factor.sign < 0 else None))
    return found


def _step(
    operand: Operand, total: int, producers: Mapping[int, Operation], uses: Mapping[int, int]
) -> tuple[tuple[_Increment, ...], _Increment] | None:
    """What is added to `total`, and what it is multiplied by, to make the operand, if that is all that is done."""
    if operand == total:
        return (), _Increment(())
    producer = producers.get(operand) if isinstance(operand, int) and uses[operand] == 1 else None
    if producer is None:
        return None
    if producer.name == "convert_element_type" and producer.operands[0].dtype == producer.avals[0].dtype:
        return _step(producer.inputs[0], total, producers, uses)  # to or from a weak type
    if producer.name not in ("add", "sub", "add_any", "mul", "neg"):
        return None
    for side, inside in enumerate(producer.inputs):
        before = _step(inside, total, producers, uses)
        if before is None:
            continue
        increments, factor = before
        if producer.name == "neg" or (producer.name == "sub" and side == 1):
            increments, factor = tuple(map(_negative, increments)), _negative(factor)
        if producer.name == "neg":
            return increments, factor
        other = _Factor(producer.inputs[1 - side], producer.operands[1 - side])
        if producer.name == "mul":
            return tuple(_times(each, other) for each in increments), _times(factor, other)
        return (*increments, _Increment((other,), -1 if producer.name == "sub" and side == 0 else 1)), factor
    return None


def _negative(product: _Increment) -> _Increment:
    return product._replace(sign=-product.sign)


def _times(product: _Increment, factor: _Factor) -> _Increment:
    return product._replace(factors=(*product.factors, factor))


def _stacking(scan: Operation, totals: Sequence[_Total], writer: Writer) -> tuple[Operation, list[list[int]]]:
    """The scan that stacks what is added, and multiplied by, and their places for each total."""
    (body,) = scan.bodies
    inside = Writer(body.size)
    inside.operations = list(body.operations)
    extra, avals, places = [], [], []
    for total in totals:
        aval = scan.avals[total.carry]
        sums = [total.increments, *([(total.factor,)] if total.factor else [])]
        for increments in sums:
            used = [factor for increment in increments for factor in increment.factors]
            sizes = tuple((len(increment.factors), increment.sign) for increment in increments)
            of_step = functools.partial(_added, aval, sizes)
            plain = [jax.ShapeDtypeStruct(factor.aval.shape, factor.aval.dtype) for factor in used]
            extra.append(inside.write(of_step, [factor.operand for factor in used], plain, scan))
            avals.append(ShapedArray((scan.params["length"], *aval.shape), aval.dtype))
        places.append([writer.place() for _ in sums])
    larger = replace(body, operations=tuple(inside.operations), outputs=(*body.outputs, *extra), size=inside.size)
    outputs = (*scan.outputs, *(place for each in places for place in each))
    return replace(scan, bodies=(larger,), outputs=outputs, avals=(*scan.avals, *avals)), places


def _added(like: Any, sizes: Sequence[tuple[int, int]], *factors: Any) -> Array:
    """The sum of products of so many factors each, with these signs."""
    parts, rest = [], list(factors)
    for count, sign in sizes:
        product = functools.reduce(jnp.multiply, rest[1:count], rest[0]) if count else jnp.ones((), like.dtype)
        parts.append(product if sign > 0 else -product)
        del rest[:count]
    return jnp.broadcast_to(functools.reduce(jnp.add, parts), like.shape)


def _sum(reverse: bool, begun: Array, increments: Array, factors: Array | None = None) -> Array:
    """What the steps make of the beginning."""
    if factors is None:
        return begun + jnp.sum(increments, axis=0, dtype=begun.dtype)
    # What a step has added is multiplied in all that come after it.
    one, first = jnp.ones_like(factors[:1]), -1 if reverse else 0
    each = [one, factors[:-1]] if reverse else [factors[1:], one]
    later = lax.cumprod(jnp.concatenate(each), reverse=not reverse)
    return begun * (later[first] * factors[first]) + jnp.sum(increments * later, axis=0, dtype=begun.dtype)
