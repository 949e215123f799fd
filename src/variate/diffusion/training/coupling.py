"""Noise that is given to the data that lie nearest: straighter paths for a flow to learn."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from ..checks import check_points, check_untraced


def coupled(start: Float[Array, "n ..."] | Any, rows: Float[Array, "n ..."] | Any) -> Float[Array, "n ..."]:
    r"""The same noise in another order: that in which $\sum_i \lVert \epsilon_i - x_i \rVert^2$ is least.

    The pairs of a batch are then coupled by optimal transport while noise and data keep their laws, so that a velocity
    learned from them has the same end points by straighter paths. Runs on the host, outside `jit`, in $O(n^3)$.

    Raises:
        TypeError, ValueError: noise and data that are not finite points of one shape and number, or are traced.

    Source: Pooladian, Ben-Hamu, Domingo-Enrich, Amos, Lipman and Chen (2023), Multisample flow matching, ICML, sec. 3.
    """
    start, rows = (_finite(*named) for named in (("start", start), ("rows", rows)))
    if start.shape != rows.shape:
        raise ValueError(f"start and rows must be of one shape, got {start.shape} and {rows.shape}")
    data, noise = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (rows, start))
    return start[jnp.asarray(linear_sum_assignment(cdist(data, noise, "sqeuclidean"))[1])]


def _finite(name: str, value: Any) -> Float[Array, "n ..."]:
    check_untraced(name, value)
    points = check_points(name, value)
    if not np.all(np.isfinite(np.asarray(points))):
        raise ValueError(f"{name} must be finite")
    return points
