"""Relaxed draws: whoever makes real numbers of a drawn integer finds them averaged over the values it might have."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import ShapedArray
from jaxtyping import Array

from variate.programs import distributions
from variate.programs.interpretation import bind
from variate.programs.program import Constant, Operand, Operation, Program, needed, one_lane
from variate.programs.writing import Writer

_ELEMENTWISE = frozenset(
    """
    abs add and clamp clz convert_element_type div eq ge gt integer_pow le lt max min mul ne neg not or population_count
    pow rem select_n shift_left shift_right_arithmetic shift_right_logical sign square sub xor
    """.split()
)
_LOOKUPS = frozenset({"dynamic_slice", "gather"})
_MOVES = frozenset("copy reshape rev slice squeeze tile transpose".split()) | _LOOKUPS
_SHAPES = _MOVES | {"broadcast_in_dim"}
_JOINS = frozenset({"concatenate", "stack"})
_REDUCTIONS = frozenset("argmax argmin reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum".split())
# They make reals of reals by the formula by which they make integers of integers.
_FORMULAS = "add convert_element_type cumprod cumsum integer_pow mul neg pad reduce_prod reduce_sum square sub".split()
_POLYNOMIAL = _JOINS | (_SHAPES - _LOOKUPS) | set(_FORMULAS)


class Weights(NamedTuple):
    """Weights of the drawn values, the axis at the end, of length one along an axis that shares an element of the draw.

    `base` are those of which they are a copy but for such axes.
    """

    place: Operand
    aval: Any
    base: Operand


class Table(NamedTuple):
    """A number as a function of what was drawn: its value for each drawn value, along an axis at the end."""

    weights: Weights
    values: Operand
    aval: Any  # of the values


Real = tuple[Operand, Any]  # in the place of an integer that several draws have gone into, with its aval


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
    outputs = tuple(writer.held(output, None) for output in program.outputs)
    # Calls hold the operations as they were.
    return replace(program, operations=needed(writer.operations, outputs), outputs=outputs, size=writer.size, calls=())


class _Relaxing(Writer):
    """Writes the operations of one program once more."""

    def __init__(self, size: int, supports: Mapping[int, np.ndarray]):
        super().__init__(size)
        self.supports = supports
        self.drawn: dict[Operand, Operation] = {}  # by the place of the integer
        self.found: dict[Operand, Table | Real] = {}  # likewise
        self.chosen: dict[Operand, Table] = {}  # by the place of a real that has been averaged
        self.shapes: dict[Any, Weights] = {}  # by what was done to which

    def append(self, operation: Operation) -> None:
        site = operation.site
        if site is not None and site.index in self.supports:
            return self.draw(operation, self.supports[site.index])
        if operation.sites:
            bodies = tuple(relaxed(body, self.supports) for body in operation.bodies)
            return self.keep(replace(operation, bodies=bodies))
        inputs, avals = operation.inputs, operation.operands
        if operation.name == "mul" and any(isinstance(x, Constant) and np.any(np.isinf(x.value)) for x in inputs):
            # Its derivative is infinite, and no number even where it is not chosen, as in NumPyro's Bernoulli.log_prob.
            pairs, hold = zip(inputs, avals, strict=True), lax.stop_gradient
            fixed = [self.write(hold, [x], [aval], operation) if x in self.chosen else x for x, aval in pairs]
            operation = replace(operation, inputs=tuple(fixed))
        known = {x: self.found[x] for x in operation.inputs if x in self.found}
        tables = self.tables(operation, known) if len(operation.outputs) == 1 else {}
        weights = self.weights(operation, tables) if tables else None
        if weights is not None:
            return self.each(operation, tables, weights, averaged=not known)
        return self.polynomial(operation, known) if known and _is_polynomial(operation) else self.keep(operation)

    def draw(self, operation: Operation, support: np.ndarray) -> None:
        (output,), (aval,), site = operation.outputs, operation.avals, operation.site
        assert site is not None
        build, values, shape = site.structure.build, support.astype(aval.dtype), (*aval.shape, len(support))
        with distributions.numpyro_promotion():
            each = jax.eval_shape(lambda *a: distributions.element_probs(build(a)), *one_lane(operation)[1:])
        place, weight = self.place(), ShapedArray(shape, each.dtype)
        site = replace(site, values=tuple(values.tolist()))
        self.operations.append(replace(operation, site=site, outputs=(output, place), avals=(aval, weight)))
        table = self.write(lambda v: jnp.broadcast_to(v, shape), [Constant(values)], [values], operation)
        self.drawn[output] = operation
        self.found[output] = Table(Weights(place, weight, place), table, ShapedArray(shape, aval.dtype))

    def keep(self, operation: Operation) -> None:
        """An operation that reads the integers themselves, and loses all derivatives."""
        if operation.bodies or _is_real(operation):
            operation = replace(operation, inputs=tuple(self.held(x, operation) for x in operation.inputs))
        self.operations.append(operation)

    def held(self, operand: Operand, reader: Operation | None) -> Operand:
        """A drawn integer for a reader who would take the derivatives of the draw for its own."""
        draw = self.drawn.get(operand)
        return operand if draw is None else self.write(jnp.copy, [operand], [draw.avals[0]], reader or draw)

    def tables(self, operation: Operation, known: Mapping[Operand, Table | Real]) -> dict[Operand, Table]:
        """Those of the operands, if all that is known is in tables; of reals where one is chosen or moved about."""
        tables = {x: found for x, found in known.items() if isinstance(found, Table)}
        if len(tables) < len(known):
            return {}
        if operation.name in _SHAPES | {"select_n", "convert_element_type"} and _is_real(operation):
            reals = {x: self.chosen[x] for x in operation.inputs if x in self.chosen}
            own = {table.weights.base for table in tables.values() or reals.values()}
            tables.update((x, table) for x, table in reals.items() if table.weights.base in own or not known)
        return tables

    def weights(self, operation: Operation, tables: Mapping[Operand, Table]) -> Weights | None:
        """Of the output, if each of its numbers is made of one element of one draw."""
        name, params, own = operation.name, operation.params, next(iter(tables.values())).weights
        places, rank = own.aval.shape[:-1], len(operation.avals[0].shape)
        first = tables.get(operation.inputs[0])
        alike = len({(each.weights.base, _placed(each.weights)) for each in tables.values()}) == 1
        if alike and (name in _ELEMENTWISE or (name == "dynamic_slice" and not first)):
            return self.reshaped(own, _placed(own) or (1,) * rank)
        if name == "broadcast_in_dim":
            sizes = dict(zip(params["broadcast_dimensions"], places, strict=True))
            return self.reshaped(own, tuple(sizes.get(axis, 1) for axis in range(rank)))
        if name in _MOVES and first and len(tables) == 1:
            return self.moved(operation, first)
        if name == "gather" and not first and places[-1] == 1:  # else its coordinates are different elements
            batch, offsets = iter(places[:-1]), params["dimension_numbers"].offset_dims
            return self.reshaped(own, [1 if axis in offsets else next(batch) for axis in range(rank)])
        if name == "stack" and alike:
            return self.reshaped(own, (*places[: params["axis"]], 1, *places[params["axis"] :]))
        if name == "concatenate" and alike and places[params["dimension"]] == 1:
            return self.reshaped(own, places)
        if name in _JOINS and len({each.aval.shape[-1] for each in tables.values()}) == 1:
            return self.joined(operation, tables)
        if name in _REDUCTIONS and all(places[axis] == 1 for axis in params["axes"]):
            return self.reshaped(own, [n for axis, n in enumerate(places) if axis not in params["axes"]])
        return None

    def reshaped(self, weights: Weights, places: Sequence[int]) -> Weights:
        """With other axes of length one."""
        shape = (*places, weights.aval.shape[-1])
        if shape == weights.aval.shape:
            return weights
        found = self.once((weights.base, shape), lambda w: w.reshape(shape), [weights.place], [weights.aval])
        return found._replace(base=weights.base)

    def whole(self, table: Table) -> Weights:
        """With a weight for every value."""
        (place, aval, _), shape = table.weights, table.aval.shape
        if aval.shape == shape:
            return table.weights
        return self.once((place, shape, "whole"), lambda w: jnp.broadcast_to(w, shape), [place], [aval])

    def moved(self, operation: Operation, table: Table) -> Weights:
        if not _placed(table.weights) and operation.name != "gather":
            return self.reshaped(table.weights, (1,) * len(operation.avals[0].shape))
        own = self.whole(table)
        before, after = ([n for n in shape if n != 1] for shape in (own.aval.shape[:-1], operation.avals[0].shape))
        if operation.name in ("reshape", "squeeze") and before == after:
            return self.reshaped(own, operation.avals[0].shape)
        if operation.params.get("mode") == lax.GatherScatterMode.FILL_OR_DROP:
            filling = 1 / own.aval.shape[-1]  # what fills the values is a constant, and weights have the sum one
            operation = replace(operation, params={**operation.params, "fill_value": filling})
        (_, *inputs), (_, *avals) = operation.inputs, operation.operands
        each = jax.vmap(_doing(operation), in_axes=(-1, *(None,) * len(inputs)), out_axes=-1)
        key = (own.place, operation.name, str(operation.params), *inputs)
        return self.once(key, each, [own.place, *inputs], [own.aval, *avals])

    def joined(self, operation: Operation, tables: Mapping[Operand, Table]) -> Weights:
        """Of several draws with as many values each, and of what is not drawn, whose weights may be any."""
        wholes = {x: self.whole(table) for x, table in tables.items()}
        inputs, avals = _with(operation, {x: (whole.place, whole.aval) for x, whole in wholes.items()})
        dtype = max((whole.aval.dtype for whole in wholes.values()), key=lambda dtype: dtype.itemsize)
        count = next(iter(tables.values())).aval.shape[-1]

        def join(*weights: Array) -> Array:
            pairs = zip(weights, operation.inputs, strict=True)
            parts = [w if x in wholes else jnp.full((*jnp.shape(w), count), 1 / count) for w, x in pairs]
            return jax.vmap(_doing(operation), in_axes=-1, out_axes=-1)(*(part.astype(dtype) for part in parts))

        return self.once(operation.outputs, join, inputs, avals)

    def once(self, key: Any, function: Callable, inputs: Sequence[Operand], avals: Sequence[Any]) -> Weights:
        """Weights that are made of others, the same for all that is made in the same way."""
        if key not in self.shapes:
            found = jax.eval_shape(function, *avals)
            place = self.write(function, inputs, avals, self.operations[-1])
            self.shapes[key] = Weights(place, ShapedArray(found.shape, found.dtype), place)
        return self.shapes[key]

    def each(self, operation: Operation, tables: Mapping[Operand, Table], weights: Weights, averaged: bool) -> None:
        """An operation done for each drawn value: an integer has a table, a real is the average over it."""
        axes = [-1 if x in tables else None for x in operation.inputs]
        each = jax.vmap(_doing(operation), in_axes=axes, out_axes=-1)
        values = self.write(each, *_with(operation, {x: (t.values, t.aval) for x, t in tables.items()}), operation)
        (output,), (aval,) = operation.outputs, operation.avals
        table = Table(weights, values, ShapedArray((*aval.shape, weights.aval.shape[-1]), aval.dtype))
        if _is_real(operation) and not averaged:
            self.rename(output, self.real(table, operation)[0])
        else:  # an integer is what it was, and a real that is made of averages is one
            self.operations.append(operation)
        (self.chosen if _is_real(operation) else self.found)[output] = table

    def polynomial(self, operation: Operation, known: Mapping[Operand, Table | Real]) -> None:
        """An operation on reals that several draws may have gone into."""
        reals = {x: self.real(found, operation) for x, found in known.items()}
        (output,), (aval,) = operation.outputs, operation.avals
        dtype = max((like.dtype for _, like in reals.values()), key=lambda dtype: dtype.itemsize)

        def do(*operands: Array) -> Array:
            if operation.name == "convert_element_type":
                return jnp.copy(operands[0].astype(aval.dtype if _is_real(operation) else dtype))
            return _doing(operation)(*(jnp.asarray(x).astype(dtype) for x in operands))

        place = self.write(do, *_with(operation, reals), operation)
        if _is_real(operation):
            self.rename(output, place)
        else:
            self.operations.append(operation)
            self.found[output] = place, ShapedArray(aval.shape, dtype)

    def real(self, found: Table | Real, operation: Operation) -> Real:
        if not isinstance(found, Table):
            return found
        weights, real = found.weights, jnp.issubdtype(found.aval.dtype, jnp.inexact)
        dtype = found.aval.dtype if real else weights.aval.dtype

        def average(weights: Array, values: Array) -> Array:
            if real and operation.name != "convert_element_type":
                values = _where_it_counts(lax.stop_gradient(weights), values)
            return jnp.sum(weights.astype(dtype) * values.astype(dtype), axis=-1)

        place = self.write(average, [weights.place, found.values], [weights.aval, found.aval], operation)
        return place, ShapedArray(found.aval.shape[:-1], dtype)

    def rename(self, output: int, place: Operand) -> None:
        """Let an output of an operation be what stands at a place."""
        last = self.operations[-1]
        assert last.outputs == (place,)
        self.operations[-1] = replace(last, outputs=(output,))


def _where_it_counts(weights: Array, values: Array) -> Array:
    """Values of which one without weight that is not finite, as a logarithm not chosen may be, is the likeliest's."""
    likeliest = jnp.broadcast_to(jnp.argmax(weights, axis=-1, keepdims=True), (*values.shape[:-1], 1))
    own = lax.stop_gradient(jnp.take_along_axis(values, likeliest, axis=-1, mode="clip"))
    return jnp.where(jnp.isfinite(values) | (weights != 0), values, own)


def _is_real(operation: Operation) -> bool:
    return any(jnp.issubdtype(aval.dtype, jnp.inexact) for aval in operation.avals)


def _is_polynomial(operation: Operation) -> bool:
    name, (aval, *more) = operation.name, operation.avals
    number = _is_real(operation) or jnp.issubdtype(aval.dtype, jnp.signedinteger)
    return name in _POLYNOMIAL and number and not more and operation.params.get("y", 0) >= 0


def _doing(operation: Operation) -> Callable[..., Any]:
    return lambda *operands: bind(replace(operation, from_binary=False), operands)[0]


def _with(operation: Operation, others: Mapping[Operand, tuple[Operand, Any]]) -> tuple[list[Operand], list[Any]]:
    """The operands of an operation and their avals, with others in place of some."""
    pairs = [others.get(x, (x, aval)) for x, aval in zip(operation.inputs, operation.operands, strict=True)]
    return [operand for operand, _ in pairs], [aval for _, aval in pairs]


def _placed(weights: Weights) -> tuple[int, ...]:
    """The shape of weights; nothing where they are of one element."""
    places = weights.aval.shape[:-1]
    return places if any(n != 1 for n in places) else ()
