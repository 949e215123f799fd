"""Credit: which entries of which terms an element of a draw is charged with."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from variate.programs.axes import Link
from variate.programs.dataflow import bit, members
from variate.programs.interpretation import read
from variate.programs.relations import Relation
from variate.programs.terms import Terms


@dataclass(frozen=True)
class Credit:
    """The elements of one draw, as far as any term tells them apart.

    `shape`: of the elements, loops first. `kept`: the axes along which charges differ; along the others the log
    probabilities are summed, and keep an axis of length one.
    """

    shape: tuple[int, ...]
    kept: frozenset[int]

    def summed(self, log_probs: Array, first: int) -> Array:
        """Log probabilities of elements, from this axis on, with those that share their charges added up."""
        axes = [axis for axis in range(len(self.shape)) if axis not in self.kept and axis >= first]
        places = tuple(axis - first for axis in axes)
        return jnp.sum(log_probs, axis=places, keepdims=True)

    def charge(self, entries: Array, relation: Relation) -> Array:
        """What each element is charged with, of what the entries of a term add: those that it reaches."""
        links = _independent(relation.links)
        digits = _digits(entries, links)
        order = sorted(range(len(links)), key=lambda n: (links[n].element, -links[n].place * links[n].size))
        digits = jnp.transpose(digits, order)
        for place, n in enumerate(order):
            if links[n].turned:
                digits = jnp.flip(digits, place)
            if links[n].causal:  # what depends on all before it is reached from all that come after
                digits = lax.cumsum(digits, place, reverse=links[n].causal > 0)
        return self._laid(digits, [links[n] for n in order])

    def _laid(self, digits: Array, links: Sequence[Link]) -> Array:
        """Digits as axes of the elements; those that have no digit keep a length of one."""
        own = [[link for link in links if link.element == axis] for axis in range(len(self.shape))]
        shape = [length if each else 1 for length, each in zip(self.shape, own, strict=True)]
        narrow: list[int] = []
        wide: list[int] = []
        for length, each in zip(shape, own, strict=True):
            below = length
            for link in each:
                narrow += [1, link.size]
                wide += [below // (link.size * link.place), link.size]
                below = link.place
            narrow.append(1)
            wide.append(below)
        return jnp.broadcast_to(digits.reshape(narrow), wide).reshape(shape)


def _independent(links: Iterable[Link]) -> list[Link]:
    """Links of digits that do not overlap; what is left out charges an element with more."""
    found: list[Link] = []
    for link in sorted(links, key=lambda link: (abs(link.causal), -link.size, link)):
        if all(
            (one.axis != link.axis or _apart((one.stride, one.size), (link.stride, link.size)))
            and (one.element != link.element or _apart((one.place, one.size), (link.place, link.size)))
            for one in found
        ):
            found.append(link)
    return sorted(found, key=lambda link: (link.axis, -link.stride * link.size))


def _apart(*digits: tuple[int, int]) -> bool:
    """Whether two digits, each a start and a size, can be read one after the other."""
    (start, size), (following, _) = sorted(digits)
    return following % (start * size) == 0


def _digits(entries: Array, links: Sequence[Link]) -> Array:
    """Entries summed over all but the digits that are linked, one axis a link."""
    shape: list[int] = []
    wanted: list[int] = []
    for axis, length in enumerate(entries.shape):
        for link in (link for link in links if link.axis == axis):
            shape.append(length // (link.size * link.stride))
            wanted.append(len(shape))
            shape.append(link.size)
            length = link.stride
        shape.append(length)
    rest = tuple(axis for axis in range(len(shape)) if axis not in wanted)
    return jnp.sum(entries.reshape(shape), axis=rest)


def credits_of(shapes: Mapping[int, tuple[int, ...]], terms: Iterable[Terms]) -> dict[int, Credit]:
    """The credit of each draw with elements of these shapes that some term tells apart."""
    kept: dict[int, set[int]] = {}
    for leaf in (leaf for each in terms for leaf in each.leaves):
        for site in members(leaf.mask):
            if site in leaf.relations:
                kept.setdefault(site, set()).update(link.element for link in leaf.relations[site].links)
    return {site: Credit(shapes[site], frozenset(axes)) for site, axes in kept.items()}


def charged(
    terms: Terms, draws: Sequence[int], credits: Mapping[int, Credit], environment: Sequence[Any]
) -> list[Array]:
    """What each draw is charged with of one output: the terms that it reaches; with credit, those of each element."""
    total = jnp.asarray(read(environment, terms.output))
    reached = [{part: terms.relation(part, draw) for part in terms.found if part.mask & bit(draw)} for draw in draws]
    fine = [
        {part: relation for part, relation in relations.items() if draw in credits and relation.links}
        for draw, relations in zip(draws, reached, strict=True)
    ]
    whole = [[part for part in relations if part not in own] for relations, own in zip(reached, fine, strict=True)]
    values = terms.values(environment, {part for parts in whole for part in parts})
    entries = terms.entries(environment) if any(fine) else None
    charges = []
    for draw, parts, own in zip(draws, whole, fine, strict=True):
        summands = [total] if len(parts) == len(terms.found) else [values[part] for part in parts]
        if entries is not None and own:
            credit = credits[draw]
            each = (credit.charge(entries.parts[part].astype(total.dtype), relation) for part, relation in own.items())
            summands.append(entries.scale.astype(total.dtype) * functools.reduce(jnp.add, each))
        charges.append(functools.reduce(jnp.add, summands) if summands else jnp.zeros_like(total))
    return charges
