"""Two things timed in turn on a machine that does other work too: medians, and the median of their ratios."""

import gc
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np


class Pair(NamedTuple):
    """Seconds of ours and of the peer, and the ratio with the ends of its 95% interval."""

    ours: float
    peer: float
    ratio: float
    low: float
    high: float


def compare(ours: Callable[[], float], peer: Callable[[], float], budget: float, width: float = 0.01) -> Pair:
    """Median times of two measurements made in turn, and the median of the ratios of neighbours.

    Neighbours share the load of the moment, so their ratio is steady where neither time is. Measuring ends when the
    median's interval (of order statistics, so whatever the noise) is narrower than `width` on each side, or
    after `budget` seconds.
    """
    times: list[tuple[float, float]] = []
    end = time.perf_counter() + budget
    while True:
        # Who goes second finds the caches of the other: take turns.
        if len(times) % 2:
            second = peer()
            times.append((ours(), second))
        else:
            first = ours()
            times.append((first, peer()))
        ratios = np.sort([a / b for a, b in times])
        low, high = _interval(ratios)
        narrow = len(ratios) >= 15 and (high - low) < 2 * width * np.median(ratios)
        if narrow or (time.perf_counter() > end and len(ratios) >= 3):
            break
    first, second = np.median(np.array(times), axis=0)
    return Pair(float(first), float(second), float(np.median(ratios)), float(low), float(high))


def _interval(ordered: np.ndarray) -> tuple[float, float]:
    """Order statistics around the median, between which it lies with probability 95%."""
    n = len(ordered)
    reach = 0.98 * math.sqrt(n)
    return ordered[max(0, math.floor(n / 2 - reach))], ordered[min(n - 1, math.ceil(n / 2 + reach))]


def repeated(step: Callable[..., Any], params: Any, *args: Any, least: float = 0.004) -> Callable[[], float]:
    """Seconds a step of `params, ... = step(params, *args)`, over enough steps in a row to last `least` seconds."""

    def run(times: int) -> float:
        now, start = params, time.perf_counter()
        for _ in range(times):
            now, *rest = step(now, *args)
        jax.block_until_ready((now, rest))
        return (time.perf_counter() - start) / times

    run(1)
    times = max(1, math.ceil(least / min(run(3) for _ in range(3))))
    return lambda: run(times)


class Stages(NamedTuple):
    """What a jitted function takes before it runs: seconds to trace it, to lower it and to compile it."""

    trace: float
    lower: float
    compile: float


def stages(make: Callable[[], Callable], args: tuple, compiling: bool = True) -> Stages:
    """The stages of a function that JAX has not seen before."""
    function = jax.jit(make())
    gc.collect()
    times = [time.perf_counter()]
    traced = function.trace(*args)
    times.append(time.perf_counter())
    lowered = traced.lower()
    times.append(time.perf_counter())
    if compiling:
        lowered.compile()
    times.append(time.perf_counter())
    return Stages(*np.diff(times))
