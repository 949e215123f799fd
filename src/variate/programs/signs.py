"""The signs that a value may take, which tell whether a divisor can pass through zero."""

import functools
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import constraints

from variate.programs.program import Operation, one_lane
from variate.programs.structure import Structure

# A set of signs is a bit mask, as the sets of draws are.
NEGATIVE, ZERO, POSITIVE = 1, 2, 4
NOT_NEGATIVE, NONZERO, ANY = ZERO | POSITIVE, NEGATIVE | POSITIVE, NEGATIVE | ZERO | POSITIVE

# Of a triangular matrix: its diagonal has one sign.
REGULAR = 8

# A sum of this many squares vanishes only where a hyperplane is not enough to be; a mean taken off them costs one.
_SQUARES = 3


def poles(operation: Operation, signs: Sequence[int]) -> list[int]:
    """The operands that an operation divides by, as far as they may pass through zero."""
    name, params = operation.name, operation.params
    if name == "custom_linear_solve":
        jaxprs, consts = params["jaxprs"], params["const_lengths"]
        # Symmetric solvers, by Cholesky or conjugate gradients, are for definite matrices.
        symmetric = str(jaxprs.matvec) == str(jaxprs.vecmat)
        return [] if symmetric else list(range(consts.matvec))
    if name == "triangular_solve":
        return [] if params["unit_diagonal"] or signs[0] & REGULAR else [0]
    if name == "integer_pow":
        divisor = 0 if params["y"] < 0 else None
    elif name == "pow":
        divisor = 0 if signs[1] & NEGATIVE else None
    else:
        divisor = _DIVISORS.get(name)
    return [divisor] if divisor is not None and signs[divisor] & ZERO else []


_DIVISORS = {"div": 1, "rsqrt": 0, "digamma": 0, "polygamma": 1, "zeta": 1}


def of_number(value: Any) -> int:
    """Of a constant, or ANY for what is no real number."""
    try:
        signs = np.unique(np.sign(np.asarray(value, float)))
    except (TypeError, ValueError):
        return ANY
    return functools.reduce(int.__or__, (_SIGNS.get(float(sign), ANY) for sign in signs), 0) or ANY


_SIGNS = {-1.0: NEGATIVE, 0.0: ZERO, 1.0: POSITIVE}


def of_draw(draw: Operation) -> int:
    """Of what a draw can be, by the support that NumPyro states; an edge of a continuous one has probability zero."""
    assert draw.site is not None
    try:
        return _of_structure(draw.site.structure, tuple(one_lane(draw)[1:]))
    except TypeError:  # a distribution with a part that cannot be hashed
        return ANY


@functools.lru_cache(maxsize=4096)
def _of_structure(structure: Structure, arrays: tuple) -> int:
    found = [ANY]

    def look(*arrays: Any) -> None:
        distribution = structure.build(arrays)
        if isinstance(distribution, dist.Distribution):
            found[0] = _of_support(distribution.support)

    jax.eval_shape(look, *arrays)
    return found[0]


def _of_support(support: Any) -> int:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if isinstance(support, type(constraints.simplex)):
        return POSITIVE
    if isinstance(support, type(constraints.lower_cholesky) | type(constraints.corr_cholesky)):
        return ANY | REGULAR
    low = getattr(support, "lower_bound", None)
    if not isinstance(low, int | float) or low < 0:
        return ANY
    return NOT_NEGATIVE if support.is_discrete and low == 0 else POSITIVE


def of(operation: Operation, signs: Sequence[int]) -> int:
    """Of the result of an operation on operands of these signs."""
    name = operation.name
    if name in _ALWAYS:
        return _ALWAYS[name]
    if name in _SAME:
        return functools.reduce(int.__or__, signs)
    if name in _KEPT:
        return signs[0]
    if name in ("mul", "div"):
        return _product(operation, *signs)
    signs = [sign & ANY for sign in signs]
    if name == "integer_pow":
        return _square(signs[0]) if operation.params["y"] % 2 == 0 else signs[0]
    if name == "random_gamma":
        return ANY if operation.params.get("log_space") else POSITIVE
    if name == "pow" and signs[0] == POSITIVE:
        return POSITIVE
    if name in ("reduce_sum", "cumsum", "dot_general"):
        return _sum(operation, signs)
    rule = _RULES.get(name)
    return rule(*signs) if rule else ANY


def _product(operation: Operation, a: int, b: int) -> int:
    if operation.inputs[0] == operation.inputs[1]:
        return _square(a)
    # A triangular matrix keeps its diagonal away from zero if its factor is.
    regular = REGULAR if (a & REGULAR and not b & ZERO) or (b & REGULAR and not a & ZERO) else 0
    return _multiply(a, b) | regular


def _sum(operation: Operation, signs: Sequence[int]) -> int:
    shape = operation.operands[0].shape
    if operation.name == "dot_general":
        axes = operation.params["dimension_numbers"][0][0]
        each = _square(signs[0]) if operation.inputs[0] == operation.inputs[1] else _multiply(*signs)
    else:
        axes, each = operation.params.get("axes", ()), signs[0]
    if each == NOT_NEGATIVE and int(np.prod([shape[axis] for axis in axes])) >= _SQUARES:
        return POSITIVE
    return ANY if each == NONZERO else each


def _members(signs: int) -> list[int]:
    return [sign for sign in (NEGATIVE, ZERO, POSITIVE) if signs & sign]


def _pairwise(rule: Callable[[int, int], int]) -> Callable[[int, int], int]:
    """A rule for two signs, for two sets of them."""

    def of_sets(a: int, b: int) -> int:
        return functools.reduce(int.__or__, (rule(*pair) for pair in product(_members(a), _members(b))), 0)

    return of_sets


def _negative(signs: int) -> int:
    return signs & ZERO | (NEGATIVE if signs & POSITIVE else 0) | (POSITIVE if signs & NEGATIVE else 0)


def _square(signs: int) -> int:
    return signs & ZERO | (POSITIVE if signs & (NEGATIVE | POSITIVE) else 0)


@_pairwise
def _add(a: int, b: int) -> int:
    return ANY if {a, b} == {NEGATIVE, POSITIVE} else a if b == ZERO else b


@_pairwise
def _multiply(a: int, b: int) -> int:
    return ZERO if ZERO in (a, b) else POSITIVE if a == b else NEGATIVE


_ALWAYS = {**dict.fromkeys("exp exp2 logistic cosh erfc rsqrt".split(), POSITIVE), "cholesky": ANY | REGULAR}
# What the operands can be, the result can.
_SAME = frozenset("concatenate pad select_and_gather_add stack dynamic_update_slice".split())
_KEPT = frozenset(
    """
    asin asinh atan atanh broadcast_in_dim cbrt convert_element_type copy copy_p cummax cummin dynamic_slice erf
    expand_dims expm1 gather log1p optimization_barrier reduce_max reduce_min reduce_precision reshape rev sinh slice
    sqrt squeeze stop_gradient tanh tile transpose
    """.split()
)
_RULES: dict[str, Callable[..., int]] = {
    "abs": _square,
    "add": _add,
    "add_any": _add,
    "clamp": lambda low, x, high: _RULES["max"](low, _RULES["min"](x, high)),
    "max": _pairwise(max),
    "min": _pairwise(min),
    "neg": _negative,
    "square": _square,
    "sub": lambda a, b: _add(a, _negative(b)),
}
