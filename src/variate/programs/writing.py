"""Writing operations into a program that is already staged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from variate.programs.program import Operand, Operation
from variate.programs.staging import stage


class Writer:
    """Appends operations to a program of `size` places."""

    def __init__(self, size: int):
        self.size = size
        self.operations: list[Operation] = []

    def place(self) -> int:
        self.size += 1
        return self.size - 1

    def write(self, function: Callable, inputs: Sequence[Operand], avals: Sequence[Any], like: Operation) -> Operand:
        """The place of `function(*inputs)`, which may hold no array; errors show it where `like` was written."""
        written, _ = stage(function, *avals)
        assert not written.constants
        places: dict[int, Operand] = dict(zip(written.inputs, inputs, strict=True))
        for operation in written.operations:
            outputs = tuple(self.place() for _ in operation.outputs)
            operands = tuple(renamed_in(places, operand) for operand in operation.inputs)
            places.update(zip(operation.outputs, outputs, strict=True))
            own = replace(operation, inputs=operands, outputs=outputs, equation=like.equation, caller=like.caller)
            self.operations.append(own)
        return renamed_in(places, written.outputs[0])


def renamed_in(names: Mapping[int, Operand], operand: Operand) -> Operand:
    return names.get(operand, operand) if isinstance(operand, int) else operand
