"""The coordinates of draws in a target: real numbers without bounds, or the numbers of their values."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from variate.programs import distributions
from variate.programs.program import Operation, Site, one_lane
from variate.programs.simulation import shape_of
from variate.programs.supports import bijection, constants_of, support_before
from variate.programs.weighing import Read, as_values

_ATOMS = frozenset("Delta HurdleGamma HurdleLogNormal".split())  # points of positive probability among real numbers


class Latent(NamedTuple):
    """A draw in the coordinates of a target: its name and index, and the shape and type of its part of a position.

    A discrete one has `count` values, and its coordinates are their numbers 0, 1, ..., of any other it is 0. The
    elements at the places `constants` are the same in every value.
    """

    name: str
    index: int
    shape: tuple[int, ...]
    dtype: Any
    count: int = 0
    constants: tuple[int, ...] = ()

    def start(self, key: Key[Array, ""]) -> Array:
        """Any number, or real numbers between -2 and 2."""
        if self.count:
            return jax.random.randint(key, self.shape, 0, self.count).astype(self.dtype)
        return jax.random.uniform(key, self.shape, self.dtype, -2, 2)


def as_coordinates(site: Site, distribution: Any, given: list[Array]) -> Read:
    """The value of coordinates: of real ones by a bijection, of numbers of values as what they stand for."""
    (position,), values = given, distributions.support(distribution)
    if values is not None:
        number = jnp.clip(jnp.round(position), 0, len(values) - 1)
        value = values[number.astype(int)].astype(site.event.leaves[0][1])
        return Read([value], inside=number == position, kept=value)
    transform = bijection(distribution)
    assert transform is not None
    with distributions.numpyro_promotion():
        value = jnp.asarray(transform(position))
        volume = jnp.sum(transform.log_abs_det_jacobian(position, value))
    return Read([value], volume=volume.astype(float), kept=value)


def to_coordinates(site: Site, distribution: Any, given: list[Array]) -> Read:
    """The coordinates of a value are kept."""
    found, values = as_values(site, distribution, given), distributions.support(distribution)
    if values is not None:
        same = jax.vmap(lambda value: given[0] == value)(values.astype(given[0].dtype))
        return found._replace(kept=jnp.argmax(same, 0).astype(float))
    transform = bijection(distribution)
    assert transform is not None
    with distributions.numpyro_promotion():
        return found._replace(kept=jnp.asarray(transform.inv(found.leaves[0])))


def latent(draw: Operation, names: Mapping[int, str], count: int = 0) -> Latent:
    """Of a draw, of so many values if it is discrete; raises `TypeError` where it has no coordinates."""
    site = draw.site
    assert site is not None
    name = names[site.index]
    if count:
        return Latent(name, site.index, shape_of(site), jnp.result_type(float), count)
    problem = _problem(draw)
    if problem:
        raise TypeError(f"the draw {name!r} ({site.source}) {problem}, so it has no real coordinates")
    ((event, dtype),), shapes = site.event.leaves, []

    def look(*arrays: Any) -> None:
        transform = bijection(site.structure.build(arrays))
        assert transform is not None
        shapes.append(transform.inverse_shape(event))

    jax.eval_shape(look, *one_lane(draw)[1:])
    constants = constants_of(support_before(draw), shape_of(site))
    return Latent(name, site.index, shape_of(site, tuple(shapes[0])), dtype, constants=constants)


def _problem(draw: Operation) -> str | None:
    """Why a draw has no real coordinates."""
    site = draw.site
    assert site is not None
    kinds = {loop.kind for loop in site.loops}
    if "while" in kinds:
        return "is inside a while_loop, whose number of draws is not known before the run"
    if "cond" in kinds:
        return "is inside a branch, which may not be taken"
    if len(site.event.leaves) != 1:
        return "is not one array"
    found: list[str | None] = []

    def look(*arrays: Any) -> None:
        distribution = site.structure.build(arrays)
        if type(distributions.innermost(distribution)).__name__ in _ATOMS:
            found.append("has an atom, a point of positive probability")
        elif bijection(distribution) is None:
            found.append("has a support that is not known: an attribute `support`, a constraint of NumPyro's, tells it")
        else:
            found.append(None)

    jax.eval_shape(look, *one_lane(draw)[1:])
    return found[0]
