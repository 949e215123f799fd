"""The last additions inside a checkpoint as operations behind it, where what they add can be told apart."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from variate.programs.program import Constant, Operand, Operation, Program
from variate.programs.writing import Writer, renamed_in

CHECKPOINTS = frozenset({"checkpoint", "remat2"})

# Their derivatives need nothing that would have to be kept from one pass to the other.
_ADDITIVE = frozenset(
    "add add_any sub neg reduce_sum broadcast_in_dim reshape squeeze transpose convert_element_type copy".split()
)
_LARGEST = 16  # elements of a product that is done behind the checkpoint: what it multiplies is kept


def opened(checkpoint: Operation, writer: Writer) -> dict[int, Operand]:
    """Write a checkpoint that also gives what it adds last, and the additions behind it.

    Returns the places of those results that are made behind it, by the places that they had. The body still makes them,
    of zeros where nothing else reads an input; nobody reads them there, so that they are not computed.
    """
    (body,) = checkpoint.bodies
    last = _last(body)
    moved = {place for operation in last for place in operation.outputs}
    rest = [operation for operation in body.operations if moved.isdisjoint(operation.outputs)]
    made = {place for operation in rest for place in operation.outputs}
    read = {operand for operation in last for operand in operation.inputs if isinstance(operand, int)}
    given = sorted(made & read)
    if not last or not given:  # of its inputs and of numbers alone
        writer.operations.append(checkpoint)
        return {}
    avals = {place: aval for op in body.operations for place, aval in zip(op.outputs, op.avals, strict=True)}
    names: dict[int, Operand] = dict(zip(body.inputs, checkpoint.inputs, strict=True))
    names.update((place, Constant(value)) for place, value in body.constants)
    names.update((place, writer.place()) for place in given)
    writer.operations.append(
        replace(
            checkpoint,
            bodies=(replace(body, outputs=(*body.outputs, *given)),),
            inputs=_read(checkpoint, rest),
            outputs=(*checkpoint.outputs, *(names[place] for place in given)),
            avals=(*checkpoint.avals, *(avals[place] for place in given)),
        )
    )
    for operation in last:
        inputs = tuple(renamed_in(names, operand) for operand in operation.inputs)
        names.update((place, writer.place()) for place in operation.outputs)
        writer.operations.append(replace(operation, inputs=inputs, outputs=tuple(names[x] for x in operation.outputs)))
    pairs = zip(checkpoint.outputs, body.outputs, strict=True)
    return {outside: names[inside] for outside, inside in pairs if isinstance(inside, int) and inside in moved}


def _last(body: Program) -> list[Operation]:
    """The additive operations that only others of them and the results read, in order."""
    within = {operand for operation in body.operations if not _may_move(operation) for operand in operation.inputs}
    found = []
    for operation in reversed(body.operations):
        if _may_move(operation) and within.isdisjoint(operation.outputs):
            found.append(operation)
        else:
            within.update(operation.inputs)
    needed: set[Operand] = set(body.outputs)
    kept = []
    for operation in found:
        if not needed.isdisjoint(operation.outputs):
            needed.update(operation.inputs)
            kept.append(operation)
    return kept[::-1]


def _may_move(operation: Operation) -> bool:
    small = operation.name in ("div", "mul", "select_n") and math.prod(operation.avals[0].shape) <= _LARGEST
    return operation.name in _ADDITIVE or small


def _read(checkpoint: Operation, rest: Sequence[Operation]) -> tuple[Operand, ...]:
    """Its inputs, with zeros for numbers that only the last operations read."""
    (body,) = checkpoint.bodies
    read = {operand for operation in rest for operand in operation.inputs}.union(body.outputs)
    return tuple(
        operand if place in read or not jnp.issubdtype(aval.dtype, jnp.floating) else zeros(aval)
        for place, operand, aval in zip(body.inputs, checkpoint.inputs, checkpoint.operands, strict=True)
    )


def zeros(aval: Any) -> Constant:
    """In the place of what nobody reads any more."""
    return Constant(np.zeros(aval.shape, aval.dtype))
