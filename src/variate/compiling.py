"""Whether JAX traces what is computed now, and functions that it compiles in less time."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.core import Tracer

# YNNPACK makes steps of many chains up to twice as long, and rounds products by their number.
_WITHOUT = {"xla_cpu_experimental_ynn_fusion_type": ""}
# Without them what is made of many small operations compiles in less time. Not for the loops of estimates: one of them
# then took three times as long as before to run. JAX 0.12 has no such option, and with its preset of fast compilation
# chains that are shared out would round by how many there are.
_SOONER = ({"xla_cpu_use_fusion_emitters": False} | _WITHOUT, _WITHOUT)
# What runs for some milliseconds at most may take three times as long: the points of a pilot compile in 1.3 s then, and
# without emitters alone in 8.8.
_ONCE = tuple({"xla_backend_optimization_level": 0} | options for options in (*_SOONER, {}))


def traced(*values: Any) -> bool:
    """Whether there are tracers among the leaves of `values`, or even what is made of nothing would be one.

    Under `jit`, whose function may close over all that it uses, numbers are known and what comes of them is not.
    """
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values)) or isinstance(_nothing(), Tracer)


@jax.jit
def _nothing() -> int:
    return 0


def in_one() -> bool:
    """Whether what `sooner` compiles may have one kernel for what is marked so: on processors, without libraries.

    Not on a JAX that is newer than what this was tried on.
    """
    known = jax.__version_info__ < (0, 13) and jax.default_backend() == "cpu"
    return known and _WITHOUT.items() <= (_options(once=False) or {}).items()


def sooner(
    jit: Callable[..., Any] = jax.jit, *, once: bool = False, **options: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates like `jit` with these options: what it makes is compiled in less time, and may run slower.

    `once`: in least time, for what is compiled to run for a moment.
    """

    def decorate(f: Callable[..., Any]) -> Callable[..., Any]:
        within = jit(f, **options)
        alone = functools.cache(lambda: jit(f, **options, compiler_options=_options(once)))

        @functools.wraps(f)
        def called(*args: Any) -> Any:
            # Options of the compiler are for whole programs: what is part of another is compiled as that is.
            return (within if traced(args) else alone())(*args)

        return called

    return decorate


@functools.cache
def _options(once: bool) -> dict[str, Any] | None:
    for options in _ONCE if once else _SOONER:
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # no such option
            jax.jit(lambda: 0, compiler_options=options).lower().compile()
            return options
    return None
