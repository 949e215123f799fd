"""Whether a choice between two cases is continuous where it switches, as in `leaky_relu` and `elu`."""

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np

from variate.programs.program import Constant, Operand, Operation

_COMPARISONS = {"gt": np.greater, "ge": np.greater_equal, "lt": np.less, "le": np.less_equal}

_ELEMENTWISE = {
    **_COMPARISONS,
    "abs": np.abs,
    "add": np.add,
    "broadcast_in_dim": lambda x: x,
    "convert_element_type": lambda x: x,
    "div": np.divide,
    "eq": np.equal,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "ne": np.not_equal,
    "neg": np.negative,
    "select_n": lambda which, *cases: cases[int(which)],
    "sqrt": np.sqrt,
    "square": np.square,
    "sub": np.subtract,
    "tanh": np.tanh,
}

_DEPTH = 20


def agrees_at_switch(choice: Operation, producers: Mapping[int, Operation]) -> bool:
    """Whether the two cases of a `select_n` on `u > c` are equal at `u = c`, whatever else they depend on.

    The cases are evaluated at `u = c` with random numbers in the place of all that is not followed; an identity that
    holds at three random points holds. `False` also means unknown.
    """
    predicate = producers.get(choice.inputs[0]) if isinstance(choice.inputs[0], int) else None
    if predicate is None or predicate.name not in _COMPARISONS or len(choice.inputs) != 3:
        return False
    left, right = (_scalar(operand, producers) for operand in predicate.inputs)
    places = [operand for operand in predicate.inputs if isinstance(operand, int)]
    if (left is None) == (right is None):
        return False
    switch = right if left is None else left
    free = predicate.inputs[0] if left is None else places[-1]
    for seed in range(3):
        known = {free: switch}
        with np.errstate(all="ignore"):
            below, above = (_value(case, known, producers, seed, _DEPTH) for case in choice.inputs[1:])
        if not (np.isfinite(below) and np.isfinite(above) and abs(below - above) <= 1e-6 * (1 + abs(below))):
            return False
    return True


def _scalar(operand: Operand, producers: Mapping[int, Operation]) -> float | None:
    """The value of an operand that is one written number, perhaps broadcast or cast."""
    while isinstance(operand, int) and operand in producers:
        producer = producers[operand]
        if producer.name not in ("broadcast_in_dim", "convert_element_type"):
            return None
        operand = producer.inputs[0]
    return float(operand.value) if isinstance(operand, Constant) and np.size(operand.value) == 1 else None


def _value(operand: Operand, known: dict, producers: Mapping[int, Operation], seed: int, depth: int) -> Any:
    if isinstance(operand, Constant):
        return float(np.asarray(operand.value).reshape(-1)[0]) if np.size(operand.value) == 1 else np.nan
    if operand not in known:
        producer = producers.get(operand)
        function = _function(producer) if producer is not None and depth else None
        if producer is None or function is None:
            known[operand] = float(np.random.default_rng([seed, operand]).normal())
        else:
            known[operand] = function(*(_value(o, known, producers, seed, depth - 1) for o in producer.inputs))
    return known[operand]


def _function(operation: Operation) -> Any:
    if operation.name == "integer_pow":
        return lambda x: x ** operation.params["y"]
    return _ELEMENTWISE.get(operation.name)


_TESTS = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


def answer(operation: Operation | None) -> bool | None:
    """The answer of a test that finite numbers cannot change: whether it is finite, equal to itself, or infinite."""
    if operation is not None and operation.name == "is_finite":
        return True
    if operation is None or operation.name not in _TESTS:
        return None
    compare, (left, right) = _TESTS[operation.name], operation.inputs
    if left == right:
        return compare(0, 0)
    sides = [
        float(np.max(o.value)) if isinstance(o, Constant) and np.all(np.isinf(o.value)) else 0.0 for o in (left, right)
    ]
    return compare(*sides) if any(sides) else None
