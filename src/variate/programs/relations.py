"""How finely a value of a program depends on the elements of a draw: none, diagonal, causal, anticausal or full."""

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from variate.programs import distributions
from variate.programs.axes import Link, Passage, along, passage
from variate.programs.primitive import Event
from variate.programs.program import Constant, Operand, Operation, Program, one_lane, scan_parts
from variate.programs.staging import stage
from variate.programs.structure import Structure


class Relation(NamedTuple):
    """The links of a value to the elements of one draw; with none it is full, and `stopped` is what lost the last."""

    links: frozenset[Link] = frozenset()
    stopped: Operation | None = None

    @property
    def word(self) -> str:
        if not self.links:
            return "full"
        orders = {link.causal for link in self.links}
        return "anticausal" if -1 in orders else "causal" if 1 in orders else "diagonal"


Relations = Mapping[int, Relation]  # by the index of a draw; one that is missing has no influence


class Tracing:
    """The relations of all values of a program.

    Args:
        program: the staged program.
        shapes: of the elements of those draws that are to be told apart: loops, outermost first, lanes, batch.
        inputs: the relations of its inputs, if there are any.
    """

    def __init__(self, program: Program, shapes: Mapping[int, tuple[int, ...]], inputs: Sequence[Relations] = ()):
        self.shapes = shapes
        self.environment = self.follow(program, inputs or [{} for _ in program.inputs], 0)

    def follow(self, program: Program, inputs: Sequence[Relations], depth: int) -> list[Relations]:
        environment: list[Relations] = [{}] * program.size
        for place, relations in zip(program.inputs, inputs, strict=True):
            environment[place] = relations
        for operation in program.operations:
            operands = [self.read(environment, operand) for operand in operation.inputs]
            if any(operands) or operation.sites:
                for place, found in zip(operation.outputs, self.outputs(operation, operands, depth), strict=True):
                    environment[place] = found
        return environment

    @staticmethod
    def read(environment: Sequence[Relations], operand: Operand) -> Relations:
        return {} if isinstance(operand, Constant) else environment[operand]

    def body(self, program: Program, inputs: Sequence[Relations], depth: int) -> list[Relations]:
        environment = self.follow(program, inputs, depth)
        return [self.read(environment, output) for output in program.outputs]

    def outputs(self, operation: Operation, operands: list[Relations], depth: int) -> list[Relations]:
        count = len(operation.outputs)
        if operation.site is not None:
            return [self.drawn(operation, operands)] * count
        if operation.name == "scan":
            return self.scan(operation, operands, depth + 1)
        if operation.name == "cond":
            which, *rest = operands
            cases = [self.body(body, rest, depth) for body in operation.bodies]
            return [met([which, *case], operation) for case in zip(*cases, strict=True)]
        if operation.name == "while":
            inside = {site.index: Relation() for site in operation.sites}
            return [met([inside, *(moved(each, _lost, operation) for each in operands)], operation)] * count
        if operation.bodies:
            return self.body(operation.bodies[0], operands, depth)
        return [
            met([moved(each, passage(operation, i, n), operation) for i, each in enumerate(operands)], operation)
            for n in range(count)
        ]

    def drawn(self, operation: Operation, operands: list[Relations]) -> Relations:
        site = operation.site
        assert site is not None
        passages = (_of_operand(operation, i) for i in range(len(operands)))
        found = [moved(e, p, operation) for e, p in zip(operands, passages, strict=True)]
        shape = self.shapes.get(site.index, ())
        loops = len(shape) - len(element_shape(operation) or ()) if shape else 0
        axes = [-(n + 1) if n < loops else n - loops for n in range(len(shape))]
        own = frozenset(Link(axis, n, shape[n]) for n, axis in enumerate(axes))
        # In a loop its distribution may depend on what it drew in the steps before.
        return met([*found, {site.index: Relation(own)}], operation)

    def scan(self, operation: Operation, operands: list[Relations], depth: int) -> list[Relations]:
        constants, carried = scan_parts(operation)
        (body,) = operation.bodies
        consts, carry = operands[:constants], operands[constants : constants + carried]
        xs = [moved(each, _entering(depth), operation) for each in operands[constants + carried :]]
        while True:
            outputs = self.body(body, [*consts, *carry, *xs], depth)
            late = [_later(each, depth, operation) for each in outputs[:carried]]
            following = [met(pair, operation) for pair in zip(carry, late, strict=True)]
            if [_links(each) for each in following] == [_links(each) for each in carry]:
                break
            carry = following
        last = [_leaving(each, depth, operation) for each in outputs[:carried]]
        begun = operands[constants : constants + carried]
        return [
            *(met(pair, operation) for pair in zip(begun, last, strict=True)),
            *(_stacked(each, depth) for each in outputs[carried:]),
        ]


def met(each: Iterable[Relations], by: Operation) -> Relations:
    """The relations of a value that is made of several: only a link that all have is left."""
    found: dict[int, Relation] = {}
    for relations in each:
        for site, relation in relations.items():
            found[site] = _meet(found[site], relation, by) if site in found else relation
    return found


def _meet(a: Relation, b: Relation, by: Operation) -> Relation:
    causal = {link._replace(causal=0): link.causal for link in a.links}
    pairs = ((link, causal.get(link._replace(causal=0))) for link in b.links)
    # One order and the other together are none.
    common = ((link, order) for link, order in pairs if order is not None and link.causal * order >= 0)
    links = frozenset(link._replace(causal=link.causal or order) for link, order in common)
    return Relation(links, None if links else a.stopped or b.stopped or by)


def moved(relations: Relations, through: Passage, by: Operation) -> Relations:
    """Relations behind an operation; the steps of the loops around it stay what they are."""
    return _passed(relations, lambda link: (link,) if link.axis < 0 else through(link), by)


def _passed(relations: Relations, through: Passage, by: Operation) -> Relations:
    found = {site: frozenset(itertools.chain.from_iterable(map(through, r.links))) for site, r in relations.items()}
    return {site: Relation(links, None if links else relations[site].stopped or by) for site, links in found.items()}


def _lost(link: Link) -> tuple[Link, ...]:
    return ()


def _links(relations: Relations) -> dict[int, frozenset[Link]]:
    return {site: relation.links for site, relation in relations.items()}


def _entering(depth: int) -> Passage:
    """An axis that a scan goes along becomes its steps."""
    return lambda link: (link._replace(axis=link.axis - 1 if link.axis else -depth),)


def _stacked(relations: Relations, depth: int) -> Relations:
    """The steps of a scan become the first axis of what it stacks."""

    def of_link(link: Link) -> Link:
        here = link.axis if -depth < link.axis < 0 else 0 if link.axis == -depth else link.axis + 1
        return link._replace(axis=here)

    return {s: r._replace(links=frozenset(map(of_link, r.links))) for s, r in relations.items()}


def _later(relations: Relations, depth: int, scan: Operation) -> Relations:
    """What a step hands on depends, at the next, on elements of the steps before; in a reverse scan on those after."""
    length, reverse = scan.params["length"], scan.params["reverse"]
    return _passed(relations, lambda link: link.after_steps(length, reverse) if link.axis == -depth else (link,), scan)


def _leaving(relations: Relations, depth: int, scan: Operation) -> Relations:
    """What is left when a scan is over depends on all its steps."""
    return _passed(relations, lambda link: () if link.axis == -depth else (link,), scan)


def element_shape(draw: Operation) -> tuple[int, ...] | None:
    """The shape of the elements of a draw in one step of the loops around it: lanes, then batch; None if not known."""
    assert draw.site is not None
    laws = _laws(draw)
    if laws is None or len(draw.outputs) != 1:
        return None
    shape = (*(lane.size for lane in reversed(draw.site.lanes)), *laws.batch)
    return shape if draw.avals[0].shape[: len(shape)] == shape else None


class _Laws(NamedTuple):
    """Of one lane: the shape of the elements, and the links of their laws to each array of the distribution."""

    batch: tuple[int, ...]
    links: tuple[frozenset[Link], ...]


def _laws(draw: Operation) -> _Laws | None:
    assert draw.site is not None
    try:
        return _laws_of(draw.site.structure, draw.site.event, tuple(one_lane(draw)[1:]))
    except TypeError:  # a distribution with a part that cannot be hashed
        return None


@functools.lru_cache(maxsize=4096)
def _laws_of(structure: Structure, event: Event, arrays: tuple[Any, ...]) -> _Laws | None:
    def density(values: list[Any], *arrays: Any) -> Any:
        drawn = jax.tree.unflatten(event.tree, values)
        return distributions.drawn_log_prob(distributions.elementwise(structure.build(arrays)), drawn)

    values = [jax.ShapeDtypeStruct(*leaf) for leaf in event.leaves]
    program, shape = stage(density, values, *arrays)
    batch = shape.shape
    first = len(values)
    inputs: list[Relations] = [{} for _ in values]
    for i, array in enumerate(arrays):
        inputs.append({i: Relation(frozenset(Link(axis, axis, n) for axis, n in enumerate(array.shape)))})
    tracing = Tracing(program, {}, inputs)
    found = tracing.read(tracing.environment, program.outputs[0])
    assert first + len(arrays) == len(program.inputs)
    return _Laws(batch, tuple(found.get(i, Relation()).links for i in range(len(arrays))))


def _of_operand(draw: Operation, operand: int) -> Passage:
    """How links of an operand of a draw pass to its value: along lanes, and along the axes that its laws keep apart."""
    site, laws = draw.site, _laws(draw)
    assert site is not None
    if operand == 0 or laws is None or element_shape(draw) is None:
        return _lost
    places = list(range(len(draw.operands[operand].shape)))
    axes: dict[int, int] = {}
    for n, lane in enumerate(reversed(site.lanes)):
        axis = lane.axes[operand]
        if axis is not None:
            axes[places.pop(axis)] = n
    for link in laws.links[operand - 1]:
        length = draw.operands[operand].shape[places[link.element]]
        if link.size == length == laws.batch[link.axis] and not link.causal and not link.turned:
            axes[places[link.element]] = len(site.lanes) + link.axis
    return along(axes)
