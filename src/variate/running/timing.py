"""How long JAX compiles, as JAX tells it."""

import contextlib
import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from jax import monitoring

_EVENTS = "/jax/core/compile/"  # tracing, lowering and compiling, or finding what was compiled before


def told(run: Callable[..., Any]) -> Callable[..., Any]:
    """A run whose `seconds` say how long it compiled, too."""

    @functools.wraps(run)
    def listening(*args: Any, **options: Any) -> Any:
        with timed() as spent:
            found = run(*args, **options)
        return dataclasses.replace(found, seconds={**found.seconds, "compiling": spent()})

    return listening


@contextlib.contextmanager
def timed() -> Iterator[Callable[[], float]]:
    """The seconds so far in which this thread traced, lowered or compiled."""
    spans, thread = [], threading.get_ident()

    def heard(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event.startswith(_EVENTS) and threading.get_ident() == thread:
            spans.append((time.monotonic() - duration_secs, duration_secs))

    monitoring.register_event_duration_secs_listener(heard)
    try:
        yield lambda: covered(spans)
    finally:
        monitoring.unregister_event_duration_listener(heard)


def covered(spans: list[tuple[float, float]]) -> float:
    """The length of the union of spans, each its start and its length: a function is traced inside of another."""
    total, reached = 0.0, float("-inf")
    for start, length in sorted(spans):
        total += max(start + length - max(start, reached), 0.0)
        reached = max(reached, start + length)
    return total
