"""Where in the user's files an operation was written."""

import inspect
import os

import jax
from jax.extend.core import JaxprEqn

_SITE = os.path.dirname(os.path.dirname(inspect.getfile(jax)))
_LIBRARIES = (
    *(
        os.path.join(os.path.dirname(os.path.dirname(__file__)), room)
        for room in ("programs", "estimates", "gradients")
    ),
    *(os.path.join(_SITE, name) for name in ("jax", "numpyro", "equinox", "flowjax", "jaxtyping", "beartype")),
    "<",  # code that was made, not written
)
_STAGING = os.path.join(os.path.dirname(__file__), "staging.py")
_BRANCHING = inspect.unwrap(jax.lax.cond).__code__.co_filename


def position(*equations: JaxprEqn | None) -> str:
    """`file:line` of the innermost frame that is no library's, in the first equation that has one.

    What JAX staged before and kept has no frames of the user: the call that it stands in for has them then.
    """
    tracebacks = [equation.source_info.traceback for equation in equations if equation is not None]
    frames = [frame for traceback in tracebacks if traceback is not None for frame in traceback.frames]
    for frame in frames:
        if not frame.file_name.startswith(_LIBRARIES):
            return f"{frame.file_name}:{frame.line_num}"
    return f"{frames[0].file_name}:{frames[0].line_num}" if frames else "an unknown line"


def caller() -> str:
    """`file:line` of the innermost frame that is no library's, of the call that is running."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(_LIBRARIES):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "an unknown line"


def branches() -> int:
    """How many branches of `cond` and `switch` the call that is running is in, up to where the program is staged."""
    count, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_code.co_filename != _STAGING:
        count += frame.f_code.co_filename == _BRANCHING and frame.f_code.co_name in ("cond", "switch")
        frame = frame.f_back
    return count


def short(source: str) -> str:
    """A position without its folders."""
    return source.replace("\\", "/").rsplit("/", 1)[-1]
