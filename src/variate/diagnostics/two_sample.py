"""Whether two samples may be of one distribution: a permutation test by the sliced Wasserstein distance."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from variate.checks import check_key, check_positive_int, describe

from .base import check_order, check_samples, line_distance
from .sliced_wasserstein import direction


class TwoSampleTest(eqx.Module):
    """How far apart two samples are, and how far apart samples are whose members were exchanged at random."""

    distance: Float[Array, "*batch"]
    permuted: Float[Array, "*batch permutations"]

    @property
    def p_value(self) -> Float[Array, "*batch"]:
        """The share of permutations, the samples as they are among them, that are at least as far apart."""
        farther = jnp.sum(self.permuted >= self.distance[..., None], axis=-1)
        return (1 + farther) / (1 + self.permuted.shape[-1])

    def __repr__(self) -> str:
        if isinstance(self.distance, Tracer) or self.distance.ndim:
            return f"TwoSampleTest of {describe(self.distance)}"
        count = self.permuted.shape[-1]
        return f"p = {float(self.p_value):.3g} (distance {float(self.distance):.4g}, {count} permutations)"


def two_sample_test(
    x: Any,
    y: Any,
    *,
    order: float | int = 2,
    num_directions: int = 64,
    num_permutations: int = 999,
) -> Callable[[Key[Array, ""]], TwoSampleTest]:
    r"""The permutation test of one distribution for both samples, as a function of a key.

    If members are exchangeable, as they are where all are independent draws of one distribution, a p-value of at most
    $\alpha$ has a probability of at most $\alpha$, for any number of members. The statistic is the mean of $W_p^p$ over
    some directions, the same for all permutations. `x` and `y` are samples [n, *member] and [m, *member]. Memory grows
    with directions times members, time with permutations besides. The wrong choice for the draws of one chain, which
    are not exchangeable: thin them first.

    Raises `TypeError` for what is no array of real numbers, and `ValueError` for empty samples, members of different
    shapes, an `order` below 1, or counts that are not positive.

    Source: Phipson and Smyth (2010), Permutation p-values should never be zero, Stat. Appl. Genet. Mol. Biol. 9(1),
    eq. 2; Nguyen and Ho (2024) for the distance.
    """
    one, other = check_samples(x, y)
    power = check_order(order)
    directions = check_positive_int("num_directions", num_directions)
    permutations = check_positive_int("num_permutations", num_permutations)

    def test(key: Any) -> TwoSampleTest:
        check_key(key)
        return _test(power, directions, permutations, key, one, other)

    return test


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _test(order: float, directions: int, permutations: int, key: Key[Array, ""], x: Array, y: Array) -> TwoSampleTest:
    first, second = jax.random.split(key)
    pooled = jnp.concatenate([x, y])
    along = jax.vmap(lambda key: direction(key, x.shape[1]))(jax.random.split(first, directions))
    projected = along.astype(pooled.dtype) @ pooled.T
    ranks = jnp.argsort(projected, axis=1)
    projected = jnp.take_along_axis(projected, ranks, axis=1)

    def distance(of_y: Array) -> Array:
        """With these members in the second sample, of which each line has them in their order."""

        def on_line(values: Array, ranks: Array) -> Array:
            second = of_y[ranks]
            place = jnp.where(second, len(x) - 1 + jnp.cumsum(second), jnp.cumsum(~second) - 1)
            own = jnp.zeros_like(values).at[place].set(values, unique_indices=True)
            return line_distance(own[: len(x)], own[len(x) :], order)

        return jnp.mean(jax.vmap(on_line)(projected, ranks))

    as_they_are = jnp.arange(len(pooled)) >= len(x)
    exchanged = jax.lax.map(
        lambda key: distance(jax.random.permutation(key, as_they_are)), jax.random.split(second, permutations)
    )
    return TwoSampleTest(distance(as_they_are), exchanged)
