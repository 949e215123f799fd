"""What every interval from bounds shares: the bounds, draws on the unit interval, and how a fold of them is read."""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from variate.checks import check_number
from variate.estimates.estimate import Estimate
from variate.estimates.moments import Moments
from variate.trees import as_float


@runtime_checkable
class Interval(Protocol):
    """What the interval of a mean of draws between two bounds is made from, where it is not the normal distribution."""

    low: float | int
    high: float | int

    def inside(self, draws: Float[Array, "n size"]) -> Bool[Array, "n size"]:
        """Whether each number is one that is possible."""
        ...

    @property
    def possible(self) -> str:
        """Which these are, in words."""
        ...

    def unit(self, size: int, planned: int | None) -> "Unit":
        """The fold of no draws of so many numbers between 0 and 1.

        `planned`: their number, or None where they are looked at again and again, and have to hold every time.
        """
        ...


class Between:
    """Two bounds in their order. What is possible is all between them."""

    low: float | int
    high: float | int

    def __post_init__(self) -> None:
        if not check_number("low", self.low) < check_number("high", self.high):
            raise ValueError(f"low must be below high, got low={self.low} and high={self.high}")

    def inside(self, draws: Float[Array, "n size"]) -> Bool[Array, "n size"]:
        return (draws >= self.low) & (draws <= self.high)

    @property
    def possible(self) -> str:
        return f"between {self.low} and {self.high}"


class Unit(Protocol):
    """A fold of rows of numbers between 0 and 1, one after the other; a pytree."""

    def add_rows(self, rows: Float[Array, "n size"], used: Float[Array, "n 1"]) -> "Unit":
        """With more rows, of which those count that are used (1, not 0)."""
        ...

    def merge(self, other: Any) -> "Unit":
        """Of both sets of draws."""
        ...

    def ends(self, level: float) -> tuple[Float[Array, " size"], Float[Array, " size"]]:
        """The least and the largest mean that the draws leave possible."""
        ...


class Ends(eqx.Module):
    """The interval at any level; part of the `Estimate`, where `interval(level)` finds it."""

    unit: Any
    low: float | int = eqx.field(static=True)
    high: float | int = eqx.field(static=True)
    anytime: bool = eqx.field(static=True)  # whether it holds whenever one looks, hence also where sampling stops
    name: str = eqx.field(static=True)
    outside: Int[Array, "*batch"]  # draws outside of the bounds, which make it meaningless

    @property
    def kind(self) -> tuple[Any, ...]:
        """What intervals of the same draws in two parts have in common."""
        return self.name, self.low, self.high, self.anytime, *(leaf.shape for leaf in jax.tree.leaves(self.unit))

    def joined(self, other: "Ends", found: Estimate) -> Estimate:
        """What was found of both sets of draws, with the interval from all."""
        merge = lambda one, two: one.merge(two)  # noqa: E731
        for _ in jnp.shape(self.outside):
            merge = jax.vmap(merge)
        unit = merge(self.unit, other.unit)
        ends = Ends(unit, self.low, self.high, self.anytime, self.name, self.outside + other.outside)
        return dataclasses.replace(found, ends=ends)

    def of(self, value: PyTree[Array], level: float) -> tuple[PyTree[Array], PyTree[Array]]:
        """The ends for each coordinate of the value."""
        leaves, structure = jax.tree.flatten(value)
        batch = jnp.shape(self.outside)
        read = lambda unit: unit.ends(level)  # noqa: E731
        for _ in batch:
            read = jax.vmap(read)
        sizes = [leaf.size // max(self.outside.size, 1) for leaf in leaves]
        ends = []
        for flat in read(self.unit):
            scaled = jnp.where((self.outside > 0)[..., None], jnp.nan, self.low + (self.high - self.low) * flat)
            places = [sum(sizes[:i]) for i in range(1, len(sizes))]
            parts = jnp.split(scaled, places, axis=-1)
            cut = [part.reshape(leaf.shape).astype(leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)]
            ends.append(jax.tree.unflatten(structure, cut))
        return ends[0], ends[1]


class Bounded(eqx.Module):
    """Draws between two bounds as a fold: their mean and standard error, and an interval that rests on the bounds."""

    moments: Moments
    unit: Any
    outside: Int[Array, ""]
    interval: Interval = eqx.field(static=True)
    planned: int | None = eqx.field(static=True)

    @classmethod
    def of(cls, interval: Interval, planned: int | None, example: PyTree) -> "Bounded":
        size = sum(leaf.size for leaf in jax.tree.leaves(example))
        return cls(Moments.empty(example), interval.unit(size, planned), jnp.zeros((), int), interval, planned)

    def empty(self, example: PyTree) -> "Bounded":
        """The fold of no draws like `example`, with the same interval."""
        return Bounded.of(self.interval, self.planned, example)

    def add_rows(self, rows: PyTree[Array], count: Int[Array, ""] | int | None = None) -> "Bounded":
        """With a block of draws more, of which the first `count` are used."""
        leaves = [as_float(leaf).reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(rows)]
        flat = jnp.concatenate([leaf.astype(float) for leaf in leaves], axis=1)
        used = (jnp.arange(len(flat)) < (len(flat) if count is None else count))[:, None]
        inside = self.interval.inside(flat)
        outside = jnp.sum(used[:, 0] & ~jnp.all(inside, axis=1))
        scaled = (flat - self.interval.low) / float(self.interval.high - self.interval.low)
        scaled = jnp.where(used & inside, scaled, 0)
        return Bounded(
            self.moments.merge(Moments.of_rows(rows, count)),
            self.unit.add_rows(scaled, used.astype(float)),
            self.outside + outside,
            self.interval,
            self.planned,
        )

    def merge(self, other: "Bounded") -> "Bounded":
        moments, unit = self.moments.merge(other.moments), self.unit.merge(other.unit)
        return Bounded(moments, unit, self.outside + other.outside, self.interval, self.planned)

    def read(self) -> Estimate:
        found = self.moments.read()
        low, high = self.interval.low, self.interval.high
        name = type(self.interval).__name__
        ends = Ends(self.unit, low, high, self.planned is None, name, self.outside)
        return Estimate(
            found.value,
            found.stderr,
            found.num_samples,
            found.converged & (self.outside == 0),
            found.nonfinite,
            ends=ends,
        )
