"""Calls of compiled functions put back where nobody looks inside: JAX keeps what it has derived of them."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from variate.programs.program import Call, Operand, Operation, Program


def folded(program: Program, looked_at: Collection[int] = ()) -> Program:
    """The same program with its calls whole again, as far as they make no draw and no place `looked_at` is inside."""
    left = {id(operation) for operation in program.operations}
    computed = {place for operation in program.operations for place in operation.outputs}
    readers: dict[Operand, set[int]] = {}
    for operation in program.operations:
        for operand in operation.inputs:
            readers.setdefault(operand, set()).add(id(operation))
    shown = {*looked_at, *program.outputs}
    calls: dict[int, Call] = {}  # by the operations that they stand for
    for call in program.calls:
        gone = [operation for operation in call.operations if id(operation) not in left]
        rewritten = any(not computed.isdisjoint(operation.outputs) for operation in gone)
        if len(gone) < len(call.operations) and not rewritten and _closed(call, shown, readers):
            calls.update((id(operation), call) for operation in call.operations)
    size, operations, done = program.size, [], set()
    for operation in program.operations:
        call = calls.get(id(operation))
        if call is None:
            bodies = tuple(folded(body) for body in operation.bodies) if operation.sites else operation.bodies
            operations.append(replace(operation, bodies=bodies))
        elif id(call) not in done:
            done.add(id(call))
            operations.append(_whole(call, size))
            size += len(call.outputs)
    return replace(program, operations=tuple(operations), size=size)


def _closed(call: Call, shown: Collection[Operand], readers: Mapping[Operand, set[int]]) -> bool:
    """Whether nothing but its outputs is read from outside, as what is written into a program later may do."""
    if any(operation.sites or operation.from_binary or operation.name == "name" for operation in call.operations):
        return False
    own = {id(operation) for operation in call.operations}
    inside = {place for operation in call.operations for place in operation.outputs}.difference(call.outputs)
    return not any(place in shown or not readers.get(place, set()) <= own for place in inside)


def _whole(call: Call, size: int) -> Operation:
    """The call as one operation; an output that it does not compute goes to a place that nobody reads."""
    inside = {place for operation in call.operations for place in operation.outputs}
    outputs = tuple(
        out if isinstance(out, int) and out in inside and out not in call.outputs[:i] else size + i
        for i, out in enumerate(call.outputs)
    )
    equation = call.equation
    return Operation(
        equation.primitive,
        equation.params,
        call.inputs,
        outputs,
        tuple(atom.aval for atom in equation.invars),
        tuple(variable.aval for variable in equation.outvars),
        equation,
        call.caller,
    )
