"""Smooth functions of several expectations where few draws are all there are: each group of them left out in turn."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from variate import checks
from variate.trees import all_finite

from .estimate import Estimate
from .function_of_means import values_of
from .moments import Moments, length


@dataclasses.dataclass(frozen=True)
class Jackknife:
    r"""A function $g$ of expectations, whose bias and error the jackknife tells: `expect(f, function=Jackknife(g))`.

    Draw i is in group i modulo `groups`, G of them in use. With $\hat\theta_{-j}$ for g of the mean of all draws but
    group j's, and $h_j = n / n_j$, the pseudo-values $\theta_j = h_j \hat\theta - (h_j - 1) \hat\theta_{-j}$ make
    $\hat\theta = \sum_j \theta_j / h_j$ and its variance
    $\frac{1}{G} \sum_j (\theta_j - \hat\theta)^2 / (h_j - 1)$; intervals have $G - 1$ degrees of freedom. Up to as many
    draws as groups each is left out by itself.

    Choose it where draws are few, so that g is not linear over their error, or where no second derivative of g is to be
    had: the delta method, `function=g`, has shorter intervals that cover less. The wrong choice for functions that are
    not smooth, of whose error it says nothing, and where a tolerance decides when to stop, since its error bar stays as
    uncertain as there are groups.

    Raises `TypeError` when `function` is none, and `ValueError` for fewer than two groups.

    Source: Busing, Meijer and van der Leeden (1999), Delete-m jackknife for unequal m, Stat. Comput. 9(1), 3-8; Miller
    (1974), The jackknife: a review, Biometrika 61(1), 1-15.
    """

    function: Callable[[PyTree], PyTree]
    groups: int = 100

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"function must be a function of the expectations, got {checks.describe(self.function)}")
        checks.check_at_least("groups", self.groups, 2)

    def __call__(self, means: PyTree) -> PyTree:
        return self.function(means)


class LeaveGroupsOut(eqx.Module):
    """The fold of a `Jackknife`: exact under `merge`, for draws that come in the order of the two."""

    option: Jackknife = eqx.field(static=True)
    moments: Moments  # with an axis of groups

    @classmethod
    def of(cls, option: Jackknife, example: PyTree) -> "LeaveGroupsOut":
        """The fold of no draws, which are like `example`."""
        return cls(option, jax.vmap(lambda _: Moments.empty(example))(jnp.arange(option.groups)))

    def empty(self, example: PyTree) -> "LeaveGroupsOut":
        return LeaveGroupsOut.of(self.option, example)

    def of_rows(self, rows: PyTree[Array], count: Int[Array, ""] | int | None = None) -> "LeaveGroupsOut":
        """A block of draws, of which the first `count` are used, and no others."""
        size, groups = jax.tree.leaves(rows)[0].shape[0], self.option.groups
        each = -(-size // groups)

        def grouped(leaf: Array) -> Array:
            padded = jnp.pad(leaf, ((0, each * groups - size), *((0, 0),) * (leaf.ndim - 1)))
            return jnp.swapaxes(padded.reshape(each, groups, *leaf.shape[1:]), 0, 1)

        counts = (jnp.asarray(size if count is None else count) + groups - 1 - jnp.arange(groups)) // groups
        return LeaveGroupsOut(self.option, jax.vmap(Moments.of_rows)(jax.tree.map(grouped, rows), counts))

    def add(self, x: PyTree, log_weight: Any = 0.0) -> "LeaveGroupsOut":
        single = Moments.empty(x).add(x, log_weight)
        rest = jax.tree.map(lambda leaf: jnp.zeros((self.option.groups - 1, *leaf.shape), leaf.dtype), single)
        groups = jax.tree.map(lambda first, others: jnp.concatenate([first[None], others]), single, rest)
        return self.merge(LeaveGroupsOut(self.option, groups))

    def merge(self, other: "LeaveGroupsOut") -> "LeaveGroupsOut":
        """The first draw of the other follows the last of this."""
        shift = jnp.sum(self.moments.num_samples)
        turned = jax.tree.map(lambda leaf: jnp.roll(leaf, shift, axis=0), other.moments)
        return LeaveGroupsOut(self.option, jax.vmap(Moments.merge)(self.moments, turned))

    def read(self) -> Estimate:
        sizes, means = self.moments.num_samples, self.moments.row
        total = jnp.sum(sizes)
        used = sizes > 0

        def mean(weights: Array) -> PyTree[Array]:
            """An average of those of groups, which are finite where they are empty."""

            def of(leaf: Array) -> Array:
                share = (weights / jnp.maximum(jnp.sum(weights), 1)).astype(leaf.dtype)
                return jnp.tensordot(share, leaf, axes=1)

            return jax.tree.map(of, means)

        def value(weights: Array) -> PyTree[Array]:
            return values_of("function", self.option.function, (mean(weights),), "the expectations")

        left_out = jax.vmap(lambda j: value(sizes.at[j].set(0)))(jnp.arange(self.option.groups))
        plain = value(sizes)

        def over(leaf: Array, like: Array) -> Array:
            return leaf.astype(like.dtype).reshape(-1, *(1,) * (like.ndim - 1))

        h = jnp.where(used, total / jnp.maximum(sizes, 1), 2.0)

        def pseudo_values(whole: Array, without: Array) -> Array:
            return over(h, without) * whole[None] - over(h - 1, without) * without

        def corrected(pseudo: Array) -> Array:
            return jnp.sum(jnp.where(over(used, pseudo) > 0, pseudo / over(h, pseudo), 0), axis=0)

        def error(pseudo: Array, best: Array) -> Array:
            far = (pseudo - best[None]) / jnp.sqrt(jnp.where(over(h, pseudo) > 1, over(h - 1, pseudo), 1))
            return length(jnp.where(over(used, pseudo) > 0, far, 0)) / jnp.sqrt(jnp.sum(used).astype(pseudo.dtype))

        enough = jnp.sum(used) > 1
        pseudo = jax.tree.map(pseudo_values, plain, left_out)
        best = jax.tree.map(lambda a, b: jnp.where(enough, corrected(b), a), plain, pseudo)
        stderr = jax.tree.map(lambda a, b: jnp.where(enough, error(a, b), jnp.inf), pseudo, best)
        bad = jnp.sum(self.moments.nonfinite)
        return Estimate(best, stderr, total, (bad == 0) & all_finite(best), bad)
