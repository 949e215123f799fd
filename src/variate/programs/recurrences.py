r"""Linear recurrences: what a step of a scan multiplies a value by that it carries, and what it adds to it."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from variate.programs.dependence import Masks, followed, mask_of, of_carries
from variate.programs.interpretation import bind
from variate.programs.program import Operand, Operation, Program, scan_parts
from variate.programs.writing import Writer


class Leaf(NamedTuple):
    """A value of the body that does not depend on what is carried."""

    operand: Operand
    aval: Any


class Formula(NamedTuple):
    """A function of formulas."""

    function: Callable[..., Array]
    parts: "tuple[Expression, ...]"


Expression = float | Leaf | Formula  # a float is 0 or 1


class Affine(NamedTuple):
    """The value `times` x + `added`, where x is what is carried."""

    times: Expression
    added: Expression


class Recurrence(NamedTuple):
    """What a step makes of a carried value: the carry, how, and whether nothing but itself is made of it."""

    carry: int
    step: Affine
    alone: bool


@dataclass
class Branches:
    """What the branches of a `cond` are to give besides: for each value one expression a branch, in its places."""

    cond: Operation
    values: list[tuple[int, Any, tuple[Expression, ...]]] = field(default_factory=list)


def recurrences(scan: Operation, wanted: Sequence[int], writer: Writer) -> tuple[list[Recurrence], list[Operation]]:
    """Of those wanted among its carries, and the operations of its body, which may give more; places are the writer's.

    A carry whose own past reaches what is added to it by another way is none: as a sum it need not be near to what it
    is where a step takes away what the one before added, and with less noise to it than its parts.
    """
    (body,) = scan.bodies
    constants, carried = scan_parts(scan)
    masks = of_carries(body, constants, carried)
    operations = {id(operation): operation for operation in body.operations}
    found = []
    for carry in wanted:
        own = body.inputs[constants + carry]
        reading = Reading(body, {own}, masks, 1 << carry, writer)
        step = reading.of(body.outputs[carry], scan.avals[carry])
        if step is None or step.added == 0:
            continue
        read = [n for n, output in enumerate(body.outputs) if n != carry and mask_of(masks, output) >> carry & 1]
        inside = (op for op in body.operations if op.sites or op.factors or op.equation.effects)
        weighed = any(mask_of(masks, x) >> carry & 1 for op in inside for x in op.inputs)
        found.append(Recurrence(carry, step, not read and not weighed))
        for branches in reading.branches.values():
            operations[id(branches.cond)] = _giving(operations[id(branches.cond)], branches)
    return found, list(operations.values())


class Reading:
    """Reads off what operations make of a carried value.

    Args:
        body: the program.
        own: the places of the carried value in it.
        masks: what each of its values depends on.
        bit: of the carry among these.
        writer: gives places to what branches are to give besides; None inside of a branch.
    """

    def __init__(self, body: Program, own: set[int], masks: Masks, bit: int, writer: Writer | None):
        self.own, self.masks, self.bit, self.writer = own, masks, bit, writer
        self.producers = {place: op for op in body.operations for place in op.outputs}
        self.known: dict[int, Affine | None] = {}
        self.branches: dict[int, Branches] = {}

    def moved(self, operand: Operand) -> bool:
        return bool(mask_of(self.masks, operand) & self.bit)

    def of(self, operand: Operand, aval: Any) -> Affine | None:
        """How an operand is made of the carried value; None where that is not known."""
        if not isinstance(operand, int) or not self.moved(operand):
            return Affine(0.0, Leaf(operand, aval))
        if operand in self.own:
            return Affine(1.0, 0.0)
        if operand not in self.known:
            producer = self.producers.get(operand)
            self.known[operand] = self.made(producer, operand) if producer is not None else None
        return self.known[operand]

    def made(self, by: Operation, place: int) -> Affine | None:
        name = by.name
        if name == "cond":
            return self.branched(by, by.outputs.index(place))
        if name not in RULES or by.avals[0].dtype == bool:
            return None
        if name == "div" and not jnp.issubdtype(by.avals[0].dtype, jnp.inexact):
            return None  # of integers it cuts off what is left
        if name == "convert_element_type" and by.operands[0].dtype != by.avals[0].dtype:
            return None  # all but to or from a weak type may round
        linear = [self.of(x, aval) for x, aval in zip(by.inputs, by.operands, strict=True)]
        forms = [form for form in linear if form is not None]
        return RULES[name](by, forms) if len(forms) == len(linear) else None

    def branched(self, cond: Operation, output: int) -> Affine | None:
        which, *operands = cond.inputs
        moved = {x for x in operands if self.moved(x)}
        if self.moved(which) or len(moved) != 1 or self.writer is None:
            return None
        (entering,) = moved
        before = self.of(entering, cond.operands[1 + operands.index(entering)])
        aval, cases = cond.avals[output], []
        for body in cond.bodies:
            own = {place for place, x in zip(body.inputs, operands, strict=True) if x == entering}
            masks = followed(body, [int(place in own) for place in body.inputs])
            cases.append(Reading(body, own, masks, 1, None).of(body.outputs[output], aval))
        forms = [case for case in cases if case is not None]
        if before is None or len(forms) < len(cases):
            return None
        times, added = (self.given(cond, aval, [form[n] for form in forms]) for n in (0, 1))
        return Affine(_product(times, before.times), _sum(_product(times, before.added), added))

    def given(self, cond: Operation, aval: Any, cases: Sequence[Expression]) -> Expression:
        """The value that is one of these, by the branch."""
        if _alike(cases):
            return cases[0]
        assert self.writer is not None
        place = self.writer.place()
        self.branches.setdefault(id(cond), Branches(cond)).values.append((place, aval, tuple(cases)))
        return Leaf(place, aval)


def _giving(cond: Operation, more: Branches) -> Operation:
    bodies = []
    for n, body in enumerate(cond.bodies):
        writer = Writer(body.size)
        writer.operations = list(body.operations)
        outputs = [write(writer, cases[n], aval, cond) for _, aval, cases in more.values]
        operations = tuple(writer.operations)
        bodies.append(replace(body, operations=operations, outputs=(*body.outputs, *outputs), size=writer.size))
    places, avals, _ = zip(*more.values, strict=True)
    return replace(cond, bodies=tuple(bodies), outputs=(*cond.outputs, *places), avals=(*cond.avals, *avals))


def write(writer: Writer, expression: Expression, aval: Any, like: Operation) -> Operand:
    """The place of an expression, of this shape."""
    leaves: list[Leaf] = []
    _collect(expression, leaves)
    plain = [jax.ShapeDtypeStruct(leaf.aval.shape, leaf.aval.dtype) for leaf in leaves]

    def valued(*values: Any) -> Array:
        return jnp.broadcast_to(_value(expression, iter(values), aval).astype(aval.dtype), aval.shape)

    return writer.write(valued, [leaf.operand for leaf in leaves], plain, like)


def _collect(expression: Expression, leaves: list[Leaf]) -> None:
    if isinstance(expression, Leaf):
        leaves.append(expression)
    elif isinstance(expression, Formula):
        for part in expression.parts:
            _collect(part, leaves)


def _value(expression: Expression, values: Any, aval: Any) -> Array:
    if isinstance(expression, Leaf):
        return jnp.asarray(next(values))
    if isinstance(expression, Formula):
        return expression.function(*(_value(part, values, aval) for part in expression.parts))
    return jnp.full(aval.shape, expression, aval.dtype)


def _sum(a: Expression, b: Expression) -> Expression:
    if a == 0 or b == 0:
        return a if b == 0 else b
    return Formula(jnp.add, (a, b))


def _product(a: Expression, b: Expression) -> Expression:
    if a == 0 or b == 0:
        return 0.0
    if a == 1 or b == 1:
        return a if b == 1 else b
    return Formula(jnp.multiply, (a, b))


def _negative(a: Expression) -> Expression:
    return 0.0 if a == 0 else Formula(jnp.negative, (a,))


def _alike(cases: Sequence[Expression]) -> bool:
    return isinstance(cases[0], float) and all(case == cases[0] for case in cases)


def _added(by: Operation, forms: list[Affine]) -> Affine:
    one, other = forms
    return Affine(_sum(one.times, other.times), _sum(one.added, other.added))


def _turned(form: Affine) -> Affine:
    return Affine(_negative(form.times), _negative(form.added))


def _taken(by: Operation, forms: list[Affine]) -> Affine:
    return _added(by, [forms[0], _turned(forms[1])])


def _multiplied(by: Operation, forms: list[Affine]) -> Affine | None:
    one, other = sorted(forms, key=lambda form: form.times == 0)
    if other.times != 0:
        return None
    return Affine(_product(one.times, other.added), _product(one.added, other.added))


def _divided(by: Operation, forms: list[Affine]) -> Affine | None:
    one, other = forms
    if other.times != 0:
        return None
    return Affine(*(0.0 if x == 0 else Formula(jnp.divide, (x, other.added)) for x in one))


def _chosen(by: Operation, forms: list[Affine]) -> Affine | None:
    which, *cases = forms
    if which.times != 0:
        return None
    each = ([case[n] for case in cases] for n in (0, 1))
    return Affine(*(x[0] if _alike(x) else Formula(_select, (which.added, *x)) for x in each))


def _select(which: Array, *cases: Array) -> Array:
    shape = jnp.broadcast_shapes(which.shape, *(case.shape for case in cases))
    return lax.select_n(which, *(jnp.broadcast_to(case, shape) for case in cases))


def _scattered(by: Operation, forms: list[Affine]) -> Affine | None:
    into, *rest = forms
    if any(form.times != 0 for form in rest):
        return None
    of_zeros = functools.partial(_bound, by)
    return Affine(into.times, Formula(of_zeros, (into.added, *(form.added for form in rest))))


def _bound(operation: Operation, into: Array, *operands: Array) -> Array:
    aval = operation.avals[0]
    return bind(operation, [jnp.broadcast_to(into, aval.shape).astype(aval.dtype), *operands])[0]


RULES: Mapping[str, Callable[[Operation, list[Affine]], Affine | None]] = {
    "add": _added,
    "add_any": _added,
    "convert_element_type": lambda by, forms: forms[0],
    "copy": lambda by, forms: forms[0],
    "div": _divided,
    "mul": _multiplied,
    "neg": lambda by, forms: _turned(forms[0]),
    "scatter-add": _scattered,
    "select_n": _chosen,
    "sub": _taken,
}
