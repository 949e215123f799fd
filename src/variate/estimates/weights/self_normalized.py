"""Runs that come with weights known up to a factor, and the ratio of means that does without it."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from variate.estimates.estimate import Estimate
from variate.estimates.moments import is_spread
from variate.estimates.weighted import WeightedMoments


class Weighted(NamedTuple):
    """A result, or results along a leading axis, and the logarithm of its weight."""

    value: PyTree[Array]
    log_weight: Float[Array, "*n"]


class SelfNormalized(eqx.Module):
    r"""$\sum_i w_i x_i / \sum_i w_i$ of `Weighted` rows, as a fold; what `WeightedMoments` says of it.

    Rows are runs, or sets of runs that depend on each other (of a design): such a set is the row of its own weighted
    mean and of its mean weight, and the delta method over sets gives the error of the ratio.

    Source: Owen (2013), Monte Carlo theory, methods and examples, section 9.2; Cochran (1977), Sampling techniques,
    section 6.3, for sets.
    """

    moments: WeightedMoments

    @classmethod
    def empty(cls, example: Weighted) -> "SelfNormalized":
        return cls(WeightedMoments.empty(example.value))

    @classmethod
    def of_rows(cls, rows: Weighted, count: Int[Array, ""] | int | None = None) -> "SelfNormalized":
        size = rows.log_weight.shape[0]
        used = jnp.arange(size) < (size if count is None else count)
        moments = WeightedMoments.of_rows(rows.value, jnp.where(used, rows.log_weight, -jnp.inf))
        return cls(eqx.tree_at(lambda m: m.num_samples, moments, jnp.sum(used)))

    def add(self, x: PyTree, log_weight: Any = 0.0) -> "SelfNormalized":
        return SelfNormalized(self.moments.add(x, log_weight))

    def merge(self, other: "SelfNormalized") -> "SelfNormalized":
        return SelfNormalized(self.moments.merge(other.moments))

    @property
    def num_samples(self) -> Int[Array, "*sets"]:
        return self.moments.num_samples

    @property
    def nonfinite(self) -> Int[Array, "*sets"]:
        return self.moments.nonfinite

    @property
    def row(self) -> Weighted:
        """The rows so far as one."""
        m = self.moments
        value = jax.tree.map(lambda s: s.center + s.mean, m.spread, is_leaf=is_spread)
        return Weighted(value, jnp.log(m.weight / m.num_samples.astype(m.weight.dtype)) + m.log_scale)

    def read(self) -> Estimate:
        """No number at all where all weights are 0."""
        found = self.moments.read()
        none = ~(self.moments.weight > 0)
        nan = lambda x: jnp.where(none, jnp.nan, x)  # noqa: E731
        return eqx.tree_at(
            lambda e: (e.value, e.stderr, e.converged),
            found,
            (jax.tree.map(nan, found.value), jax.tree.map(nan, found.stderr), found.converged & ~none),
        )
