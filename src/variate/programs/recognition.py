"""Finding in a program what another one would compute, so that it need not be computed, and differentiated, twice."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from variate.programs.program import Constant, Operand, Operation, Program
from variate.programs.staging import stage

_COMMUTATIVE = frozenset("add mul max min".split())
_NOWHERE = -1  # the place of what is not in the program
_SIZE = 1024  # of a constant that is compared by its content


class Index:
    """The results of a program by how they are computed."""

    def __init__(self, program: Program):
        self.staged: dict[Any, Program] = {}
        self.results: dict[Any, tuple[int, ...]] = {}
        self.same: dict[int, Operand] = dict(_constants(program))  # places, and the first place of the same content
        for operation in program.operations:
            inputs = [self.first(operand) for operand in operation.inputs]
            key = None if operation.sites else _key(operation, inputs)
            if key is not None:
                known = self.results.setdefault(key, operation.outputs)
                self.same.update(zip(operation.outputs, known, strict=True))

    def first(self, operand: Operand) -> Operand:
        return self.same.get(operand, operand) if isinstance(operand, int) else operand

    def find(self, name: Any, function: Callable, shapes: Any, inputs: Sequence[Operand]) -> int | None:
        """Where the program computes the one output of `function` of `inputs`; None where it does not.

        `name` stands for the function and the shapes of its arguments: what has one name is staged once.
        """
        try:
            wanted = self.staged.get(name)
        except TypeError:  # of a distribution with a part that cannot be hashed
            return None
        if wanted is None:
            wanted = self.staged[name] = stage(function, *shapes)[0]
        places: dict[int, Operand] = {place: _NOWHERE for place, _ in wanted.constants} | dict(_constants(wanted))
        places.update(zip(wanted.inputs, map(self.first, inputs), strict=True))
        for operation in wanted.operations:
            operands = [places[operand] if isinstance(operand, int) else operand for operand in operation.inputs]
            found = self.results.get(_key(operation, operands))
            if found is None:
                return None
            places.update(zip(operation.outputs, found, strict=True))
        (output,) = wanted.outputs
        place = places[output] if isinstance(output, int) else output
        return place if isinstance(place, int) else None


def _constants(program: Program) -> list[tuple[int, Constant]]:
    return [(place, Constant(value)) for place, value in program.constants if _is_small(value)]


def _is_small(value: Any) -> bool:
    is_key = jnp.issubdtype(jnp.result_type(value), jax.dtypes.prng_key)
    return np.size(value) <= _SIZE and not is_key and not isinstance(value, Tracer)


def _key(operation: Operation, inputs: Sequence[Operand]) -> Any:
    """Equal for operations that compute the same; None for one of which that cannot be told."""
    names = [_name(operand) for operand in inputs]
    if operation.name in _COMMUTATIVE:
        names.sort(key=repr)
    # What is not compared by value is compared by identity, as functions and nested programs are.
    key = (operation.primitive, tuple(sorted(operation.params.items(), key=lambda item: item[0])), tuple(names))
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _name(operand: Operand) -> Any:
    if isinstance(operand, int):
        return operand
    value = np.asarray(operand.value)
    return value.dtype.str, value.shape, value.tobytes()
