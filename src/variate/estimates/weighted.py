"""The mean of draws that come with weights, known up to a common factor."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from variate.trees import all_finite, as_float, finite_rows

from .estimate import Estimate
from .moments import Moments, Spread, is_spread, length, merged, spread_of


class WeightedMoments(eqx.Module):
    r"""The self-normalised weighted mean as a fold: $\hat\mu = \sum_i w_i x_i / \sum_i w_i$.

    Its standard error is the delta method's, $\sum_i w_i^2 (x_i - \hat\mu)^2 / (\sum_i w_i)^2$ squared, times
    $m / (m - 1)$ for an effective number of draws $m = (\sum_i w_i)^2 / \sum_i w_i^2$; with equal weights it is that of
    `Moments`. Weights enter as logarithms and are kept relative to the largest, so none overflows. A draw of weight
    zero does not count, whatever its value; a NaN weight makes the draw a non-finite one.

    The wrong choice when a few draws carry most of the weight: neither the mean nor its error bar is then to be
    trusted, and `effective_samples` says so. The bias, of order 1/n, is not in the error bar.

    Source: Owen (2013), Monte Carlo theory, methods and examples, section 9.2, eq. 9.8.
    """

    num_samples: Int[Array, ""]
    nonfinite: Int[Array, ""]  # draws with a NaN or an infinity in any leaf, or such a weight
    log_scale: Float[Array, ""]  # the largest log-weight so far; sums are relative to it
    weight: Float[Array, ""]  # sum of w
    weight_squared: Float[Array, ""]  # sum of w²
    spread: PyTree  # under weights w, a Spread in place of each array
    spread_squared: PyTree  # under weights w²

    @classmethod
    def empty(cls, example: PyTree) -> "WeightedMoments":
        none = Moments.empty(example)
        zero = jnp.zeros((), float)
        return cls(none.num_samples, none.nonfinite, zero - jnp.inf, zero, zero, none.spread, none.spread)

    @classmethod
    def of_rows(cls, rows: PyTree[Array], log_weights: Float[Array, " n"]) -> "WeightedMoments":
        """Of a block of draws along the leading axis of each leaf, one log-weight each."""
        rows, log_weights = jax.tree.map(as_float, rows), log_weights.astype(float)
        log_scale = jnp.max(log_weights)
        weights = _rescaled(log_weights, log_scale)
        invalid = jnp.isnan(log_weights) | jnp.isposinf(log_weights)
        rows_used = ~jnp.isneginf(log_weights)
        return cls(
            jnp.asarray(log_weights.size, int),
            jnp.sum((rows_used & ~finite_rows(rows)) | invalid),
            log_scale,
            jnp.sum(weights),
            jnp.sum(weights**2),
            jax.tree.map(lambda leaf: spread_of(leaf, weights), rows),
            jax.tree.map(lambda leaf: spread_of(leaf, weights**2), rows),
        )

    @property
    def effective_samples(self) -> Float[Array, ""]:
        r"""$(\sum w)^2 / \sum w^2$: how many equally weighted draws would be as good (Kong 1992)."""
        return self.weight**2 / self.weight_squared

    def add(self, x: PyTree, log_weight: Any = 0.0) -> "WeightedMoments":
        rows = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], x)
        return self.merge(WeightedMoments.of_rows(rows, jnp.asarray(log_weight, float)[None]))

    def merge(self, other: "WeightedMoments") -> "WeightedMoments":
        log_scale = jnp.maximum(self.log_scale, other.log_scale)
        a, b = self._relative_to(log_scale), other._relative_to(log_scale)
        return WeightedMoments(
            a.num_samples + b.num_samples,
            a.nonfinite + b.nonfinite,
            log_scale,
            a.weight + b.weight,
            a.weight_squared + b.weight_squared,
            _merged(a.spread, b.spread, a.weight, b.weight),
            _merged(a.spread_squared, b.spread_squared, a.weight_squared, b.weight_squared),
        )

    def read(self) -> Estimate:
        m = self.effective_samples

        def stderr(first: Spread, second: Spread) -> Array:
            # Around the mean under w, from the moments under w².
            shift = (second.center - first.center) + (second.mean - first.mean)
            weight, squared = self.weight.astype(first.mean.dtype), self.weight_squared.astype(first.mean.dtype)
            deviation = length(jnp.stack([second.root, shift * jnp.sqrt(squared)])) / weight
            return jnp.where(m > 1, deviation * jnp.sqrt(m / (m - 1)).astype(first.mean.dtype), jnp.inf)

        value = jax.tree.map(lambda spread: spread.center + spread.mean, self.spread, is_leaf=is_spread)
        return Estimate(
            value,
            jax.tree.map(stderr, self.spread, self.spread_squared, is_leaf=is_spread),
            self.num_samples,
            (self.nonfinite == 0) & all_finite(value),
            self.nonfinite,
        )

    def _relative_to(self, log_scale: Float[Array, ""]) -> "WeightedMoments":
        factor = _rescaled(self.log_scale, log_scale)

        def shrink(spread: PyTree, by: Float[Array, ""]) -> PyTree:
            return jax.tree.map(lambda s: s._replace(root=s.root * by.astype(s.root.dtype)), spread, is_leaf=is_spread)

        return WeightedMoments(
            self.num_samples,
            self.nonfinite,
            log_scale,
            self.weight * factor,
            self.weight_squared * factor**2,
            shrink(self.spread, jnp.sqrt(factor)),
            shrink(self.spread_squared, factor),
        )


def _rescaled(log_weights: Float[Array, "..."], log_scale: Float[Array, ""]) -> Float[Array, "..."]:
    """exp(log_weights - log_scale), and zero for a weight of zero even where the largest is zero too."""
    return jnp.where(jnp.isneginf(log_weights), jnp.zeros_like(log_weights), jnp.exp(log_weights - log_scale))


def _merged(a: PyTree, b: PyTree, weight_a: Float[Array, ""], weight_b: Float[Array, ""]) -> PyTree:
    return jax.tree.map(lambda x, y: merged(x, y, weight_a, weight_b), a, b, is_leaf=is_spread)
