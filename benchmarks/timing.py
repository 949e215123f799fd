"""Two things timed in turn on a machine that does other work too: medians, and the median of their ratios.

Times are the processor's, of all threads of this process.
"""

import gc
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

Measurement = Callable[[], Sequence[float]]  # seconds of one thing, or of several at once


class Pair(NamedTuple):
    """Median seconds of ours and of the peer, and the median ratio with the ends of its 95% interval."""

    ours: float
    peer: float
    ratio: float
    low: float
    high: float


def compare(ours: Measurement, peer: Measurement, budget: float, width: float = 0.01) -> list[Pair]:
    """Two measurements made in turn, and the median of the ratios of neighbours, for each thing that they measure.

    Neighbours share the load of the moment, so their ratio is steady where neither time is. Measuring ends when the
    interval of every median (of order statistics, so whatever the noise) is narrower than `width` on each side, or
    after `budget` seconds, though not before the third pair unless there is no budget at all.
    """
    times: list[tuple[Sequence[float], Sequence[float]]] = []
    end = time.perf_counter() + budget
    while True:
        # Who goes second finds the caches of the other: take turns.
        if len(times) % 2:
            second = peer()
            times.append((ours(), second))
        else:
            first = ours()
            times.append((first, peer()))
        pairs = [_pair(a, b) for a, b in np.moveaxis(np.array(times), 0, 2).swapaxes(0, 1)]
        narrow = len(times) >= 15 and all(p.high - p.low < 2 * width * p.ratio for p in pairs)
        late = time.perf_counter() > end and (len(times) >= 3 or not budget)
        if narrow or late:
            return pairs


def _pair(ours: np.ndarray, peer: np.ndarray) -> Pair:
    ratios = np.sort(ours / peer)
    n, reach = len(ratios), 0.98 * math.sqrt(len(ratios))
    low, high = ratios[max(0, math.floor(n / 2 - reach))], ratios[min(n - 1, math.ceil(n / 2 + reach))]
    return Pair(*(float(x) for x in (np.median(ours), np.median(peer), np.median(ratios), low, high)))


def repeated(step: Callable[..., Any], params: Any, *args: Any, least: float = 0.01) -> Measurement:
    """Seconds a step of `params, ... = step(params, *args)`, over enough steps in a row to last `least` seconds."""

    def run(times: int) -> float:
        now, start = params, time.process_time()
        for _ in range(times):
            now, *rest = step(now, *args)
        jax.block_until_ready((now, rest))
        return (time.process_time() - start) / times

    run(1)
    times = max(1, math.ceil(least / min(run(3) for _ in range(3))))
    return lambda: (run(times),)


def stages(make: Callable[[], Callable], args: tuple, compiling: bool = True) -> tuple[float, ...]:
    """Seconds that a function which JAX has not seen takes before it runs: to trace, also to lower, also to compile."""
    function = jax.jit(make())
    gc.collect()
    start = time.process_time()
    traced = function.trace(*args)
    tracing = time.process_time() - start
    lowered = traced.lower()
    staging = time.process_time() - start
    if not compiling:
        return tracing, staging
    lowered.compile()
    return tracing, staging, time.process_time() - start
