"""Which discrete draws can be summed out, and what a scan around them carries of them."""

import itertools
import math
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from variate.programs.program import Operation, Program, Site, every_operation, scan_parts
from variate.programs.samplers import nature, support

MOST = 4096  # values at once


class Summed(NamedTuple):
    """What a draw that is summed out can be: all of its values as a whole, or why it cannot be summed out."""

    values: np.ndarray | None
    problem: str | None = None


def summed_draws(program: Program) -> dict[int, Summed]:
    """Of every discrete draw, by its index."""
    operations = [operation for operation in every_operation(program) if operation.site]
    return {op.site.index: _summed(op, op.site) for op in operations if op.site and nature(op).discrete}


def _summed(draw: Operation, site: Site) -> Summed:
    kinds = {loop.kind for loop in site.loops}
    for kind, where in (("while", "a while_loop"), ("cond", "a branch")):
        if kind in kinds:
            return Summed(None, f"inside {where}")
    each = support(draw) if len(site.event.leaves) == 1 else None
    if each is None:
        return Summed(None, "of infinitely many values, or of values that NumPyro does not list")
    shape = (*(lane.size for lane in reversed(site.lanes)), *site.event.leaves[0][0])
    if len(each) ** math.prod(shape) > MOST:
        what = f"of {len(each)} values for each of {math.prod(shape)} elements, together too many"
        return Summed(None, f"{what}; draw them in a scan, where each step is summed by itself")
    whole = list(itertools.product(each.tolist(), repeat=math.prod(shape)))
    return Summed(np.asarray(whole, site.event.leaves[0][1]).reshape(-1, *shape))


def carried(scan: Operation, summed: Collection[int]) -> list[bool]:
    """Which of the values that a scan carries depend on the draws inside it that are summed out.

    Raises `TypeError` if they depend on more than those of the last step, or if what depends on them is stacked.
    """
    labels = ", ".join(repr(site.label) for site in scan.sites if site.index in summed)
    if scan.name != "scan":
        raise TypeError(f"the draw {labels} is inside {scan.name}, so it cannot be summed out")
    count = scan_parts(scan)[1]
    flags, before = [False] * count, None
    while flags != before:
        before = flags
        flags = [old or new for old, new in zip(flags, _reached(scan, flags, summed), strict=False)]
    if any(_reached(scan, flags, summed)[count:]):
        raise TypeError(f"the draw {labels} cannot be summed out: the scan around it stacks what depends on it")
    if any(_reached(scan, flags, ())[:count]):
        raise TypeError(
            f"the draw {labels} cannot be summed out: the scan around it carries more of it than the last step"
        )
    return flags


def _reached(scan: Operation, flags: list[bool], summed: Collection[int]) -> list[bool]:
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
