"""What functions read besides their arguments: by it caches know a function that will do something else."""

import functools
import types
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar, cast

import equinox as eqx
import jax
import numpy as np

_Function = TypeVar("_Function", bound=Callable[..., Any])
_CONSTANT = (bool, int, float, complex, str, bytes, type(None), np.generic)


class _Same:
    """An object that equals itself alone; held, for what takes the place of another could have its address."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


class Closed:
    """What functions read besides their arguments: one object as long as it is the same."""

    def __reduce__(self) -> tuple[Callable[[], "Closed"], tuple[()]]:
        return _elsewhere, ()


@functools.cache
def _elsewhere() -> Closed:
    """In another process, where functions read what came with them."""
    return Closed()


def closed_over(values: tuple[Any, ...]) -> Closed:
    """Of those of the values that are functions, what they read of their closures and modules.

    Followed are functions of the same module, methods, and objects that are called like a function; of both the
    objects' attributes count. Not seen is what changes inside of other modules, of lists, which functions keep records
    in, and of objects of other kinds than dictionaries, NumPy's arrays and JAX's pytrees.
    """
    seen: set[int] = set()
    return _one(tuple(found for value in values for found in _read_by(value, seen)))


# So that caches which are asked for it time and again compare no more than an address.
@functools.lru_cache(maxsize=4096)
def _one(_: tuple[Hashable, ...]) -> Closed:
    return Closed()


def fresh_jit(function: _Function) -> _Function:
    """`equinox.filter_jit` of a function that is given functions: it compiles anew where these read something else."""

    @eqx.filter_jit
    def compiled(_: Closed, args: Any, kwargs: Any) -> Any:
        return function(*args, **kwargs)

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        return compiled(closed_over(tuple(jax.tree.leaves((args, kwargs)))), args, kwargs)

    return cast(_Function, run)


def _read_by(value: Any, seen: set[int]) -> Iterator[Hashable]:
    if _is_called(value) and id(value) not in seen:
        seen.add(id(value))
        # Functions there are known by what they are: those of libraries lead far into them.
        yield from (_known(each, seen, {}) for each in getattr(value, "__dict__", {}).values())
    if isinstance(value, types.MethodType):
        yield from (_known(each, seen, None) for each in getattr(value.__self__, "__dict__", {}).values())
        value = value.__func__
    if not isinstance(value, types.FunctionType) or id(value) in seen:
        return
    seen.add(id(value))
    space = value.__globals__
    for cell in value.__closure__ or ():
        try:
            yield _known(cell.cell_contents, seen, None)
        except ValueError:  # nothing is in it yet
            yield None
    for name in _names(value.__code__):
        if name in space:
            yield _known(space[name], seen, space)


def _is_called(value: Any) -> bool:
    """Whether it is an object of a class of somebody's that is called like a function, a network say."""
    return callable(value) and not isinstance(value, type | types.FunctionType | types.MethodType)


def _known(value: Any, seen: set[int], space: dict[str, Any] | None) -> Hashable:
    """What stands for a value; functions are followed from closures, and from modules to the same module alone."""
    if isinstance(value, _CONSTANT):
        return type(value), repr(value)
    if isinstance(value, types.FunctionType):
        follow = space is None or value.__globals__ is space
        return _Same(value), *(_read_by(value, seen) if follow else ())
    if isinstance(value, types.ModuleType | type | jax.Array | list):
        return _Same(value)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.dtype.str, value.shape, hash(value.tobytes())
    try:
        leaves, structure = jax.tree.flatten(value, is_leaf=lambda part: isinstance(part, list))
        if len(leaves) == 1 and leaves[0] is value:
            return _Same(value), *(_read_by(value, seen) if _is_called(value) else ())
        return hash(structure), structure, *(_known(leaf, seen, space) for leaf in leaves)
    except (TypeError, ValueError):  # keys that have no order, or a part that has no hash
        return _Same(value)


@functools.cache
def _names(code: types.CodeType) -> tuple[str, ...]:
    """The names that it and the functions inside of it look up, attributes among them."""
    inside = (name for part in code.co_consts if isinstance(part, types.CodeType) for name in _names(part))
    return tuple(dict.fromkeys((*code.co_names, *inside)))
