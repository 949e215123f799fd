"""Sums of integers that become reals as sums of reals, where neither overflow nor rounding can tell the two apart."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import ShapedArray, Tracer

from variate.programs.checkpoints import CHECKPOINTS
from variate.programs.program import Operand, Operation, Program, scan_parts
from variate.programs.samplers import support
from variate.programs.writing import Writer, renamed_in

Bounds = tuple[int, int] | None  # of all entries of a value; None where they are not known

_SUMS = frozenset({"add", "sub", "add_any", "reduce_sum"})
_MOVES = frozenset("reshape squeeze transpose broadcast_in_dim slice rev copy".split())
_SIZE = 2**16  # of a constant that is looked at
_LIMIT = 64  # operations that are done again in reals for one integer


def real_sums(program: Program) -> Program:
    """The same program; a sum of integers that draws reach, and that becomes real, is one of reals, bit for bit."""
    if not any(op.sites for op in program.operations):
        return program
    bounds = _bounds(program, [None] * len(program.inputs))
    producers = {place: op for op in program.operations for place in op.outputs}
    writer = Writer(program.size)
    renamed: dict[int, Operand] = {}
    reached: set[Operand] = set()
    for operation in program.operations:
        inputs = tuple(renamed_in(renamed, operand) for operand in operation.inputs)
        if operation.sites or not reached.isdisjoint(inputs):
            reached.update(operation.outputs)
        if operation.name == "convert_element_type" and not reached.isdisjoint(inputs):
            sums = _Real(operation, producers, bounds, writer)
            if sums.worth_it(inputs[0]):
                place = sums.write(inputs[0], operation.operands[0])
                renamed[operation.outputs[0]] = place
                reached.add(place)
                continue
        writer.operations.append(replace(operation, inputs=inputs))
    outputs = tuple(renamed_in(renamed, output) for output in program.outputs)
    return replace(program, operations=tuple(writer.operations), outputs=outputs, size=writer.size)


class _Real:
    """Writes what an integer is made of once more, in the reals that it is converted to."""

    def __init__(
        self, convert: Operation, producers: Mapping[int, Operation], bounds: Sequence[Bounds], writer: Writer
    ):
        self.convert, self.producers, self.bounds, self.writer = convert, producers, bounds, writer
        self.dtype = convert.avals[0].dtype
        self.written: dict[int, Operand] = {}

    def worth_it(self, operand: Operand) -> bool:
        if not jnp.issubdtype(self.dtype, jnp.floating):
            return False
        found, left = False, [operand]
        for _ in range(_LIMIT):
            if not left:
                return found
            operation = self.inside(left.pop())
            if operation is not None:
                found |= operation.name in _SUMS
                left.extend(operation.inputs)
        return False

    def inside(self, operand: Operand) -> Operation | None:
        """The operation that makes an integer, if it may be done in reals."""
        operation = self.producers.get(operand) if isinstance(operand, int) else None
        if operation is None or not jnp.issubdtype(operation.avals[0].dtype, jnp.integer):
            return None
        if operation.name not in _SUMS | _MOVES | {"neg", "mul", "convert_element_type"}:
            return None
        each = [_read(self.bounds, x) for x in (*operation.outputs, *operation.inputs)]
        exact = 2 ** (jnp.finfo(self.dtype).nmant + 1)
        times = math.prod(operation.operands[0].shape) if operation.name == "reduce_sum" else 1
        sure = all(bounds is not None and max(map(abs, bounds)) * times <= exact for bounds in each)
        return operation if sure else None

    def write(self, operand: Operand, aval: Any) -> Operand:
        if isinstance(operand, int) and operand in self.written:
            return self.written[operand]
        operation = self.inside(operand)
        if operation is None:
            plain = jax.ShapeDtypeStruct(aval.shape, aval.dtype)
            converted = functools.partial(lax.convert_element_type, new_dtype=self.dtype)
            place = self.writer.write(converted, [operand], [plain], self.convert)
        elif operation.name == "convert_element_type":
            place = self.write(operation.inputs[0], operation.operands[0])
        else:
            pairs = zip(operation.inputs, operation.operands, strict=True)
            inputs = tuple(self.write(x, of) for x, of in pairs)
            place = self.writer.place()
            avals = tuple(ShapedArray(each.shape, self.dtype) for each in (*operation.operands, *operation.avals))
            made = replace(operation, inputs=inputs, outputs=(place,), operands=avals[:-1], avals=avals[-1:])
            self.writer.operations.append(made)
        if isinstance(operand, int):
            self.written[operand] = place
        return place


def _bounds(program: Program, inputs: Sequence[Bounds]) -> list[Bounds]:
    """Of every value of a program."""
    found: list[Bounds] = [None] * program.size
    for place, value in program.constants:
        found[place] = _of_value(value)
    for place, bounds in zip(program.inputs, inputs, strict=True):
        found[place] = bounds
    for operation in program.operations:
        into = [_read(found, x) for x in operation.inputs]
        for place, bounds, aval in zip(operation.outputs, _of(operation, into), operation.avals, strict=True):
            found[place] = _fitting(bounds, aval.dtype)
    return found


def _of_value(value: Any) -> Bounds:
    if isinstance(value, Tracer) or not 0 < np.size(value) <= _SIZE or not _is_whole(jnp.result_type(value)):
        return None
    numbers = np.asarray(value)  # JAX's own would be staged where this is called from a compiled function
    return int(numbers.min()), int(numbers.max())


def _is_whole(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.bool_)


def _fitting(bounds: Bounds, dtype: Any) -> Bounds:
    """Those of a result that does not overflow."""
    if jnp.issubdtype(dtype, jnp.bool_):
        return 0, 1
    if bounds is None or not jnp.issubdtype(dtype, jnp.integer):
        return None
    limits = jnp.iinfo(dtype)
    return bounds if limits.min <= bounds[0] and bounds[1] <= limits.max else None


def _of(operation: Operation, into: Sequence[Bounds]) -> list[Bounds]:
    """Of the results of one operation, before they may overflow."""
    name, count = operation.name, len(operation.outputs)
    if operation.site is not None:
        values = support(operation) if count == 1 else None
        return [None if values is None else _of_value(values)] * count
    if name == "scan":
        constants, carried = scan_parts(operation)
        (body,) = operation.bodies
        inside = _bounds(body, [*into[:constants], *[None] * carried, *into[constants + carried :]])
        return [None] * carried + [_read(inside, output) for output in body.outputs[carried:]]
    if name in CHECKPOINTS:
        (body,) = operation.bodies
        inside = _bounds(body, into)
        return [_read(inside, output) for output in body.outputs]
    if name == "iota":
        return [(0, operation.params["shape"][operation.params["dimension"]] - 1)]
    known = [bounds for bounds in into if bounds is not None]
    if len(known) < len(into) or not known or operation.bodies:
        return [None] * count
    (low, high), second = known[0], known[-1]
    if name in _MOVES | {"convert_element_type"}:
        found = low, high
    elif name == "reduce_sum":
        times = math.prod(operation.operands[0].shape) // max(math.prod(operation.avals[0].shape), 1)
        found = low * times, high * times
    elif name in ("add", "add_any"):
        found = low + second[0], high + second[1]
    elif name == "sub":
        found = low - second[1], high - second[0]
    elif name == "neg":
        found = -high, -low
    elif name == "mul":
        products = [a * b for a in known[0] for b in second]
        found = min(products), max(products)
    elif name == "integer_pow" and operation.params["y"] >= 0:
        powers = [each ** operation.params["y"] for each in (low, high, *([0] if low < 0 < high else []))]
        found = min(powers), max(powers)
    elif name == "square":
        found = 0, max(low**2, high**2)
    elif name in ("select_n", "concatenate", "stack"):
        cases = known[name == "select_n" :]
        found = min(each[0] for each in cases), max(each[1] for each in cases)
    else:
        found = None
    return [found] * count


def _read(bounds: Sequence[Bounds], operand: Operand) -> Bounds:
    return bounds[operand] if isinstance(operand, int) else _of_value(operand.value)
