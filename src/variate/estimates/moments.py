"""The mean of equally weighted draws, and its standard error, while the draws stream by."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from variate.checks import describe
from variate.trees import all_finite, as_float, finite_rows

from .estimate import Estimate


class Spread(NamedTuple):
    """One array's weighted mean, `center + mean`, and the root of the sum of squared deviations from it.

    The center stays where the first draws put it and is always finite. What streams is the deviation from it, small
    beside the spread, so nothing is lost to cancellation, nor to a mean that has become too coarse to move. It is the
    root because the squares of likelihoods, say, leave the range of floats where they themselves are far from its ends.
    """

    center: Float[Array, "..."]
    mean: Float[Array, "..."]
    root: Float[Array, "..."]


def length(parts: Float[Array, "n ..."]) -> Float[Array, "..."]:
    """The root of the sum of squares along the first axis, whatever their scale."""
    limits, half = jnp.finfo(parts.dtype), jnp.max(jnp.abs(parts), axis=0, keepdims=True) / 2
    # A power of two, which rounds nothing off.
    unit = jnp.maximum(jax.lax.reduce_precision(half, limits.nexp, 0), limits.tiny)
    return unit[0] * jnp.sqrt(jnp.sum((parts * (1 / unit)) ** 2, axis=0))


def spread_of(rows: Float[Array, "n ..."], weights: Float[Array, " n"]) -> Spread:
    """Of weighted rows; a row of weight zero does not count, whatever it holds."""
    weights = weights.reshape((-1,) + (1,) * (rows.ndim - 1)).astype(rows.dtype)
    rows = jnp.where(weights == 0, jnp.zeros_like(rows), rows)
    total = jnp.sum(weights)
    scale = jnp.where(total == 0, jnp.zeros_like(total), 1 / total)
    center = jnp.sum(weights * rows, axis=0, keepdims=True) * scale
    center = jnp.where(jnp.isfinite(center), center, jnp.zeros_like(center))
    deviations = rows - center
    mean = jnp.sum(weights * deviations, axis=0, keepdims=True) * scale
    left = deviations - mean
    # Of rows that are all alike it is what the mean is rounded by.
    left = jnp.where(jnp.abs(left) <= 4 * jnp.finfo(left.dtype).eps * jnp.abs(mean), jnp.zeros_like(left), left)
    return Spread(center[0], mean[0], length(jnp.sqrt(weights) * left))


def merged(a: Spread, b: Spread, weight_a: Float[Array, ""], weight_b: Float[Array, ""]) -> Spread:
    """Of both sets: Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance, eq. 2.1."""
    weight_a, weight_b = weight_a.astype(a.mean.dtype), weight_b.astype(a.mean.dtype)
    total = weight_a + weight_b
    share = jnp.where(total == 0, jnp.zeros_like(total), weight_b / total)
    first = weight_a == 0
    center = jnp.where(first, b.center, a.center)
    mean_a = jnp.where(first, jnp.zeros_like(a.mean), a.mean)
    delta = (b.center - center) + (b.mean - mean_a)
    # Where a mean is infinite, adding keeps the infinity that inf - inf would make a NaN.
    mean = jnp.where(jnp.isfinite(delta), mean_a + delta * share, mean_a + b.mean)
    return Spread(center, mean, length(jnp.stack([a.root, b.root, delta * jnp.sqrt(weight_a * share)])))


class Moments(eqx.Module):
    r"""Mean and variance of equally weighted draws, as a fold: $\hat\mu = \bar x$, with stderr $s / \sqrt n$.

    Numerically stable (the pairwise update of Chan, Golub and LeVeque), and exact under `merge` up to rounding. An
    infinite or NaN draw is counted and stays in the mean, as arithmetic has it. One draw has an infinite stderr.

    The wrong choice for weighted draws (`WeightedMoments`) and for correlated ones, whose mean has another error.
    """

    num_samples: Int[Array, ""]
    nonfinite: Int[Array, ""]  # draws with a NaN or an infinity in any leaf
    spread: PyTree  # of the draws' structure, a Spread in place of each array

    @classmethod
    def empty(cls, example: PyTree) -> "Moments":
        def nothing(leaf: Any) -> Spread:
            zero = as_float(jnp.zeros(jnp.shape(leaf), jnp.result_type(leaf)))
            return Spread(zero, zero, zero)

        return cls(jnp.zeros((), int), jnp.zeros((), int), jax.tree.map(nothing, example))

    @classmethod
    def of_rows(cls, rows: PyTree[Array], count: Int[Array, ""] | int | None = None) -> "Moments":
        """Of a block of draws along the leading axis of each leaf; with `count`, of its first `count` rows."""
        rows = jax.tree.map(as_float, rows)
        size = jax.tree.leaves(rows)[0].shape[0]
        used = jnp.arange(size) < (size if count is None else count)
        return cls(
            jnp.sum(used),
            jnp.sum(used & ~finite_rows(rows)),
            jax.tree.map(lambda leaf: spread_of(leaf, used.astype(leaf.dtype)), rows),
        )

    def add(self, x: PyTree, log_weight: Any = 0.0) -> "Moments":
        if not (isinstance(log_weight, int | float) and log_weight == 0):
            raise ValueError(
                f"Moments weighs all draws alike, got log_weight={describe(log_weight)}: WeightedMoments takes weights"
            )
        return self.merge(Moments.of_rows(jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], x)))

    def merge(self, other: "Moments") -> "Moments":
        def both(a: Spread, b: Spread) -> Spread:
            dtype = a.mean.dtype
            return merged(a, b, self.num_samples.astype(dtype), other.num_samples.astype(dtype))

        return Moments(
            self.num_samples + other.num_samples,
            self.nonfinite + other.nonfinite,
            jax.tree.map(both, self.spread, other.spread, is_leaf=is_spread),
        )

    @property
    def row(self) -> PyTree[Array]:
        """The draws so far as one, their mean."""
        return jax.tree.map(lambda spread: spread.center + spread.mean, self.spread, is_leaf=is_spread)

    def read(self) -> Estimate:
        def stderr(spread: Spread) -> Array:
            n = self.num_samples.astype(spread.mean.dtype)
            return jnp.where(n > 1, spread.root / jnp.sqrt(n * (n - 1)), jnp.inf)

        return Estimate(
            self.row,
            jax.tree.map(stderr, self.spread, is_leaf=is_spread),
            self.num_samples,
            (self.nonfinite == 0) & all_finite(self.row),
            self.nonfinite,
        )


def is_spread(node: Any) -> bool:
    return isinstance(node, Spread)
