"""Which draws of a program are functions of uniform numbers, and how many uniforms that takes."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from variate.programs.defensive import Defensive
from variate.programs.keys import shared_keys
from variate.programs.program import Operation, Program, Site, every_operation, one_lane
from variate.programs.quantiles import transport


@dataclass(frozen=True)
class Layout:
    """The uniforms that the draws of a program are made of, one after the other in a vector.

    `shapes`: by the index of the draw, a leading axis for each scan around it, then one for each lane. `kept`: the
    draws that are made of their keys as ever, and why.
    """

    sites: tuple[Site, ...]
    shapes: Mapping[int, tuple[int, ...]]
    kept: Mapping[int, str]

    @property
    def dimension(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def labels(self) -> list[str]:
        """For each dimension, what its draw is called."""
        return [site.label for site in self.sites for _ in range(math.prod(self.shapes[site.index]))]

    def first(self, names: Collection[str]) -> int | None:
        """The dimension with which the first of the draws of these names begins; None if none has a uniform."""
        return next((i for i, label in enumerate(self.labels) if label in names), None)

    def split(self, uniforms: Float[Array, " d"]) -> dict[int, Array]:
        """A vector's parts, by the index of the draw."""
        parts, start = {}, 0
        for site in self.sites:
            size = math.prod(self.shapes[site.index])
            parts[site.index] = uniforms[start : start + size].reshape(self.shapes[site.index])
            start += size
        return parts


Proposals = Mapping[str, Callable[[Any], Any]]  # what to draw from in place of a named draw's own distribution


def layout(program: Program, proposals: Proposals, without: Collection[int] = (), defensive: bool = False) -> Layout:
    """Of the draws whose laws, or proposals, have known quantiles and whose keys are their own, `without` some of them.

    With `defensive`, a run may take a draw's own law in place of a proposal, so that both must have them.

    Raises:
        ValueError: a draw is inside a `while_loop`, where the number of draws is random.
    """
    shared, shapes, kept, sites = shared_keys(program), {}, {}, []
    for draw in sorted((op for op in every_operation(program) if op.site), key=_index):
        site = draw.site
        assert site is not None
        if any(loop.kind == "while" for loop in site.loops):
            raise ValueError(
                f"the draw {site.label!r} ({site.source}) is inside a while_loop, where the number of draws is random, "
                "so that there is no telling how many uniform numbers a run takes"
            )
        shape = _uniforms(draw, proposals.get(site.name or ""), defensive)
        if site.index in without:
            continue
        if site.index in shared:
            kept[site.index] = shared[site.index]
        elif shape is None:
            kept[site.index] = f"the quantiles of {site.distribution} are not known"
        else:
            steps = tuple(loop.length or 0 for loop in site.repeats)
            shapes[site.index] = (*steps, *(lane.size for lane in reversed(site.lanes)), *shape)
            sites.append(site)
    return Layout(tuple(sites), shapes, kept)


def from_uniforms(site: Site, distribution: Any, uniforms: Array) -> Array:
    """The value of one lane of a draw that `layout` has not left out, made from this distribution."""
    found = transport(distribution, *site.event.leaves[0])
    assert found is not None
    return found.value(uniforms)


def _index(draw: Operation) -> int:
    assert draw.site is not None
    return draw.site.index


def _uniforms(draw: Operation, proposal: Callable[[Any], Any] | None, defensive: bool) -> tuple[int, ...] | None:
    """How many uniforms one lane takes, as a shape."""
    site, found = draw.site, []
    if site is None or len(site.event.leaves) != 1:
        return None

    def look(*arrays: Any) -> None:
        target = site.structure.build(arrays)
        source = proposal(target) if proposal else target
        source = Defensive(source, target, jnp.zeros((), bool)) if proposal and defensive else source
        found.append(transport(source, *site.event.leaves[0]))

    jax.eval_shape(look, *one_lane(draw)[1:])
    return found[0].shape if found[0] else None
