"""Pareto-smoothed importance sampling: the largest weights replaced by what their tail makes likely."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from variate.estimates.estimate import Estimate
from variate.estimates.weighted import WeightedMoments
from variate.trees import as_float

from .pareto import smoothed, tail_length
from .self_normalized import SelfNormalized, Weighted

_MOST = 1_000  # largest weights that are kept: all that are smoothed of 110,000 runs, fewer of more


class ParetoSmoothed(eqx.Module):
    r"""$\sum_i \tilde w_i x_i / \sum_i \tilde w_i$ of `Weighted` rows, as a fold that is exact under `merge`.

    The $m = \min(n/5, 3\sqrt n)$ largest weights become the expected order statistics of the generalised Pareto
    distribution fitted to them, none above the largest. That trades variance for a bias which is small against it while
    `tail_index`, k, is below 0.7; above, neither value nor error is to be trusted. The m largest rows are kept whole,
    up to a thousand: the wrong choice for results that are large arrays.

    Source: Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling, JMLR 25(72), 1-58.
    """

    rest: WeightedMoments
    top: Weighted  # the largest, in falling order of weight, padded by weights of 0

    @classmethod
    def empty(cls, example: Weighted) -> "ParetoSmoothed":
        def none(leaf: Any) -> Array:
            return as_float(jnp.zeros((_MOST + 1, *jnp.shape(leaf)), jnp.result_type(leaf)))

        top = Weighted(jax.tree.map(none, example.value), jnp.full(_MOST + 1, -jnp.inf))
        return cls(WeightedMoments.empty(example.value), top)

    @classmethod
    def of_rows(cls, rows: Weighted, count: Int[Array, ""] | int | None = None) -> "ParetoSmoothed":
        rows = jax.tree.map(as_float, rows)
        size = rows.log_weight.shape[0]
        used = jnp.arange(size) < (size if count is None else count)
        rest = WeightedMoments.empty(jax.tree.map(lambda leaf: leaf[0], rows.value))
        whole = rows._replace(log_weight=jnp.where(used, rows.log_weight, -jnp.inf))
        return cls(rest, Weighted(*whole))._cut(jnp.sum(used))

    def add(self, x: PyTree, log_weight: Any = 0.0) -> "ParetoSmoothed":
        row = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], x)
        return self.merge(ParetoSmoothed.of_rows(Weighted(row, jnp.asarray(log_weight, float)[None])))

    def merge(self, other: "ParetoSmoothed") -> "ParetoSmoothed":
        top = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), self.top, other.top)
        rest = self.rest.merge(other.rest)
        return ParetoSmoothed(rest, top)._cut(rest.num_samples)

    def _cut(self, num_samples: Int[Array, ""]) -> "ParetoSmoothed":
        """The largest of the top stay; `num_samples` counts all that there are."""
        logs = self.top.log_weight
        kept = jax.lax.top_k(logs, min(logs.size, _MOST + 1))[1]
        others = jnp.ones(logs.size, bool).at[kept].set(False)
        rest = self.rest
        if logs.size > _MOST + 1:
            rest = rest.merge(WeightedMoments.of_rows(self.top.value, jnp.where(others, logs, -jnp.inf)))
        rest = eqx.tree_at(lambda m: m.num_samples, rest, num_samples)
        return ParetoSmoothed(rest, jax.tree.map(lambda leaf: leaf[kept], self.top))

    def _smoothed(self) -> tuple[Float[Array, " m"], Float[Array, ""]]:
        count = tail_length(self.rest.num_samples, self.top.log_weight.size - 1)
        return smoothed(self.top.log_weight, count)

    @property
    def tail_index(self) -> Float[Array, ""]:
        """k of the weights."""
        return self._smoothed()[1]

    def read(self) -> Estimate:
        n = self.rest.num_samples
        whole = self.rest.merge(WeightedMoments.of_rows(self.top.value, self._smoothed()[0]))
        return SelfNormalized(eqx.tree_at(lambda m: m.num_samples, whole, n)).read()
