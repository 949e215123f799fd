"""Plain sampling, as a design: every point a set of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

from .base import Sets, uniform


@dataclass(frozen=True)
class Independent:
    def sets(self, labels: Sequence[str], num_samples: int) -> Sets:
        return Sets(1, None, lambda key: uniform(key, (len(labels),)), lambda u, i: u)
