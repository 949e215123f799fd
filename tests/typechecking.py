"""The type checker of tests: beartype, which checks a function that is made again as it checked it before."""

from collections.abc import Callable
from typing import Any

from beartype import beartype

_checked: dict[tuple[Any, ...], Callable] = {}


def check(function: Callable) -> Callable:
    """Of what jaxtyping gives it: a signature without a body.

    A function inside another is made at every call of it, which took beartype 2 ms each time: more than all else in
    tests of what runs step by step.
    """
    names, annotations = function.__code__.co_varnames, tuple(function.__annotations__.items())
    like = function.__module__, function.__qualname__, function.__code__.co_code, names, annotations
    try:
        found = _checked.get(like)
    except TypeError:  # an annotation that cannot be hashed
        return beartype(function)
    if found is None:
        found = _checked[like] = beartype(function)
    return found
