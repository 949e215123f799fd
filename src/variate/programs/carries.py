"""What scans carry of the discrete draws that are summed out step after step, and which draws they begin with."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from variate.programs.program import Operation, Program, scan_parts


class Chain(NamedTuple):
    """A scan, the draws in it that are summed out, and those before it that are read in its carries alone."""

    scan: Operation
    draws: tuple[int, ...]
    first: tuple[int, ...]


def chains(program: Program, summed: Collection[int]) -> list[Chain]:
    """Of all scans in which draws are summed out."""
    scans = [op for op in program.operations if op.name == "scan" and any(s.index in summed for s in op.sites)]
    inside = {site.index for op in program.operations if op.bodies for site in op.sites}
    before = [index for index in summed if index not in inside]
    return [
        Chain(
            scan,
            tuple(site.index for site in scan.sites if site.index in summed),
            tuple(draw for draw in before if _begins(program, draw, scan, summed)),
        )
        for scan in scans
    ]


def enters(program: Program, draw: int, summed: Collection[int]) -> list[Operation]:
    """The loops in which others are summed out that a draw reaches."""
    reached: set[Any] = set()
    found = []
    for operation in program.operations:
        own = any(site.index == draw for site in operation.sites)
        into = operation.site is None and any(x in reached for x in operation.inputs)
        if into and any(site.index in summed for site in operation.sites):
            found.append(operation)
        reached |= set(operation.outputs) if own or into else set()
    return found


def _begins(program: Program, draw: int, scan: Operation, summed: Collection[int]) -> bool:
    """Whether a scan reads a draw in carries alone that its own draws change, and nothing after it reads the draw."""
    reached: set[Any] = set()
    begun = False
    for operation in program.operations:
        read = [x in reached for x in operation.inputs]
        if operation is scan:
            constants, flags = scan_parts(scan)[0], carried(scan, summed)
            allowed = [False] * constants + flags + [False] * (len(read) - constants - len(flags))
            begun = any(read)
            if any(one and not may for one, may in zip(read, allowed, strict=True)):
                return False
        elif begun and any(read):
            return False
        elif operation.site.index == draw if operation.site else any(read):
            reached |= set(operation.outputs)
    return begun and not any(output in reached for output in program.outputs)


def first_of(scan: Operation, summed: Collection[int]) -> int:
    """The draw whose axis stands for all that the last step drew."""
    return min(site.index for site in scan.sites if site.index in summed)


def before_of(first: int) -> int:
    """The axis that stands for all that the step before drew."""
    return -1 - first


def carried(scan: Operation, summed: Collection[int]) -> list[bool]:
    """Which of the values that a scan carries may depend on the draws inside it that are summed out.

    Raises `TypeError` for a loop that is no scan.
    """
    if scan.name != "scan":
        raise TypeError(f"the draw {labels_in(scan, summed)} is inside {scan.name}, so it cannot be summed out")
    flags, before = [False] * scan_parts(scan)[1], None
    while flags != before:
        before = flags
        flags = [old or new for old, new in zip(flags, _reached(scan, flags, summed), strict=False)]
    return flags


def labels_in(scan: Operation, summed: Collection[int]) -> str:
    return ", ".join(repr(site.label) for site in scan.sites if site.index in summed)


def _reached(scan: Operation, flags: Sequence[bool], summed: Collection[int]) -> list[bool]:
    """Which outputs of the body depend on the carries that are flagged, or on draws that are summed out."""
    constants, (body,) = scan_parts(scan)[0], scan.bodies
    carries = body.inputs[constants : constants + len(flags)]
    reached = {place for place, flag in zip(carries, flags, strict=True) if flag}
    for operation in body.operations:
        parts = any(site.index in summed for site in operation.sites)
        # Other draws are given.
        if parts or (operation.site is None and any(operand in reached for operand in operation.inputs)):
            reached |= set(operation.outputs)
    return [output in reached for output in body.outputs]
