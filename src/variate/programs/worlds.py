"""Runs of a program for all values of its discrete draws, what depends on them an array over these values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key
from numpyro.distributions import constraints

from variate.programs.forward import forward
from variate.programs.interpretation import CONTROL, bind, read
from variate.programs.plates import Plates
from variate.programs.program import Operation, Program, Site, every_operation
from variate.programs.simulation import shape_of, steps_of
from variate.programs.summable import MOST, Summed
from variate.programs.supports import support_before
from variate.programs.tensors import (
    Axes,
    Run,
    Table,
    drawing_log_sum,
    joined,
    log_sum,
    mapped,
    reduced,
    sizes_of,
    summed,
)
from variate.programs.weighing import Piece, Weighing, unchecked


@dataclass(frozen=True)
class Worlds:
    """Runs a program for all values of the draws that are summed out."""

    draws: Mapping[int, Summed]
    plates: Plates
    handler: Weighing  # of the draws that are summed out it may be given weights of their values
    key: Key[Array, ""] | None = None  # if derivatives of sums are to be draws

    def run(self, program: Program, inputs: Sequence[Any], over: Sequence[Axes], tables: Sequence[Table] = ()) -> Run:
        """Given the draws that each input is an array over, and the weights of their values."""
        environment: list[Any] = [None] * program.size
        for place, value in (*program.constants, *zip(program.inputs, inputs, strict=True)):
            environment[place] = value
        axes: dict[Any, Axes] = dict(zip(program.inputs, over, strict=True))
        tables, pieces = list(tables), {}
        last = _last_read(program)
        for number, operation in enumerate(program.operations):
            operands = [read(environment, operand) for operand in operation.inputs]
            if operation.sites or operation.factors:
                operands = [jnp.asarray(operand) for operand in operands]
            own = [axes.get(operand, ()) for operand in operation.inputs]
            self._check_count(operation, operands, own)
            if operation.bodies and any(site.index in self.draws for site in operation.sites):
                needed = joined([each for place, each in axes.items() if last.get(place, -1) > number])
                found = forward(self, operation, operands, own, tables, needed)
            else:
                found = self._once(operation, operands, own)
                found = found._replace(tables=[*tables, *found.tables])
            tables, pieces = found.tables, {**pieces, **found.pieces}
            for place, value, each in zip(operation.outputs, found.outputs, found.axes, strict=True):
                environment[place], axes[place] = value, each
        outputs = [read(environment, output) for output in program.outputs]
        return Run(outputs, [axes.get(output, ()) for output in program.outputs], tables, pieces)

    def summed(self, tables: Sequence[Table], keep: Axes) -> list[Table]:
        """Tables of the draws in `keep` alone."""
        finest = {index: len(each) for index, each in self.plates.axes.items()}
        return summed(tables, keep, finest, log_sum if self.key is None else self._drawing)

    def _drawing(self, x: Array, axis: int, draw: int) -> Array:
        assert self.key is not None
        return drawing_log_sum(x, axis, jax.random.fold_in(self.key, 3 * abs(draw) + (draw < 0)))

    def _once(self, operation: Operation, operands: list[Any], own: list[Axes]) -> Run:
        if operation.site is not None and operation.site.index in self.draws:
            return self._part(operation.site, operands, own)
        axes = joined(own)
        outputs, pieces = mapped(lambda *operands: self._plain(operation, operands), own)(*operands)
        if axes:
            for draw in (operation, *(inner for body in operation.bodies for inner in every_operation(body))):
                _check_support(draw)
        over = [axes] * len(outputs)
        if operation.site is not None:
            outputs, over = [x[(0,) * len(axes)] for x in outputs], [()]  # it is given, the same for all values
        tables = [self._table(index, piece, axes) for index, piece in pieces.items()]
        pieces = {index: reduced(piece, axes) for index, piece in pieces.items()}
        tables += [Table(jnp.sum(jnp.asarray(piece.volume)), (), {}) for piece in pieces.values()]
        return Run(list(outputs), over, tables, pieces)

    def _plain(self, operation: Operation, operands: Sequence[Any]) -> tuple[list[Any], dict[int, Piece]]:
        """For one value of each draw."""
        if operation.site is not None:
            outputs, piece = self.handler.draw(operation.site, (), operands)
            return outputs, {operation.site.index: piece}
        if operation.factor is not None:
            return [], {operation.factor.index: self.handler.weigh(operation.factor, operands)}
        if operation.sites or operation.factors:
            return CONTROL[operation.name](operation, list(operands), self.handler, ())
        return list(bind(operation, operands)), {}

    def _table(self, index: int, piece: Piece, axes: Axes) -> Table:
        """The log weights that a draw or a factor adds."""
        links, log = self.plates.links.get(index, {}), piece.log_density
        for axis in reversed(axes):
            if axis in self.plates.axes and axis not in links:
                log = log[(slice(None),) * axes.index(axis) + (0,)]  # it is the same for all values
        axes = tuple(axis for axis in axes if axis in links or axis not in self.plates.axes)
        return Table(log, axes, links)

    def _part(self, site: Site, operands: list[Any], own: list[Axes]) -> Run:
        """All values of a draw that is summed out."""
        draw = self.draws[site.index]
        assert draw.values is not None
        shape = (len(draw.values), *shape_of(site)[len(steps_of(site)) :])
        values = jnp.broadcast_to(jnp.asarray(draw.values), shape)

        def weights(value: Array, *operands: Any) -> Piece:
            return replace(self.handler, given={site.index: [value]}, reading=unchecked).draw(site, (), operands)[1]

        axes = [(site.index,), *own]
        piece = mapped(weights, axes)(values, *operands)
        tables = [self._table(site.index, piece, joined(axes))]
        tables += [Table(x, (site.index,), {site.index: draw.alone}) for x in self.handler.given.get(site.index, [])]
        return Run([values], [(site.index,)], tables, {site.index: reduced(piece, joined(axes))})

    def _check_count(self, operation: Operation, operands: list[Any], own: list[Axes]) -> None:
        axes = joined(own)
        sizes = sizes_of(operands, own)
        count = math.prod(sizes[axis] for axis in axes)
        if count > MOST:
            labels = [self.draws[axis].label for axis in axes if axis >= 0]
            raise TypeError(
                f"the draw {labels[-1]!r} cannot be summed out: with those before it there would be {count} values in "
                f"`{operation.name}`, and {MOST} are the most"
            )


def _last_read(program: Program) -> dict[Any, int]:
    """By which operation each place is read last, by number; the outputs are read after all."""
    places = {place: number for number, op in enumerate(program.operations) for place in op.inputs}
    return places | dict.fromkeys(program.outputs, len(program.operations))


def _check_support(draw: Operation) -> None:
    site = draw.site
    if site is not None and type(support_before(draw)) is type(constraints.dependent):
        raise TypeError(
            f"the draw {site.label!r} ({site.source}) depends on a discrete draw that is to be summed out, and so may "
            "its support, for it is not known before the run"
        )
