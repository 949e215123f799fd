"""Which discrete draws can be summed out, over which of their values."""

import itertools
import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from variate.programs.plates import NONE, Plates, plates
from variate.programs.program import Operation, Program, Site, every_operation
from variate.programs.samplers import nature, support
from variate.programs.simulation import shape_of, steps_of

MOST = 4096  # values at once


class Summed(NamedTuple):
    """What a draw that is summed out can be: its values, those of elements that are summed alone not told apart.

    Or why it cannot be summed out. `alone` are the axes along which its elements are summed alone, of size 1 in
    `values`, after that of the values.
    """

    label: str
    values: np.ndarray | None
    problem: str | None = None
    alone: tuple[int, ...] = ()
    count: int = 0  # of the values of an element, where they are known


def discrete_draws(program: Program) -> dict[int, Operation]:
    """By index."""
    operations = [operation for operation in every_operation(program) if operation.site]
    return {op.site.index: op for op in operations if op.site and nature(op).discrete}


def summed_draws(
    program: Program, numbers: Sequence[Any], kept: Collection[int] = ()
) -> tuple[dict[int, Summed], Plates]:
    """What each discrete draw that is not `kept` can be, by its index, and which elements are summed alone."""
    draws = {index: draw for index, draw in discrete_draws(program).items() if index not in kept}
    each = {index: _values(draw) for index, draw in draws.items()}
    counts = {index: len(values) for index, values in each.items() if not isinstance(values, str)}
    found = plates(program, numbers, counts) if len(counts) == len(each) else NONE
    return {index: _summed(draw, each[index], found) for index, draw in draws.items()}, found


def _site(draw: Operation) -> Site:
    assert draw.site is not None
    return draw.site


def _values(draw: Operation) -> np.ndarray | str:
    """Of an element, or why it cannot be summed out."""
    site = _site(draw)
    kinds = {loop.kind for loop in site.loops}
    for kind, where in (("while", "a while_loop"), ("cond", "a branch")):
        if kind in kinds:
            return f"inside {where}"
    each = support(draw) if len(site.event.leaves) == 1 else None
    return "of infinitely many values, or of values that NumPyro does not list" if each is None else each


def _summed(draw: Operation, each: np.ndarray | str, found: Plates) -> Summed:
    site = _site(draw)
    if isinstance(each, str):
        return Summed(site.label, None, each)
    alone = found.axes.get(site.index, ())
    shape = shape_of(site)[len(steps_of(site)) :]
    together = [1 if axis in alone else size for axis, size in enumerate(shape)]
    elements = math.prod(together)
    if len(each) ** elements > MOST:
        what = f"of {len(each)} values for each of {elements} elements, together too many"
        return Summed(site.label, None, f"{what}{_why(site, found)}", count=len(each))
    whole = list(itertools.product(each.tolist(), repeat=elements))
    values = np.asarray(whole, site.event.leaves[0][1]).reshape(len(whole), *together)
    return Summed(site.label, values, None, alone, len(each))


def _why(site: Site, found: Plates) -> str:
    by = found.joined.get(site.index)
    if by is None:
        return "; draw them in a scan, where each step is summed by itself"
    what = "draw" if isinstance(by, Site) else by.kind
    more = "; of an array it adds the elements itself" if what == "factor" else ""
    return f", for the {what} {by.label!r} ({by.source}) is of several of them at once{more}"
