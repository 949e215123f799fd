"""The start that the probability flow of normal data leads to, in closed form."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from variate.checks import describe

from ..checks import check_numbers, check_points
from ..processes.base import Process, check_process, exact_levels
from ..schedules.base import check_times


def teleported(
    process: Process,
    noise: Float[Array, "n d"] | Any,
    mean: Any,
    covariance: Any,
    times: Any,
) -> Float[Array, "n d"]:
    r"""Where the probability flow of normal data leads from the first of two times to the second, in closed form.

    $x_t = \alpha_t m + \sum_k \sqrt{(\alpha_t^2 \lambda_k + \sigma_t^2) / (\alpha_s^2 \lambda_k + \sigma_s^2)}\; u_k
    u_k^\top (x_s - \alpha_s m)$, with the mean m and the covariance $\sum_k \lambda_k u_k u_k^\top$ of the data. While
    there is much noise, data of any law move as normal ones with their moments do, so a run may `start` here at the
    later of the times it still has to take. The wrong choice from a time on at which modes part.

    Args:
        process: how noise takes over.
        noise: points at the first time, one a row: standard normal ones times its $\sigma$.
        mean: m.
        covariance: of the data, d by d.
        times: the first time and the second, which is less.

    Raises:
        TypeError, ValueError: shapes that do not fit, numbers that are not finite, a covariance that is none, or times
            that do not fall.

    Source: Wang and Vastola (2024), The unreasonable effectiveness of Gaussian score approximation for diffusion models
    and its applications, TMLR, section 5, where it is called teleportation.
    """
    check_process(process)
    noise = check_points("noise", noise)
    mean, covariance = check_numbers("mean", mean), check_numbers("covariance", covariance)
    d = len(mean) if mean.ndim == 1 else 0
    if covariance.shape != (d, d) or jnp.shape(noise)[1:] != (d,):
        raise ValueError(
            f"noise, mean and covariance must be of shapes (n, d), (d,) and (d, d), got {describe(noise)}, "
            f"{mean.shape} and {covariance.shape}"
        )
    for name, value in (("mean", mean), ("covariance", covariance), ("noise", noise)):
        if not isinstance(value, Tracer) and not np.all(np.isfinite(np.asarray(value))):
            raise ValueError(f"{name} must be finite")
    if not np.allclose(covariance, covariance.T):
        raise ValueError(f"covariance must be symmetric, got {covariance}")
    _, (alpha_s, alpha_t), (sigma_s, sigma_t) = exact_levels(process, check_times(times, process)[[0, -1]])
    values, axes = np.linalg.eigh(covariance)
    if not np.all(values >= -1e-12 * np.max(np.abs(values))):
        raise ValueError(f"covariance must be positive semidefinite, got one with the eigenvalue {values[0]:.3g}")
    values = np.maximum(values, 0.0)
    shrink = np.sqrt((alpha_t**2 * values + sigma_t**2) / (alpha_s**2 * values + sigma_s**2))
    matrix, dtype = (axes * shrink) @ axes.T, noise.dtype
    before, after = (jnp.asarray(alpha * mean, dtype)[None] for alpha in (alpha_s, alpha_t))
    return (noise - before) @ jnp.asarray(matrix, dtype) + after
