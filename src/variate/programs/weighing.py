"""What a run weighs: the log densities of its draws, which are given, and of what it observes."""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from variate.programs import distributions, parameters
from variate.programs.interpretation import Records
from variate.programs.primitive import over_lanes
from variate.programs.program import Factor, Operation, Program, Site
from variate.programs.supports import checked


class Piece(NamedTuple):
    """What one draw or factor adds: its log density, and how many of its distributions had parameters out of range.

    `values`: what was drawn, or, where it was made of other coordinates, those that it would be made of. `volume`: the
    logarithm of the change of volume there.
    """

    log_density: Float[Array, "..."]
    invalid: Int[Array, "..."]
    values: Any = None
    volume: Float[Array, "..."] | float = 0.0

    @property
    def total(self) -> Float[Array, ""]:
        return jnp.sum(self.log_density) + jnp.sum(jnp.asarray(self.volume))


class Read(NamedTuple):
    """What was given for one lane of a draw, as its value.

    `leaves` of the value, whether it is `inside` its support (None where that is yet to be asked), the logarithm of the
    change of `volume`, and what to keep.
    """

    leaves: list[Array]
    inside: Bool[Array, "..."] | bool | None = True
    volume: Float[Array, ""] | float = 0.0
    kept: Any = None


Reading = Callable[[Site, Any, list[Array]], Read]  # of a draw, its distribution, and what was given


def as_values(site: Site, distribution: Any, given: list[Array]) -> Read:
    """What was given is the value; where that is impossible the run goes on with one that is possible."""
    value, inside = checked(distribution, jax.tree.unflatten(site.event.tree, given))
    return Read(jax.tree.leaves(value), inside)


def unchecked(site: Site, distribution: Any, given: list[Array]) -> Read:
    """What was given is the value, element by element possible or not."""
    return Read(given, None)


@dataclass(frozen=True)
class Weighing:
    """A handler that takes what is given for each draw and adds up log densities.

    Those of the draws and factors that are `apart`, by their index, it leaves element by element, volumes left out.
    """

    given: Mapping[int, list[Array]]
    reading: Reading
    apart: Collection[int] = ()

    def draw(self, site: Site, index: tuple[Array, ...], operands: Sequence[Array]) -> tuple[list[Array], Piece]:
        given, apart = self.given[site.index], site.index in self.apart

        def one(*inputs: Array) -> tuple[list[Array], Piece]:
            distribution = site.structure.build(inputs[len(given) + 1 :])
            found = self.reading(site, distribution, list(inputs[: len(given)]))
            value = jax.tree.unflatten(site.event.tree, found.leaves)
            each = _each(distribution, value, found.inside, apart)
            return found.leaves, Piece(each, _invalid(distribution), found.kept, jnp.asarray(found.volume, float))

        values, piece = over_lanes(one, site.lanes, len(given))(*given, *operands)
        return values, piece

    def weigh(self, factor: Factor, operands: Sequence[Array]) -> Piece:
        apart = factor.index in self.apart

        def one(*operands: Array) -> Piece:
            if factor.structure is None:
                each = operands[0].astype(float)
                return Piece(each if apart else jnp.sum(each), jnp.zeros((), jnp.int32))
            count = factor.tree.num_leaves
            distribution = factor.structure.build(operands[count:])
            value = jax.tree.unflatten(factor.tree, operands[:count])
            return Piece(_each(distribution, value, None, apart), _invalid(distribution))

        return over_lanes(one, factor.lanes)(*operands)

    def stepped(self, body: Program) -> tuple[Any, Callable[[Any], "Weighing"]]:
        own = {site.index: self.given[site.index] for site in body.sites if site.index in self.given}
        return own, lambda step: replace(self, given={**self.given, **step})

    def loop(self, run: Any, operation: Operation, inputs: list[Array]) -> tuple[list[Array], Records]:
        site = operation.sites[0]
        raise TypeError(
            f"the draw {site.label!r} ({site.source}) is inside a while_loop, whose number of draws is not known "
            "before the run: it has no joint density"
        )


def _each(distribution: Any, value: Any, inside: Any, apart: bool) -> Float[Array, "..."]:
    """The log density, -inf where it is not inside; of each element where they are to be told apart."""
    form = distributions.elementwise(distribution) if apart else distribution
    if inside is None:
        value, inside = checked(form, value)
    elif apart:
        inside = jnp.all(jnp.asarray(inside))  # one that is not inside settles it
    each = jnp.where(inside, distributions.drawn_log_prob(form, value), -jnp.inf).astype(float)
    return each if apart else jnp.sum(each)


def _invalid(distribution: Any) -> Int[Array, ""]:
    """1 where a parameter is out of range in a way that the density itself might not show."""
    with distributions.numpyro_promotion():
        holds = [jnp.all(condition.holds()) for condition in parameters.cheap_conditions(distribution)]
    return 1 - functools.reduce(jnp.logical_and, holds, jnp.asarray(True)).astype(jnp.int32)
