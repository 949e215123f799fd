"""The operation for which what a scan carries is no sum of what its steps add."""

from collections.abc import Iterator, Sequence

from variate.programs.dependence import mask_of, of_carries
from variate.programs.program import Operand, Operation, Program, scan_parts
from variate.programs.recurrences import Reading
from variate.programs.writing import Writer


def stopper(program: Program, operand: Operand, scan: Operation) -> Operation:
    """What stopped the carries of a scan that an operand of the program is made of; the scan where that is not seen."""
    _, carried = scan_parts(scan)
    made = {place for place in _made_of(program, operand) if place in scan.outputs[:carried]}
    stopped = (_stopped(scan, scan.outputs.index(place)) for place in sorted(made))
    return next((operation for operation in stopped if operation is not None), scan)


def _made_of(program: Program, operand: Operand) -> Iterator[int]:
    """All places of the program that an operand depends on."""
    producers = {place: op for op in program.operations for place in op.outputs}
    left, seen = [operand], set()
    while left:
        place = left.pop()
        if isinstance(place, int) and place not in seen:
            seen.add(place)
            yield place
            left.extend(producers[place].inputs if place in producers else ())


def _stopped(scan: Operation, carry: int) -> Operation | None:
    (body,) = scan.bodies
    constants, carried = scan_parts(scan)
    masks = of_carries(body, constants, carried)
    reading = Reading(body, {body.inputs[constants + carry]}, masks, 1 << carry, Writer(body.size))
    avals = {place: aval for op in body.operations for place, aval in zip(op.outputs, op.avals, strict=True)}

    def failing(operands: Sequence[Operand]) -> Operation | None:
        for place in operands:
            moved = isinstance(place, int) and place in avals and mask_of(masks, place) >> carry & 1
            if moved and isinstance(place, int) and reading.of(place, avals[place]) is None:
                return reading.producers[place]
        return None

    found, deeper = None, failing([body.outputs[carry]])
    while deeper is not None:
        found, deeper = deeper, failing(deeper.inputs)
    return found
