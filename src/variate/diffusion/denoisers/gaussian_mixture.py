"""The exact denoiser of a mixture of normals: a model whose every answer is known."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from variate.checks import check_key, describe

from ..checks import check_numbers
from ..processes.base import Level, Process, check_process
from .base import ExactDenoiser, Prediction, level_at


class GaussianMixture(ExactDenoiser):
    r"""$p_0 = \sum_k w_k N(m_k, C_k)$ in d dimensions, and what follows from it at every time, in closed form.

    At time t it is $\sum_k w_k N(\alpha m_k, \alpha^2 C_k + \sigma^2 I)$, with responsibilities $r_k(x)$, and
    $E[\epsilon \mid x] = \sigma \sum_k r_k (\alpha^2 C_k + \sigma^2 I)^{-1} (x - \alpha m_k)$. It is what solvers are
    measured against. One component makes it a normal distribution.

    Args:
        process: how noise takes over.
        weights: $w_k$, positive; they are divided by their sum.
        means: $m_k$, one a row.
        covariances: $C_k$, each symmetric and positive semidefinite, or one number for each: a variance of all
            coordinates.

    Raises:
        TypeError: what is no array of real numbers, or traced.
        ValueError: shapes that do not fit, weights that are not positive, a covariance that is not one.
    """

    process: Process
    log_weights: Float[Array, " k"]
    means: Float[Array, "k d"]
    variances: Float[Array, "k d"]  # of each component along its axes
    axes: Float[Array, "k d d"] | None  # the eigenvectors, in columns; None where they are the coordinates'

    def __init__(self, process: Process, weights: Any, means: Any, covariances: Any) -> None:
        check_process(process)
        given = {"weights": weights, "means": means, "covariances": covariances}
        weights, means, covariances = (check_numbers(name, value) for name, value in given.items())
        if means.ndim != 2 or weights.shape != means.shape[:1] or not means.size:
            raise ValueError(
                f"weights and means must be of shapes (k,) and (k, d), k and d at least 1, got {weights.shape} and "
                f"{means.shape}"
            )
        if not (np.all(weights > 0) and np.all(np.isfinite(weights))):
            raise ValueError(f"weights must be positive and finite, got {weights}")
        for name, value in (("means", means), ("covariances", covariances)):
            if not np.all(np.isfinite(value)):
                raise ValueError(f"{name} must be finite, got {value}")
        k, d = means.shape
        if covariances.shape == (k,):
            variances, axes = np.repeat(covariances[:, None], d, 1), None
        elif covariances.shape == (k, d, d) and np.allclose(covariances, np.swapaxes(covariances, 1, 2)):
            variances, axes = np.linalg.eigh(covariances)
        else:
            raise ValueError(
                f"covariances must be {k} symmetric matrices of shape {(d, d)} or {k} variances, "
                f"got an array of shape {covariances.shape}"
            )
        if not np.all(variances >= -1e-12 * np.max(np.abs(variances))):
            raise ValueError(
                f"covariances must be positive semidefinite, got one with the eigenvalue {np.min(variances):.4g}"
            )
        self.process = process
        self.log_weights = jnp.log(weights / weights.sum())
        self.means = jnp.asarray(means)
        self.variances = jnp.asarray(np.maximum(variances, 0.0))
        self.axes = None if axes is None else jnp.asarray(axes)

    def _parts(self, x: Float[Array, " d"] | Any, level: Level) -> tuple[Float[Array, " k"], Float[Array, "k d"]]:
        """The log density of each component with its weight, and the residual over its variance, along its axes."""
        if jnp.shape(x) != self.means.shape[1:]:
            raise ValueError(f"the mixture is one of points of shape {self.means.shape[1:]}, got {describe(x)}")
        rest = x[None] - level.alpha * self.means.astype(x.dtype)
        if self.axes is not None:
            rest = jnp.einsum("kde,kd->ke", self.axes.astype(x.dtype), rest)
        variances = level.alpha**2 * self.variances.astype(x.dtype) + level.sigma**2
        logs = -0.5 * jnp.sum(rest**2 / variances + jnp.log(2 * jnp.pi * variances), axis=-1)
        return self.log_weights.astype(x.dtype) + logs, rest / variances

    def _averaged(self, shares: Float[Array, " k"], vectors: Float[Array, "k d"]) -> Float[Array, " d"]:
        """Of vectors along the axes of the components."""
        if self.axes is None:
            return shares @ vectors
        return jnp.einsum("k,kde,ke->d", shares, self.axes.astype(vectors.dtype), vectors)

    def predict(self, x: Float[Array, " d"] | Any, level: Level) -> Prediction:
        logs, pulled = self._parts(x, level)
        shares = jax.nn.softmax(logs)
        means, variances = self.means.astype(x.dtype), self.variances.astype(x.dtype)
        # Each form by itself: found from the other, the data would be lost in the noise of late times.
        data = shares @ means + level.alpha * self._averaged(shares, variances * pulled)
        return Prediction(data, level.sigma * self._averaged(shares, pulled))

    def log_marginal(self, x: Float[Array, " d"] | Any, level: Level) -> Float[Array, ""]:
        return jax.nn.logsumexp(self._parts(x, level)[0])

    def draw(self, key: Key[Array, ""] | Any, t: Any = 0.0) -> Float[Array, " d"]:
        r"""A draw of $p_t$."""
        check_key(key)
        which, inside, noise = jax.random.split(key, 3)
        level, dtype = level_at(self.process, t), self.means.dtype
        k = jax.random.categorical(which, self.log_weights)
        spread = jnp.sqrt(self.variances[k]) * jax.random.normal(inside, self.means.shape[1:], dtype)
        data = self.means[k] + (spread if self.axes is None else self.axes[k] @ spread)
        return level.alpha * data + level.sigma * jax.random.normal(noise, data.shape, dtype)
