"""Draws that enter a program's results linearly, so that there the mean of one is as good as the draw."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax.numpy as jnp

from variate.programs.program import Constant, Operand, Operation, Program, scan_parts

# Linear in all operands at once.
_LINEAR = frozenset(
    """
    add add_any broadcast_in_dim concatenate convert_element_type copy copy_p cumsum expand_dims imag name neg
    optimization_barrier real reduce_precision reduce_sum reduce_window_sum reshape rev slice squeeze stack sub tile
    transpose pad
    """.split()
)
_BILINEAR = frozenset("dot_general mul conv_general_dilated".split())  # in each of two, for any value of the other
_FIRST = frozenset("div dynamic_slice gather".split())  # in the first, for any value of the others


class Entry(NamedTuple):
    """The draws that a value is affine in, each for any value of the others, and those it depends on otherwise."""

    affine: frozenset[int]
    otherwise: frozenset[int]

    @property
    def spoilt(self) -> "Entry":
        return Entry(frozenset(), self.affine | self.otherwise)


_NOTHING = Entry(frozenset(), frozenset())


def affine_draws(program: Program) -> frozenset[int]:
    """The real draws in which every output is affine, each for any value of the others."""
    reached = _sum(_follow(program, [_NOTHING] * len(program.inputs)))
    real = {site.index for site in program.sites if all(jnp.issubdtype(d, jnp.inexact) for _, d in site.event.leaves)}
    return reached.affine & real


def _follow(program: Program, inputs: Sequence[Entry]) -> list[Entry]:
    environment = dict(zip(program.inputs, inputs, strict=True))

    def read(operand: Operand) -> Entry:
        return _NOTHING if isinstance(operand, Constant) else environment.get(operand, _NOTHING)

    for operation in program.operations:
        environment.update(zip(operation.outputs, _through(operation, list(map(read, operation.inputs))), strict=True))
    return [read(output) for output in program.outputs]


def _through(operation: Operation, entries: list[Entry]) -> list[Entry]:
    name, count = operation.name, len(operation.outputs)
    if operation.site is not None:  # what its law depends on, it is not affine in
        return [Entry(frozenset({operation.site.index}), _sum(entries).spoilt.otherwise)] * count
    real = all(jnp.issubdtype(aval.dtype, jnp.inexact) for aval in operation.avals)
    if name in _LINEAR and real:
        return [_sum(entries)] * count
    if name in _BILINEAR and real:
        return [_product(*entries)] * count
    if name in _FIRST and real:
        return [_sum([entries[0], *(each.spoilt for each in entries[1:])])] * count
    if name == "select_n" and real:
        return [_sum([entries[0].spoilt, *entries[1:]])] * count
    if name == "scan":
        return _scan(operation, entries)
    if name == "cond":
        branches = [_follow(body, entries[1:]) for body in operation.bodies]
        return [_sum([entries[0].spoilt, *each]) for each in zip(*branches, strict=True)]
    inside = Entry(frozenset(), frozenset(site.index for site in operation.sites))
    return [_sum([*(each.spoilt for each in entries), inside])] * count


def _scan(operation: Operation, entries: list[Entry]) -> list[Entry]:
    constants, carried = scan_parts(operation)
    (body,) = operation.bodies
    carry = entries[constants : constants + carried]
    while True:  # there are finitely many draws, and entries only grow
        outputs = _follow(body, [*entries[:constants], *carry, *entries[constants + carried :]])
        again = [_sum(pair) for pair in zip(carry, outputs, strict=False)]
        if again == carry:
            return outputs
        carry = again


def _product(one: Entry, other: Entry) -> Entry:
    both = one.affine & other.affine
    return _sum([one, other, Entry(frozenset(), both)])


def _sum(entries: Iterable[Entry]) -> Entry:
    found = list(entries)
    otherwise = frozenset().union(*(each.otherwise for each in found))
    return Entry(frozenset().union(*(each.affine for each in found)) - otherwise, otherwise)
