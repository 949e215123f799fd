"""Stratified sampling: one point in each cell of a grid."""

import math
from collections.abc import Mapping, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from variate import checks

from .base import Sets, uniform

_LIMIT = 4096  # cells of a grid


class Stratified(eqx.Module):
    r"""Sets with one uniform point in each cell of a grid into which the coordinates are cut.

    $\mathrm{Var} = n^{-2} \sum_c \sigma_c^2$ over the n cells: only the spread inside of them is left, of order
    $n^{-1-2/d}$ for smooth functions of the d coordinates that are cut, and never more than plain sampling's. The wrong
    choice for many coordinates, since the cells multiply: cut by name the draws that matter, or take `LatinHypercube`.

    Args:
        pieces: into how many pieces of equal probability to cut every coordinate, or those of each draw named.

    Source: Owen (2013), Monte Carlo theory, methods and examples, sections 8.4 and 10.1.
    """

    pieces: int | tuple[tuple[str, int], ...] = eqx.field(static=True)

    def __init__(self, pieces: int | Mapping[str, int]):
        if isinstance(pieces, Mapping):
            found = {checks.check_name(name) or name: number for name, number in pieces.items()}
            self.pieces = tuple((n, checks.check_positive_int(f"pieces[{n!r}]", k)) for n, k in found.items())
        else:
            self.pieces = checks.check_positive_int("pieces", pieces)

    def sets(self, labels: Sequence[str], num_samples: int) -> Sets:
        cuts = self._cuts(labels)
        size = math.prod(cuts)
        if size > _LIMIT:
            raise ValueError(
                f"pieces: {len(labels)} coordinates cut like this make {size} cells, more than {_LIMIT}; cut some by "
                "name, Stratified({'z': 8}) say, or take LatinHypercube()"
            )

        def randomize(key: Key[Array, ""]) -> Float[Array, "n d"]:
            cells = np.stack(np.unravel_index(np.arange(size), cuts), axis=1)
            return (jnp.asarray(cells, float) + uniform(key, (size, len(cuts)))) / jnp.asarray(cuts, float)[None]

        return Sets(size, None, randomize, lambda points, i: points[i])

    def _cuts(self, labels: Sequence[str]) -> tuple[int, ...]:
        if isinstance(self.pieces, int):
            return (self.pieces,) * len(labels)
        pieces = dict(self.pieces)
        unknown = set(pieces) - set(labels)
        if unknown:
            raise ValueError(f"pieces: no draw {min(unknown)!r} is made of uniform numbers; {sorted(set(labels))} are")
        return tuple(pieces.get(label, 1) for label in labels)
