"""Which elements of discrete draws can be summed out alone, since all that depends on them does so one by one."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from variate.programs.axes import Link
from variate.programs.carries import Chain, before_of, chains, enters, first_of
from variate.programs.interpretation import run
from variate.programs.program import Factor, Program, Site
from variate.programs.relations import Relation, Relations, Tracing
from variate.programs.simulation import shape_of, steps_of
from variate.programs.staging import stage
from variate.programs.tensors import Unlinked, links_without, order
from variate.programs.weighing import Weighing, unchecked

Links = Mapping[int, tuple[int, ...]]  # by draw, behind which axes of a table its elements that are summed alone are


class Plates(NamedTuple):
    """The axes of elements of each draw along which they are summed alone; the draws that each density depends on.

    `links` has, by the index of a draw or factor, what depends on the draws in `axes`; `joined` what prevents more.
    """

    axes: Mapping[int, tuple[int, ...]]
    links: Mapping[int, Links]
    joined: Mapping[int, Site | Factor]


NONE = Plates({}, {}, {})


def plates(program: Program, numbers: Sequence[Any], counts: Mapping[int, int]) -> Plates:
    """Of the draws in `counts`, which tells how many values each element has."""
    steps = {site.index: len(steps_of(site)) for site in program.sites if site.index in counts}
    shapes = {site.index: shape_of(site) for site in program.sites if site.index in counts}
    shapes = {index: shape for index, shape in shapes.items() if math.prod(shape[steps[index] :]) > 1}
    if not shapes or any(loop.kind == "while" for site in program.sites for loop in site.loops):
        return NONE
    every = chains(program, counts)
    whole = {draw for draw in shapes if not _may_be_alone(program, draw, steps[draw], every, counts)}
    found = _relations(program, numbers, shapes)
    free = {index: set(range(steps[index], len(shape))) for index, shape in shapes.items()}
    stopped: dict[int, Site | Factor] = {}
    about = {each.index: each for each in (*program.sites, *program.factors)}
    for piece, each in found.items():
        for draw, places in each.items():
            links = set() if draw in whole else places.keys()
            if free[draw] - links:
                stopped.setdefault(draw, about[piece])
            free[draw] &= links
    inside = {each.index for chain in every for each in (*chain.scan.sites, *chain.scan.factors)}
    axes = {draw: tuple(sorted(each)) for draw, each in free.items()}

    def linked() -> dict[int, dict[int, tuple[int, ...]]]:
        # In a scan that is run step by step the axis of its steps is not there.
        return {
            piece: {d: tuple(places[e] - (piece in inside) for e in axes[d]) for d, places in each.items()}
            for piece, each in found.items()
        }

    for chain in every:
        sizes = {draw: [shapes[draw][axis] for axis in each] for draw, each in axes.items()}
        if not _alike(chain, sizes, linked()):
            axes |= dict.fromkeys({*chain.draws, *chain.first} & axes.keys(), ())
    links = linked()
    if not any(axes.values()) or not _can_be_ordered(axes, links, counts):
        return NONE._replace(joined=stopped)
    axes = {draw: tuple(axis - steps[draw] for axis in each) for draw, each in axes.items()}
    return _with_chains(Plates(axes, links, stopped), every)


def _may_be_alone(program: Program, draw: int, steps: int, every: Sequence[Chain], counts: Collection[int]) -> bool:
    """Whether the only scan in which draws are summed out that it is in, or reaches, is one that can take it so."""
    entered = enters(program, draw, counts)
    if steps:
        return not entered and steps == 1 and any(draw in chain.draws for chain in every)
    return all(draw in chain.first for chain in every if chain.scan in entered) and len(entered) <= 1


def _alike(chain: Chain, sizes: Mapping[int, list[int]], links: Mapping[int, Links]) -> bool:
    """Whether all draws of a chain have elements that are alone, and the same everywhere."""
    members = {*chain.draws, *chain.first}
    if not members <= sizes.keys() or len({tuple(sizes[draw]) for draw in members}) > 1 or not sizes[chain.draws[0]]:
        return False
    for each in links.values():
        with_first = any(draw in chain.first for draw in each)
        if len({places for draw, places in each.items() if draw in members}) > 1:
            return False
        if with_first and any(sizes[draw] for draw in each if draw not in members):
            return False
    return True


def _with_chains(found: Plates, every: Sequence[Chain]) -> Plates:
    """With the axes of what was drawn last, for which one draw stands, and before."""
    axes, links = dict(found.axes), {piece: dict(each) for piece, each in found.links.items()}
    for chain in every:
        if own := axes.get(chain.draws[0]):
            last = first_of(chain.scan, chain.draws)
            axes[before_of(last)] = own
            for each in links.values():
                if of_chain := [each[draw] for draw in (*chain.draws, *chain.first) if draw in each]:
                    each |= dict.fromkeys((*chain.draws, before_of(last)), of_chain[0])
    return found._replace(axes=axes, links=links)


def _relations(
    program: Program, numbers: Sequence[Any], shapes: Mapping[int, tuple[int, ...]]
) -> dict[int, dict[int, dict[int, int]]]:
    """Of the log density of each draw and factor, element by element: how its axes go along with those of each draw."""
    indices = [site.index for site in program.sites]
    told: list[int] = []

    def densities(numbers: Sequence[Any], given: Sequence[list[Any]]) -> list[Any]:
        handler = Weighing(dict(zip(indices, given, strict=True)), unchecked, {*indices, *(f.index for f in about)})
        _, records = run(program, [jax.random.key(0), *numbers], handler)
        told[:] = records
        return [records[index].log_density for index in told]

    about = program.factors
    given = [
        [jax.ShapeDtypeStruct(shape_of(site, shape), dtype) for shape, dtype in site.event.leaves]
        for site in program.sites
    ]
    staged, out = stage(densities, list(numbers), given)
    inputs: list[Relations] = [{} for _ in jax.tree.leaves(numbers)]
    for index, leaves in zip(indices, given, strict=True):
        inputs += [{index: _itself(shapes[index])} if index in shapes else {} for _ in leaves]
    tracing = Tracing(staged, {}, inputs)
    relations = [tracing.read(tracing.environment, output) for output in staged.outputs]
    return {
        i: {draw: _linked(x.shape, relation, shapes[draw]) for draw, relation in each.items()}
        for i, x, each in zip(told, out, relations, strict=True)
    }


def _itself(shape: tuple[int, ...]) -> Relation:
    return Relation(frozenset(Link(axis, axis, size) for axis, size in enumerate(shape)))


def _linked(shape: tuple[int, ...], relation: Relation, elements: tuple[int, ...]) -> dict[int, int]:
    """The axes of a log density by the axis of the elements of a draw that each goes along with."""
    links = sorted(link for link in relation.links if link.axis >= 0 and not link.causal and not link.turned)
    return {
        link.element: link.axis for link in reversed(links) if shape[link.axis] == link.size == elements[link.element]
    }


def _can_be_ordered(axes: Mapping[int, tuple[int, ...]], links: Mapping[int, Links], counts: Mapping[int, int]) -> bool:
    """Whether all can be summed out element by element, the finest first."""
    alone = {draw for draw, each in axes.items() if each}
    tables = [{d: places for d, places in each.items() if d in alone} for each in links.values()]
    while any(tables):
        sizes = [{d: counts[d] for d in table} for table in tables]
        draw = order(sizes, {d: len(axes[d]) for d in alone})
        try:
            merged = links_without(draw, [table for table in tables if draw in table])
        except Unlinked:
            return False
        tables = [merged, *(table for table in tables if draw not in table)]
    return True
