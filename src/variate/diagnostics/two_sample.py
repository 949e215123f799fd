"""Whether two samples may be of one distribution: permutation tests by their distances."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Key

from variate import checks

from .base import Space, check_alike, check_order, check_sample, check_samples, check_space, line_distance
from .max_sliced import farthest, starts
from .spaces import Lines

Apart = Callable[[Int[Array, " N"]], Float[Array, ""]]  # of the places that members of both samples take


@runtime_checkable
class Statistic(Protocol):
    """How far apart two samples are, for a test that exchanges their members."""

    def members(self, x: Any, y: Any) -> tuple[Array, Array]:
        """The samples as `prepare` takes them; raises for what it does not serve."""
        ...

    def prepare(self, key: Key[Array, ""], pooled: Array, first: int) -> Apart:
        """The statistic as a function of the places that members take, of which the `first` are the first sample's."""
        ...


class Sliced(eqx.Module):
    """The mean of $W_p^p$ over some lines, or functions of a space, the same for all permutations.

    A permutation sorts nothing. Memory grows with functions times levels times members. Arguments as in
    `sliced_wasserstein`, `num_slices` the number of functions.

    Raises `ValueError` for an `order` below 1 or a `num_slices` that is not positive.
    """

    on: Space
    order: float = eqx.field(static=True)
    num_slices: int = eqx.field(static=True)

    def __init__(self, on: Any = Lines(), *, order: float | int = 2, num_slices: int = 64):
        check_space(on)
        self.on, self.order = on, check_order(order)
        self.num_slices = checks.check_positive_int("num_slices", num_slices)

    def members(self, x: Any, y: Any) -> tuple[Array, Array]:
        found = self.on.members("x", x), self.on.members("y", y)
        check_alike(x, y)
        return found

    def prepare(self, key: Key[Array, ""], pooled: Array, first: int) -> Apart:
        functions = jax.random.normal(key, (self.num_slices, self.on.size(pooled)))
        values = jax.vmap(lambda function: self.on.values(function, pooled))(functions)
        ranks = jnp.argsort(values, axis=-1)
        values = jnp.take_along_axis(values, ranks, axis=-1)
        weights = self.on.weights().astype(values.dtype)

        def apart(places: Array) -> Array:
            def on_line(values: Array, ranks: Array) -> Array:
                """Each line has the members in its own order, in which they are put one sample after the other."""
                second = places[ranks] >= first
                place = jnp.where(second, first - 1 + jnp.cumsum(second), jnp.cumsum(~second) - 1)
                own = jnp.zeros_like(values).at[place].set(values, unique_indices=True)
                return line_distance(own[:first], own[first:], self.order)

            return jnp.mean(jax.vmap(jax.vmap(on_line))(values, ranks) @ weights)

        return apart


class MaxSliced(eqx.Module):
    """$W_p^p$ along the line on which the two samples are farthest apart, by ascent anew for each permutation.

    More power than `Sliced` where few of many directions matter. That the maximum of samples is too large does no
    harm here, since it is so for all permutations. Arguments as in `max_sliced_wasserstein`; the starts at random are
    the same for all permutations.

    Raises `ValueError` for an `order` below 1 or counts that are not positive.
    """

    order: float = eqx.field(static=True)
    num_starts: int = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)

    def __init__(self, *, order: float | int = 2, num_starts: int = 4, num_steps: int = 16):
        self.order = check_order(order)
        self.num_starts = checks.check_positive_int("num_starts", num_starts)
        self.num_steps = checks.check_positive_int("num_steps", num_steps)

    def members(self, x: Any, y: Any) -> tuple[Array, Array]:
        return check_samples(x, y)

    def prepare(self, key: Key[Array, ""], pooled: Array, first: int) -> Apart:
        def apart(places: Array) -> Array:
            x, y = _parted(pooled, places, first)
            return farthest(self.order, starts(jax.random.clone(key), self.num_starts, x, y), self.num_steps, x, y)[1]

        return apart


class _Given(eqx.Module):
    """A user's function of both samples."""

    function: Callable[[Array, Array], Any] = eqx.field(static=True)

    def members(self, x: Any, y: Any) -> tuple[Array, Array]:
        for name, sample in (("x", x), ("y", y)):
            check_sample(name, sample)
        check_alike(x, y)
        x, y = jnp.asarray(x), jnp.asarray(y)
        checks.check_takes("statistic", self.function, (x, y), "two samples")
        found = jax.eval_shape(self.function, x, y)
        if getattr(found, "shape", None) != () or not jnp.issubdtype(found.dtype, jnp.floating):
            raise ValueError(f"statistic must return one real number, got {checks.describe(found)}")
        return x, y

    def prepare(self, key: Key[Array, ""], pooled: Array, first: int) -> Apart:
        return lambda places: self.function(*_parted(pooled, places, first))


class TwoSampleTest(eqx.Module):
    """How far apart two samples are, and how far apart samples are whose members were exchanged at random."""

    distance: Float[Array, "*batch"]
    permuted: Float[Array, "*batch permutations"]

    @property
    def p_value(self) -> Float[Array, "*batch"]:
        """The share of permutations, the samples as they are among them, that are at least as far apart.

        NaN where one of the distances is.
        """
        farther = jnp.sum(self.permuted >= self.distance[..., None], axis=-1)
        p = (1 + farther) / (1 + self.permuted.shape[-1])
        known = ~jnp.isnan(self.distance) & ~jnp.any(jnp.isnan(self.permuted), axis=-1)
        return jnp.where(known, p, jnp.nan)

    def __repr__(self) -> str:
        if isinstance(self.distance, Tracer) or self.distance.ndim:
            return f"TwoSampleTest of {checks.describe(self.distance)}"
        count = self.permuted.shape[-1]
        return f"p = {float(self.p_value):.3g} (distance {float(self.distance):.4g}, {count} permutations)"


def two_sample_test(
    x: Any,
    y: Any,
    *,
    statistic: Any = Sliced(),
    num_permutations: int = 999,
) -> Callable[[Key[Array, ""]], TwoSampleTest]:
    r"""The permutation test of one distribution for both samples, as a function of a key.

    If members are exchangeable, as they are where all are independent draws of one distribution, a p-value of at most
    $\alpha$ has a probability of at most $\alpha$, for any number of members and any statistic, one that goes by their
    order too. The wrong choice for the draws of one chain, which are not exchangeable: thin them first.

    - `x`, `y`: samples [n, *member] and [m, *member].
    - `statistic`: what is large where distributions differ: `Sliced()`, also `Sliced(on=Circle())` and so on;
      `MaxSliced()`; or a function of both samples in JAX that returns a number.
    - `num_permutations`: time grows with it, and p-values are multiples of one by it and one more.

    Raises `TypeError` for what is no array of real numbers, and `ValueError` for empty samples, members of different
    shapes, what a statistic does not serve or return, or a `num_permutations` that is not positive.

    Source: Phipson and Smyth (2010), Permutation p-values should never be zero, Stat. Appl. Genet. Mol. Biol. 9(1),
    eq. 2; Nguyen and Ho (2024) for the distance.
    """
    if isinstance(statistic, type) or not isinstance(statistic, Statistic):
        if isinstance(statistic, type) or not callable(statistic):
            raise TypeError(
                "statistic must be a distance, as Sliced() or MaxSliced(), or a function of two samples, got "
                f"{checks.describe(statistic)}"
            )
        statistic = _Given(statistic)
    one, other = statistic.members(x, y)
    permutations = checks.check_positive_int("num_permutations", num_permutations)

    def test(key: Any) -> TwoSampleTest:
        checks.check_key(key)
        return _test(statistic, permutations, key, one, other)

    return test


@eqx.filter_jit
def _test(statistic: Statistic, permutations: int, key: Key[Array, ""], x: Array, y: Array) -> TwoSampleTest:
    first, second = jax.random.split(key)
    apart = statistic.prepare(first, jnp.concatenate([x, y]), len(x))
    as_they_are = jnp.arange(len(x) + len(y))
    exchanged = jax.lax.map(
        lambda key: apart(jax.random.permutation(key, as_they_are)), jax.random.split(second, permutations)
    )
    return TwoSampleTest(apart(as_they_are), exchanged)


def _parted(pooled: Array, places: Int[Array, " N"], first: int) -> tuple[Array, Array]:
    """Members change places within a sample too, as a statistic that knows their order needs."""
    ordered = jnp.zeros_like(pooled).at[places].set(pooled, unique_indices=True)
    return ordered[:first], ordered[first:]
