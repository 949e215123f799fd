"""How many runs an expectation may take, and how many at a time."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import PyTree

from .intervals import Interval
from .stopping import StoppingRule


class Plan(NamedTuple):
    """How to sample; static, so part of what a compiled loop is cached under."""

    until: StoppingRule | None
    num_samples: int  # at most this many; exactly this many without `until` or a design
    block_size: int
    function: Callable[[PyTree], PyTree] | None = None  # of the expectations
    interval: Interval | None = None  # that rests on bounds of the results
