"""How heavy a tail is: the generalised Pareto distribution fitted to the largest of many numbers."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_GRID = 30  # and the root of how many are fitted: points at which the profile likelihood is taken
_PRIOR = 10  # observations that the prior of mean 1/2 is worth
CONVERGES = 0.7  # above which a smoothed mean needs more draws than there ever are
INFINITE = 0.5  # above which the variance is infinite
_SURE = 1.645  # normal quantile of 95%


class Pareto(NamedTuple):
    """$P(X > x) = (1 + k x / \\sigma)^{-1/k}$; moments of the orders below 1/k are finite."""

    k: Float[Array, ""]
    scale: Float[Array, ""]


def fitted(excess: Float[Array, " m"], count: Int[Array, ""]) -> Pareto:
    r"""Of the first `count` numbers, in falling order, all above 0.

    The posterior mean of $\theta = -k / \sigma$ on a grid of the profile likelihood, with the prior of Zhang and
    Stephens, then k drawn to 1/2 as if by ten observations. NaN where a quarter of the numbers are 0, which no such
    distribution explains.

    Source: Zhang and Stephens (2009), A new and efficient estimation method for the generalized Pareto distribution,
    Technometrics 51(3), 316-325, section 4; Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance
    sampling, JMLR 25(72), appendix C.
    """
    dtype, most = excess.dtype, excess.shape[0]
    n = count.astype(dtype)
    used = jnp.arange(most) < count
    quartile = excess[jnp.clip(count - jnp.floor(n / 4 + 0.5).astype(int), 0, most - 1)]
    points = _GRID + jnp.floor(jnp.sqrt(n))
    i = 0.5 + jnp.arange(_GRID + int(most**0.5), dtype=dtype)
    theta = 1 / excess[0] + (1 - jnp.sqrt(points / i)) / (3 * quartile)

    def shape(theta: Float[Array, ""]) -> Float[Array, ""]:
        return jnp.sum(jnp.where(used, jnp.log1p(-theta * excess), 0)) / n

    k = jax.vmap(shape)(theta)
    log_likelihood = jnp.where(i < points, n * (jnp.log(-theta / k) - k - 1), -jnp.inf)
    weights = jax.nn.softmax(log_likelihood)
    best = jnp.sum(weights * theta)
    found = shape(best)
    fits = (quartile > 0) & (count >= 5)
    k = (found * n + 0.5 * _PRIOR) / (n + _PRIOR)
    return Pareto(jnp.where(fits, k, jnp.nan), jnp.where(fits, -found / best, jnp.nan))


def tail_length(num_samples: Int[Array, ""] | int, most: int) -> Int[Array, ""]:
    r"""How many of the largest make the tail, $\min(n/5, 3\sqrt n)$: Vehtari et al. (2024), section 3.2."""
    n = jnp.asarray(num_samples).astype(float)
    return jnp.minimum(jnp.floor(jnp.minimum(0.2 * n, 3 * jnp.sqrt(n))), most).astype(int)


def tail_index(largest: Float[Array, " m"], count: Int[Array, ""]) -> Float[Array, ""]:
    """k of the excess of the `count` largest over the next one; `largest` is in falling order."""
    threshold = largest[count]
    scale = largest[0] - threshold  # so that neither very large nor very small numbers leave the range of floats
    return fitted(jnp.where(scale > 0, (largest[:-1] - threshold) / scale, 0), count).k


def weight_tail_index(log_weights: Float[Array, " m"], count: Int[Array, ""]) -> Float[Array, ""]:
    """The same for weights of which the logarithms are given."""
    return tail_index(jnp.exp(log_weights - log_weights[0]), count)


def surely_infinite(k: Float[Array, "..."], count: Int[Array, ""]) -> Array:
    r"""Whether a tail index is 1/2 or more by its own error, $(1 + k) / \sqrt m$: then the variance is infinite."""
    return jnp.isinf(k) | (k - _SURE * (1 + k) / jnp.sqrt(count.astype(k.dtype)) > INFINITE)


def smoothed(log_weights: Float[Array, " m"], count: Int[Array, ""]) -> tuple[Float[Array, " m"], Float[Array, ""]]:
    r"""The `count` largest log-weights replaced by the expected order statistics of their Pareto distribution; and k.

    `log_weights` are in falling order and more than `count`; those beyond stay, and none ends above the largest. Where
    no Pareto distribution fits, all stay.

    Source: Vehtari et al. (2024), section 3.2, eq. 9.
    """
    top = log_weights[0]
    threshold = jnp.exp(log_weights[count] - top)
    place = jnp.arange(log_weights.size)
    excess = jnp.where(place < count, jnp.exp(log_weights - top) - threshold, 0)
    fit = fitted(excess, count)
    n = count.astype(excess.dtype)
    survival = (place.astype(excess.dtype) + 0.5) / n  # the largest has the smallest
    small = jnp.abs(fit.k) < 1e-8
    k = jnp.where(small, 1.0, fit.k)
    quantile = fit.scale * jnp.where(small, -jnp.log(survival), jnp.expm1(-k * jnp.log(survival)) / k)
    made = jnp.minimum(jnp.log(threshold + quantile) + top, top)
    return jnp.where((place < count) & jnp.isfinite(fit.k), made, log_weights), fit.k
