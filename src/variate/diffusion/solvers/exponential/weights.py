"""Integrals of polynomials through predictions, weighted by the decay of the noise, in double precision."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

PANELS = 4  # so that a step in which the noise falls by a factor of e^60 is still integrated to every digit
_nodes, _masses = np.polynomial.legendre.leggauss(16)
POINTS = np.ravel((np.arange(PANELS)[:, None] + 0.5 * (_nodes + 1)) / PANELS)  # of a step from 0 to 1
MASSES = np.tile(0.5 * _masses / PANELS, PANELS)


def lagrange(nodes: Sequence[float], at: Float[np.ndarray, " points"]) -> Float[np.ndarray, "nodes points"]:
    """At some points, the polynomials each of which is one at one of the nodes, and zero at the others."""
    return np.stack(
        [
            np.prod([np.ones_like(at)] + [(at - other) / (node - other) for k, other in enumerate(nodes) if k != j], 0)
            for j, node in enumerate(nodes)
        ]
    )


def points(start: float, end: float) -> Float[np.ndarray, " points"]:
    """Where a step from start to end is looked at."""
    return start + (end - start) * POINTS


def decay(start: float, end: float, rate: float) -> Float[np.ndarray, " points"]:
    r"""What the points count for in $|c| \int_s^t e^{c (\lambda - u)} f(\lambda)\, d\lambda$, for u as in `weights`."""
    peak = end if rate > 0 else start
    return abs(rate) * (end - start) * MASSES * np.exp(rate * (points(start, end) - peak))


def weights(
    nodes: Sequence[float], start: float, end: float, rate: float, growth: Callable[[float], float] | None = None
) -> Float[np.ndarray, " nodes"]:
    r"""$w_j = |c| \int_s^t e^{c (\lambda - u)} L_j(\lambda)\, d\lambda$, for the end u at which the exponential is one.

    That is the end of the step for a positive rate c, and its start for a negative one. $L_j$ is the polynomial through
    the nodes that is one at the j-th. The weights of one node are in closed form, also on a step of infinite length.

    With two nodes, one of them the start s, `growth` is $B$ in the integral of $\lambda - s$, which is then taken to be
    $-h B(-c h) / 2 c$ for the step $h = t - s$. That is within $O(h^3)$ of it where $B(h) = h + O(h^2)$.
    """
    h = end - start
    total = -math.expm1(-abs(rate) * h)
    if len(nodes) == 1:
        return np.array([total])
    if len(nodes) == 2 and growth is not None:
        slope = -0.5 * np.sign(rate) * h * growth(-rate * h) * math.exp(min(rate, 0.0) * h)
        other = 0 if nodes[1] == start else 1
        weight = slope / (nodes[other] - start)
        return np.array([weight, total - weight] if other == 0 else [total - weight, weight])
    return lagrange(nodes, points(start, end)) @ decay(start, end, rate)
