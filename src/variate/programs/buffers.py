"""Arrays that a scan carries and fills, a row a step, as what it stacks."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.core import Tracer

from variate.programs.program import Constant, Operand, Operation, scan_parts

_MOVES = frozenset("broadcast_in_dim convert_element_type copy reshape squeeze".split())
_NUMBERS = {"add": np.add, "lt": np.less, "mul": np.multiply, "sub": np.subtract}


class Buffer(NamedTuple):
    """A carry whose rows from `first` on become what its steps write, a row a step; `row` is that, in the body.

    `turned`: whether the last step writes the first of them.
    """

    carry: int
    first: int
    turned: bool
    row: Operand
    aval: Any


def buffers(scan: Operation, wanted: Sequence[int], counters: Mapping[int, int]) -> list[Buffer]:
    """Of those wanted among the carries of a scan; `counters` are the `iota`s outside of it, by place, and lengths."""
    (body,), steps = scan.bodies, np.arange(scan.params["length"])
    producers = {place: op for op in body.operations for place in op.outputs}
    numbers = {} if scan.params["reverse"] else _counted(scan, producers, counters)
    found = []
    for carry in wanted if numbers else ():
        output, aval = body.outputs[carry], scan.avals[carry]
        by = producers.get(output) if isinstance(output, int) else None
        if by is None or not aval.shape or by.inputs[0] != body.inputs[scan_parts(scan)[0] + carry]:
            continue
        row = _row(by)
        at = _number(row[1], numbers, producers) if row else None
        if row is None or at is None or not at.ndim or not isinstance(row[0], int):
            continue
        order = 1 if np.array_equal(at, at[0] + steps) else -1
        if np.array_equal(at, at[0] + order * steps) and at.min() >= 0 and at.max() < aval.shape[0]:
            found.append(Buffer(carry, int(at.min()), order < 0, row[0], row[2]))
    return found


def _row(write: Operation) -> tuple[Operand, Operand, Any] | None:
    """What is written, the number of the row that it becomes, and its type."""
    shape = write.avals[0].shape
    if write.name == "dynamic_update_slice":
        _, row, first, *others = write.inputs
        whole = all(isinstance(x, Constant) and not np.any(x.value) for x in others)
        return (row, first, write.operands[1]) if whole and write.operands[1].shape == (1, *shape[1:]) else None
    if write.name == "scatter":
        numbers, (_, index, row) = write.params["dimension_numbers"], write.inputs
        one = numbers.inserted_window_dims == numbers.scatter_dims_to_operand_dims == (0,)
        inside = numbers.update_window_dims == tuple(range(len(shape) - 1)) and not numbers.operand_batching_dims
        if one and inside and write.operands[1].shape == (1,) and write.operands[2].shape == shape[1:]:
            return row, index, write.operands[2]
    return None


def _counted(scan: Operation, producers: Mapping[int, Operation], counters: Mapping[int, int]) -> dict[int, np.ndarray]:
    """The inputs of the body that are known numbers in each step: counters that it carries or goes along."""
    (body,), steps = scan.bodies, np.arange(scan.params["length"])
    constants, carried = scan_parts(scan)
    found = {}
    for n, (place, operand) in enumerate(zip(body.inputs, scan.inputs, strict=True)):
        if n >= constants + carried and isinstance(operand, int) and counters.get(operand) == len(steps):
            found[place] = steps
        if not constants <= n < constants + carried or not isinstance(operand, Constant) or np.shape(operand.value):
            continue
        output = body.outputs[n - constants]
        by = producers.get(output) if isinstance(output, int) else None
        if by is not None and by.name == "add" and place in by.inputs and np.issubdtype(by.avals[0].dtype, np.integer):
            (other,) = [x for x in by.inputs if x != place] or [None]
            if isinstance(other, Constant) and np.ndim(other.value) == 0 and other.value == 1:
                found[place] = int(operand.value) + steps
    return found


def _number(operand: Operand, known: dict[int, np.ndarray], producers: Mapping[int, Operation]) -> np.ndarray | None:
    """A number in each step, where it can be told before the scan runs."""
    if isinstance(operand, Constant):
        known_now = np.ndim(operand.value) == 0 and not isinstance(operand.value, Tracer)
        return np.asarray(operand.value) if known_now else None
    by = producers.get(operand)
    if operand in known or by is None:
        return known.get(operand)
    if np.prod(by.avals[0].shape, dtype=int) != 1 or by.name not in (*_MOVES, *_NUMBERS, "select_n"):
        return None
    found = [_number(x, known, producers) for x in by.inputs]
    values = [value for value in found if value is not None]
    if len(values) < len(found) or (by.name == "select_n" and len(values) != 3):
        return None
    if by.name == "select_n":
        return np.where(values[0], values[2], values[1])
    return values[0] if by.name in _MOVES else _NUMBERS[by.name](*values)
