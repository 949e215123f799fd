"""Relaxed draws: whoever makes real numbers of a drawn integer finds them averaged over the values it might have."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jaxtyping import Array

from variate.programs.interpretation import bind
from variate.programs.staging import Constant, Operand, Operation, Program, needed
from variate.programs.writing import Writer

_SHAPES = frozenset("broadcast_in_dim copy expand_dims reshape rev slice squeeze transpose".split())
_ELEMENTWISE = frozenset(
    """
    abs add and clamp convert_element_type div eq ge gt integer_pow le lt max min mul ne neg not or rem select_n sign
    sub xor
    """.split()
)
# They make reals of reals by the formula by which they make integers of integers.
_LINEAR = frozenset("add concatenate mul neg reduce_sum sub".split()) | _SHAPES
_LOOKUPS = frozenset({"dynamic_slice", "gather"})


class Table(NamedTuple):
    """An integer as a function of what was drawn: its value for each drawn value, and the weight of that.

    Both have an axis of drawn values at the end; the weights of the run itself are zeros and a one.
    """

    weights: Operand
    values: Operand
    weight: Any  # their avals
    value: Any


class Real(NamedTuple):
    """A real in the place of an integer: several draws have gone into it."""

    place: Operand
    aval: Any


def relaxed(program: Program, supports: Mapping[int, np.ndarray]) -> Program:
    r"""The same program, in which draws of these finite supports also give weights $w_k$ of their values.

    An integer stays what it was for whoever counts or branches by it; but a real $g(x)$ that is made of one drawn
    integer by comparing, choosing, looking up or casting becomes $\sum_k w_k g(x_k)$, and sums and products of several
    drawn integers are made of such. With the weights of what was drawn, zeros and a one, it is $g(x)$ as before.
    """
    if not supports:
        return program
    writer = _Relaxing(program.size, supports)
    for operation in program.operations:
        writer.append(operation)
    # Calls hold the operations as they were.
    return replace(program, operations=needed(writer.operations, program.outputs), size=writer.size, calls=())


class _Relaxing(Writer):
    """Writes the operations of one program once more."""

    def __init__(self, size: int, supports: Mapping[int, np.ndarray]):
        super().__init__(size)
        self.supports = supports
        self.found: dict[int, Table | Real] = {}  # by the place of the integer
        self.shapes: dict[Any, Operand] = {}  # places of weights, by what was done to which

    def append(self, operation: Operation) -> None:
        if operation.site is not None and operation.site.index in self.supports:
            self.draw(operation, self.supports[operation.site.index])
            return
        if operation.sites:
            bodies = tuple(relaxed(body, self.supports) for body in operation.bodies)
            self.operations.append(replace(operation, bodies=bodies))
            return
        known = {x: self.found[x] for x in operation.inputs if isinstance(x, int) and x in self.found}
        if not known:
            self.operations.append(operation)
        elif len(operation.outputs) == 1 and operation.name in _ELEMENTWISE | _SHAPES and _one_table(known):
            self.elementwise(operation, known)
        elif operation.name in _LOOKUPS and _one_table(known) and operation.inputs[0] not in known:
            self.looked_up(operation, known)
        elif operation.name in _LINEAR | {"convert_element_type"}:
            self.linear(operation, known)
        else:
            self.operations.append(operation)

    def draw(self, operation: Operation, support: np.ndarray) -> None:
        (aval,), site = operation.avals, operation.site
        assert site is not None
        dtype = jnp.result_type(float, *(x.dtype for x in operation.operands[1:]))
        weights, weight = self.place(), ShapedArray((*aval.shape, len(support)), dtype)
        values = support.astype(aval.dtype)
        site = replace(site, values=tuple(values.tolist()))
        outputs = (*operation.outputs, weights)
        self.operations.append(replace(operation, site=site, outputs=outputs, avals=(aval, weight)))
        table = Constant(np.broadcast_to(values, weight.shape))
        self.found[operation.outputs[0]] = Table(weights, table, weight, ShapedArray(weight.shape, aval.dtype))

    def elementwise(self, operation: Operation, known: Mapping[int, Any]) -> None:
        """An operation on one table: done for each of its values."""
        (aval,), table = operation.avals, next(iter(known.values()))
        axes = [-1 if isinstance(x, int) and x in known else None for x in operation.inputs]
        each = jax.vmap(_doing(operation), in_axes=axes, out_axes=-1)
        inputs = [known[x].values if isinstance(x, int) and x in known else x for x in operation.inputs]
        operands = zip(operation.inputs, operation.operands, strict=True)
        avals = [known[x].value if isinstance(x, int) and x in known else like for x, like in operands]
        values = self.write(each, inputs, avals, operation)
        value = ShapedArray((*aval.shape, table.value.shape[-1]), aval.dtype)
        weights, weight = table.weights, ShapedArray(value.shape, table.weight.dtype)
        if operation.name in _SHAPES:
            weights = self.shaped(operation, jax.vmap(_doing(operation), in_axes=-1, out_axes=-1), table)
        elif table.weight.shape != weight.shape:  # a choice between arrays by one number
            weights = self.shaped(operation, lambda w: jnp.broadcast_to(w, weight.shape), table)
        self.settle(operation, Table(weights, values, weight, value))

    def shaped(self, operation: Operation, function: Any, table: Table) -> Operand:
        """Weights in the shape of what is made of them, once for all that is made in the same way."""
        key = (table.weights, operation.name, str(operation.params), operation.avals[0].shape)
        if key not in self.shapes:
            self.shapes[key] = self.write(function, [table.weights], [table.weight], operation)
        return self.shapes[key]

    def looked_up(self, operation: Operation, known: Mapping[int, Any]) -> None:
        """A table of the user's, read at a drawn place."""
        (aval,), table = operation.avals, next(iter(known.values()))
        shape = _alignment(operation, table)
        if shape is None or not jnp.issubdtype(aval.dtype, jnp.inexact):
            self.operations.append(operation)
            return
        axes = [-1 if isinstance(x, int) and x in known else None for x in operation.inputs]
        each = jax.vmap(_doing(operation), in_axes=axes, out_axes=-1)
        inputs = [known[x].values if isinstance(x, int) and x in known else x for x in operation.inputs]
        operands = zip(operation.inputs, operation.operands, strict=True)
        avals = [known[x].value if isinstance(x, int) and x in known else like for x, like in operands]

        def averaged(weights: Array, *operands: Array) -> Array:
            return jnp.sum(weights.reshape(shape).astype(aval.dtype) * each(*operands), axis=-1)

        self.rename(operation, self.write(averaged, [table.weights, *inputs], [table.weight, *avals], operation))

    def linear(self, operation: Operation, known: Mapping[int, Any]) -> None:
        """An operation on reals that several draws may have gone into."""
        reals = {x: self.real(found, operation) for x, found in known.items()}
        inputs = [reals[x].place if isinstance(x, int) and x in reals else x for x in operation.inputs]
        operands = zip(operation.inputs, operation.operands, strict=True)
        avals = [reals[x].aval if isinstance(x, int) and x in reals else like for x, like in operands]
        dtype = jnp.result_type(*(real.aval.dtype for real in reals.values()))
        (aval,) = operation.avals
        if operation.name == "convert_element_type":
            (real,) = reals.values()
            if jnp.issubdtype(aval.dtype, jnp.inexact):
                cast = jnp.copy if aval.dtype == dtype else (lambda x: x.astype(aval.dtype))
                self.rename(operation, self.write(cast, [real.place], [real.aval], operation))
                return
            place = real.place
        else:
            do = _doing(operation)
            place = self.write(lambda *xs: do(*(jnp.asarray(x).astype(dtype) for x in xs)), inputs, avals, operation)
        self.operations.append(operation)
        self.found[operation.outputs[0]] = Real(place, ShapedArray(aval.shape, dtype))

    def settle(self, operation: Operation, table: Table) -> None:
        """An integer has a table; a real is the average over it."""
        if jnp.issubdtype(table.value.dtype, jnp.inexact):
            self.rename(operation, self.real(table, operation).place)
        else:
            self.operations.append(operation)
            self.found[operation.outputs[0]] = table

    def real(self, found: Table | Real, operation: Operation) -> Real:
        if isinstance(found, Real):
            return found
        real = jnp.issubdtype(found.value.dtype, jnp.inexact)
        dtype = found.value.dtype if real else found.weight.dtype

        def average(weights: Array, values: Array) -> Array:
            return jnp.sum(weights.astype(dtype) * values.astype(dtype), axis=-1)

        place = self.write(average, [found.weights, found.values], [found.weight, found.value], operation)
        return Real(place, ShapedArray(found.value.shape[:-1], dtype))

    def rename(self, operation: Operation, place: Operand) -> None:
        """Let the one output of an operation be what stands at a place."""
        (output,) = operation.outputs
        last = self.operations[-1]
        assert last.outputs == (place,)
        self.operations[-1] = replace(last, outputs=(output,))


def _one_table(known: Mapping[int, Any]) -> bool:
    """Whether all that is known is one draw's, in the same order of its elements."""
    tables = list(known.values())
    return all(isinstance(table, Table) for table in tables) and len({table.weights for table in tables}) == 1


def _doing(operation: Operation) -> Any:
    return lambda *operands: bind(replace(operation, from_binary=False), operands)[0]


def _alignment(operation: Operation, table: Table) -> tuple[int, ...] | None:
    """The shape in which the weights of a looked-up place stand beside what was found there."""
    *places, values = table.weight.shape
    rank = len(operation.avals[0].shape)
    if operation.name == "dynamic_slice":
        return (*(1,) * rank, values)
    numbers = operation.params["dimension_numbers"]
    if not places or places[-1] != 1 or numbers.operand_batching_dims:
        return None
    batch = iter(places[:-1])
    return (*(1 if n in numbers.offset_dims else next(batch) for n in range(rank)), values)
