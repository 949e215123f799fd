"""The type checker of tests: what jaxtyping's decorator checks, with beartype, for less of the suite's time.

jaxtyping binds the arguments of a call to their names, checks them, and checks them again with the result; and of a
function inside another, which is made at every call of it, it makes two more and reads their annotations. All of that
was an eighth of the time of tests that trace.
"""

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import beartype
from beartype.roar import BeartypeCallHintViolation

_NOWHERE = "<types>"  # as of code that was made, which a message that names the user's line passes over
_ONCE_MADE = jaxtyping.jaxtyped
_DIMENSIONS = jaxtyping.jaxtyped("context")  # within it the names of dimensions are those of one call
_checks: dict[tuple[Any, ...], tuple[types.CodeType, Callable | None, Callable | None]] = {}


def jaxtyped(fn: Any = None, *, typechecker: Any = None) -> Any:
    """Stands in for jaxtyping's decorator of functions and data classes; the rest is left to it."""
    if fn is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    if inspect.isclass(fn):
        if dataclasses.is_dataclass(fn) and not _is_checked(fn.__init__):
            fn.__init__ = jaxtyped(fn.__init__, typechecker=typechecker)
        return fn
    if not inspect.isfunction(fn) or any(isinstance(hint, str) for hint in fn.__annotations__.values()):
        return _ONCE_MADE(fn, typechecker=typechecker)
    return _checked(fn) if fn.__annotations__ else fn


def _is_checked(fn: Any) -> bool:
    return inspect.isfunction(fn) and fn.__code__.co_filename == _NOWHERE


def _checks_of(fn: types.FunctionType) -> tuple[Callable | None, Callable | None]:
    """Functions that take what `fn` takes, and what it gives; None where there is nothing to check."""
    like = id(fn.__code__), fn.__qualname__, *fn.__annotations__.items()
    try:
        found = _checks.get(like)
    except TypeError:  # an annotation that cannot be hashed
        return _made(fn)
    if found is None:  # the code is kept, so that no other has its number
        found = _checks[like] = fn.__code__, *_made(fn)
    return found[1:]


def _made(fn: types.FunctionType) -> tuple[Callable | None, Callable | None]:
    hints = dict(fn.__annotations__)
    given = {"return": hints.pop("return")} if "return" in hints else {}
    signature = inspect.signature(fn)
    bare = [
        p.replace(annotation=p.empty, default=p.empty if p.default is p.empty else None)
        for p in signature.parameters.values()
    ]
    taken = str(signature.replace(parameters=bare, return_annotation=signature.empty))
    return _of(fn, f"def made{taken}: pass", hints), _of(fn, "def made(found): return found", given)


def _of(fn: types.FunctionType, source: str, hints: dict[str, Any]) -> Callable | None:
    scope: dict[str, Any] = {}
    exec(compile(source, _NOWHERE, "exec"), scope)
    bare = scope["made"]
    bare.__annotations__, bare.__module__ = hints, fn.__module__
    bare.__name__, bare.__qualname__ = fn.__name__, fn.__qualname__
    found = beartype(bare)
    return None if found is bare else found


def _checked(fn: types.FunctionType) -> Callable:
    checks = None  # made when it is first called, as many a function is not in one process

    @functools.wraps(fn)
    def checked(*args: Any, **kwargs: Any) -> Any:
        nonlocal checks
        __tracebackhide__ = True
        if checks is None:
            checks = _checks_of(fn)
        parameters, result = checks
        with _DIMENSIONS:
            if parameters is not None:
                try:
                    parameters(*args, **kwargs)
                except BeartypeCallHintViolation as error:
                    raise jaxtyping.TypeCheckError(str(error)) from error
            found = fn(*args, **kwargs)
            if result is not None:
                try:
                    result(found)
                except BeartypeCallHintViolation as error:
                    raise jaxtyping.TypeCheckError(str(error)) from error
            return found

    return checked


def _written_nowhere(code: types.CodeType) -> types.CodeType:
    inner = (_written_nowhere(x) if isinstance(x, types.CodeType) else x for x in code.co_consts)
    return code.replace(co_filename=_NOWHERE, co_consts=tuple(inner))


_checked.__code__ = _written_nowhere(_checked.__code__)
