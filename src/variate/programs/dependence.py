"""Which of the values that a loop carries every value of its body depends on."""

import functools
import operator
from collections.abc import Sequence

from variate.programs.program import Constant, Operand, Operation, Program, scan_parts

Masks = list[int]  # of every value of a program, what it depends on, a bit each


def mask_of(masks: Masks, operand: Operand) -> int:
    return 0 if isinstance(operand, Constant) else masks[operand]


def of_carries(body: Program, constants: int, carried: int) -> Masks:
    """What each value of the body of a scan depends on, of what was carried in this step or any before."""
    inputs = [0] * len(body.inputs)
    inputs[constants : constants + carried] = [1 << n for n in range(carried)]
    return _over_steps(body, inputs, constants, carried)


def _over_steps(body: Program, inputs: Sequence[int], constants: int, carried: int) -> Masks:
    """What each value of the body of a scan depends on in the end, where its carries bring on what they became."""
    while True:
        masks, before = followed(body, inputs), list(inputs[constants : constants + carried])
        following = [mask | mask_of(masks, output) for mask, output in zip(before, body.outputs, strict=False)]
        if following == before:
            return masks
        inputs = [*inputs[:constants], *following, *inputs[constants + carried :]]


def followed(program: Program, inputs: Sequence[int]) -> Masks:
    """What each value of a program depends on, given that of its inputs."""
    masks = [0] * program.size
    for place, mask in zip(program.inputs, inputs, strict=True):
        masks[place] = mask
    for operation in program.operations:
        into = [mask_of(masks, x) for x in operation.inputs]
        if any(into):
            for place, mask in zip(operation.outputs, _outputs(operation, into), strict=True):
                masks[place] = mask
    return masks


def _outputs(operation: Operation, into: list[int]) -> list[int]:
    every = functools.reduce(operator.or_, into, 0)
    if operation.name == "scan":
        constants, carried = scan_parts(operation)
        (body,) = operation.bodies
        masks = _over_steps(body, into, constants, carried)
        return [masks[x] for x in body.inputs[constants : constants + carried]] + [
            mask_of(masks, output) for output in body.outputs[carried:]
        ]
    if operation.name == "cond":
        which, *rest = into
        inside = [(body, followed(body, rest)) for body in operation.bodies]
        cases = [[mask_of(masks, output) for output in body.outputs] for body, masks in inside]
        return [functools.reduce(operator.or_, case, which) for case in zip(*cases, strict=True)]
    return [every] * len(operation.outputs)
