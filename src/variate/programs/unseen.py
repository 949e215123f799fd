"""Random numbers that no draw makes, on which a joint density would depend without knowing it."""

from collections.abc import Sequence

from variate.programs.program import Constant, Operation, Program, scan_parts
from variate.programs.source import position


def refuse_unseen(program: Program) -> None:
    """Raise if what a draw or a factor of a program depends on is made of its key, the first input, and not drawn.

    Raises:
        TypeError: names the place.
    """
    _random(program, [n == 0 for n in range(len(program.inputs))])


def _random(program: Program, inputs: Sequence[bool]) -> list[bool]:
    """Whether each output is made of the key by anything but draws."""
    environment = dict.fromkeys(range(program.size), False)
    environment.update(zip(program.inputs, inputs, strict=True))
    for operation in program.operations:
        flows = [not isinstance(operand, Constant) and environment[operand] for operand in operation.inputs]
        environment.update(zip(operation.outputs, _outputs(operation, flows), strict=True))
    return [not isinstance(output, Constant) and environment[output] for output in program.outputs]


def _outputs(operation: Operation, flows: list[bool]) -> list[bool]:
    if operation.site is not None or operation.factor is not None:
        _refuse(operation, any(flows[1:] if operation.site else flows))
        return [False] * len(operation.outputs)
    if operation.name == "scan":
        constants, carried = scan_parts(operation)
        stop = constants + carried
        return _fixed_point(operation.bodies[0], flows[:constants], flows[constants:stop], flows[stop:])
    if operation.name == "while":
        condition, body = operation.bodies
        first, stop = (
            operation.params["cond_nconsts"],
            operation.params["cond_nconsts"] + operation.params["body_nconsts"],
        )
        carry = _fixed_point(body, flows[first:stop], flows[stop:], [])
        (how_long,) = _random(condition, [*flows[:first], *carry])
        _refuse(operation, how_long and bool(operation.sites or operation.factors))
        return [flow or how_long for flow in carry]
    if operation.name == "cond":
        which, *rest = flows
        _refuse(operation, which and bool(operation.sites or operation.factors))
        cases = [_random(body, rest) for body in operation.bodies]
        return [which or any(case) for case in zip(*cases, strict=True)]
    if operation.sites or operation.factors:
        return _random(operation.bodies[0], flows)
    return [any(flows)] * len(operation.outputs)


def _fixed_point(body: Program, consts: list[bool], carry: list[bool], xs: list[bool]) -> list[bool]:
    """After any number of steps of a loop."""
    while True:
        outputs = _random(body, [*consts, *carry, *xs])
        following = [before or after for before, after in zip(carry, outputs, strict=False)]
        if following == carry:
            return outputs
        carry = following


def _refuse(operation: Operation, random: bool) -> None:
    if not random:
        return
    named = operation.site or operation.factor
    what = repr(named.label) if named else f"a `{operation.name}` with draws or factors"
    where = named.source if named else position(operation.equation, operation.caller)
    raise TypeError(
        f"{what} ({where}) depends on random numbers that no draw makes, so the program has no density of its draws: "
        "make them by vt.draw"
    )
