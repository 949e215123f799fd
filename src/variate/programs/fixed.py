"""Which numbers of a function's result are the same whatever it is given: read from its program, not from values."""

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from variate.programs.program import Constant, Operation, Program
from variate.programs.smoothness import KINKED, SMOOTH
from variate.programs.staging import program_of, traced

Places = tuple[int, ...]  # of elements, in the flat array


class _Flow(IntEnum):
    """What a value has of the arguments."""

    NONE = 0  # it is fixed
    ALL = 1  # every element depends on them, as far as is known
    SOME = 2  # some elements may be fixed: those that are numbers where the arguments are NaN
    LOST = 3  # it went through what turns NaN into a number, a comparison say, and nothing is known


# They put elements of one array beside those of another.
_BESIDE = frozenset(
    """
    concatenate dynamic_update_slice pad scatter scatter-add scatter-mul scatter_add scatter_mul select_n stack
    """.split()
)
_KEEPS_NAN = (SMOOTH | KINKED | _BESIDE) - {"top_k", "random_gamma", "custom_linear_solve", "linear_solve"}


def fixed(f: Callable[..., PyTree], args: PyTree, known: Sequence[Places]) -> list[Places]:
    """Of each array of `f(*args)` the elements that are the same for all arguments of the shapes and types of `args`.

    `known` has for each array of the arguments the elements that are always the same there. What cannot be told, as
    where f compares, counts as not fixed: an indicator of a rare event looks the same as a constant.
    """

    def anew(*args: Any) -> PyTree:  # a function that no cache of traces knows, for what it reads may have changed
        return f(*args)

    leaves = jax.tree.leaves(args)
    flows = [_of_argument(x, places) for x, places in zip(leaves, known, strict=True)]
    program = program_of(traced(anew, *args))
    found = _flows(program, flows)
    mixed = _Flow.SOME in found
    probe = jax.tree.leaves(_at_nan(anew, args, known)) if mixed else [None] * len(found)
    sizes = [int(np.prod(x.shape, dtype=int)) for x in jax.tree.leaves(jax.eval_shape(anew, *args))]
    return [_places(flow, size, x) for flow, size, x in zip(found, sizes, probe, strict=True)]


def _of_argument(x: Any, places: Places) -> _Flow:
    if len(places) == int(np.prod(x.shape, dtype=int)):
        return _Flow.NONE
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return _Flow.LOST
    return _Flow.SOME if places else _Flow.ALL


def _flows(program: Program, inputs: Sequence[_Flow]) -> list[_Flow]:
    environment = dict.fromkeys(range(program.size), _Flow.NONE)
    environment.update(zip(program.inputs, inputs, strict=True))
    for operation in program.operations:
        into = [_Flow.NONE if isinstance(x, Constant) else environment[x] for x in operation.inputs]
        environment.update(dict.fromkeys(operation.outputs, _after(operation, into)))
    return [_Flow.NONE if isinstance(x, Constant) else environment[x] for x in program.outputs]


def _after(operation: Operation, into: list[_Flow]) -> _Flow:
    flow = max(into, default=_Flow.NONE)
    if flow in (_Flow.NONE, _Flow.LOST):
        return flow
    real = all(jnp.issubdtype(aval.dtype, jnp.floating) for aval in operation.avals)
    chosen = operation.name == "select_n" and into[0] != _Flow.NONE
    if operation.bodies or operation.name not in _KEEPS_NAN or not real or chosen:
        return _Flow.LOST
    return _Flow.SOME if operation.name in _BESIDE else flow


def _at_nan(f: Callable[..., PyTree], args: PyTree, known: Sequence[Places]) -> PyTree:
    """f of NaN, but for what is always the same: only where NaN stays what it is there."""

    def one(x: Any, places: Places) -> Any:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return jax.random.key(0) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else jnp.zeros(x.shape, x.dtype)
        flat = np.full(int(np.prod(x.shape, dtype=int)), np.nan, x.dtype)
        flat[list(places)] = 1
        return jnp.asarray(flat.reshape(x.shape))

    leaves, structure = jax.tree.flatten(args)
    with jax.debug_nans(False):
        return jax.jit(f)(*jax.tree.unflatten(structure, map(one, leaves, known)))


def _places(flow: _Flow, size: int, probe: Any) -> Places:
    if flow == _Flow.NONE:
        return tuple(range(size))
    if flow != _Flow.SOME:
        return ()
    return tuple(np.flatnonzero(~np.isnan(np.asarray(probe))).tolist())
