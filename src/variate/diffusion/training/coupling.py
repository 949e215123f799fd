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
    for name, points in (("start", start), ("rows", rows)):
        check_untraced(name, points)
        if not np.all(np.isfinite(np.asarray(check_points(name, points)))):
            raise ValueError(f"{name} must be finite")
    if jnp.shape(start) != jnp.shape(rows):
        raise ValueError(f"start and rows must be of one shape, got {jnp.shape(start)} and {jnp.shape(rows)}")
    start = check_points("start", start)
    data, noise = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (rows, start))
    return start[jnp.asarray(linear_sum_assignment(cdist(data, noise, "sqeuclidean"))[1])]
