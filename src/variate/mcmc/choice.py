"""The kernel of a target for which none is named, and whether one that is named can move its coordinates."""

import dataclasses
from typing import Any

import numpy as np

from variate.running.measures import named

from .gibbs import Gibbs
from .hamiltonian import NUTS
from .heat_bath import HeatBath

_LENGTHS = {"step_size", "scale", "spread", "width"}  # settings of kernels that move by real numbers


def chosen(target: Any) -> Any:
    """NUTS, and for coordinates that are numbers of values a heat bath."""
    counts = np.concatenate([np.zeros(0, int), *_counts(target).values()])
    real, discrete = (tuple(np.flatnonzero(which).tolist()) for which in (counts == 0, counts > 0))
    if not discrete:
        return NUTS()
    bath = HeatBath(counts[counts > 0].tolist())
    return Gibbs((NUTS(), bath), (real, discrete)) if real else bath


def check_moves(kernel: Any, target: Any) -> None:
    """Raise TypeError for a kernel that moves by real numbers a coordinate of the target that numbers values."""
    names = [name for name, count in _counts(target).items() for _ in count]
    counts = np.concatenate([np.zeros(0, int), *_counts(target).values()])
    for part, block in _parts(kernel, range(len(counts))):
        discrete = [index for index in block if index < len(counts) and counts[index]]
        if discrete and dataclasses.is_dataclass(part) and _LENGTHS & {f.name for f in dataclasses.fields(part)}:
            raise TypeError(
                f"kernel must not move {names[discrete[0]]!r} by real numbers, as {type(part).__name__} does, for its "
                "coordinates are the numbers 0, 1, ... of its values: leave the kernel out, or give these to "
                "vt.mcmc.HeatBath and the others to NUTS, in vt.mcmc.Gibbs"
            )


def _counts(target: Any) -> dict[str, np.ndarray]:
    """Of the coordinates of each draw."""
    return {name: np.ravel(count) for name, count in named(getattr(target, "counts", ()), "position").items()}


def _parts(kernel: Any, coordinates: Any) -> list[tuple[Any, Any]]:
    """Kernels, and the coordinates that each moves."""
    if not isinstance(kernel, Gibbs):
        return [(kernel, coordinates)]
    blocks = ([coordinates[n] for n in block if n < len(coordinates)] for block in kernel.blocks)
    return [each for pair in zip(kernel.kernels, blocks, strict=True) for each in _parts(*pair)]
