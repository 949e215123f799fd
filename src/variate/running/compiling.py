"""What is compiled in less time, and how long JAX compiles, as JAX tells it."""

import contextlib
import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
from jax import monitoring
from jax.core import Tracer

# Without the first that XLA knows a block of steps compiles in up to twice the time, and runs as fast. With both it
# does not compile in less.
_SOONER = {"xla_cpu_use_fusion_emitters": False}, {"xla_cpu_opt_preset": 2}  # the preset of fast compilation
_jit: Any = eqx.filter_jit  # whose type leaves out what it hands on
_EVENTS = "/jax/core/compile/"  # tracing, lowering and compiling, or finding what was compiled before


def sooner(f: Callable[..., Any]) -> Callable[..., Any]:
    """`eqx.filter_jit(f)`, for what is many small operations in loops: compiled in less time where XLA can."""
    traced = eqx.filter_jit(f)
    compiled = functools.cache(lambda: _jit(lambda *args: traced(*args), compiler_options=_options()))

    @functools.wraps(f)
    def called(*args: Any) -> Any:
        # Options of the compiler are for whole programs: what is part of another is compiled as that is.
        inside = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(args))
        return (traced if inside else compiled())(*args)

    return called


@functools.cache
def _options() -> dict[str, Any] | None:
    for options in _SOONER:
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # no such option
            jax.jit(lambda: 0, compiler_options=options).lower().compile()
            return options
    return None


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
