"""What a distribution allows, read off its own sampler, support and values."""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import constraints, transforms

from variate.programs import distributions
from variate.programs.dataflow import Analysis, Break, Flow, bit, join
from variate.programs.primitive import Event, sample_leaves
from variate.programs.staging import Operation, stage
from variate.programs.structure import Structure


@dataclass(frozen=True)
class Nature:
    """What one lane of a draw is like; operands are counted from the key, which is 0.

    `rough`: the operands with which its value does not move smoothly, and where the sampler breaks the path. `kinks`:
    those in which its log probability is not smooth. `edges`: those that move its support. `support`: how many values
    an element has, None where that is not finite or not known. `elements`: how many independent elements it has.
    """

    discrete: bool
    rough: dict[int, Break]
    kinks: dict[int, Break]
    edges: frozenset[int]
    support: int | None
    elements: int | None


def nature(draw: Operation, order: int = 1) -> Nature:
    """The nature of a draw, for derivatives up to `order`."""
    assert draw.site is not None
    operands = tuple(_one_lane(draw))
    try:
        return _cached(draw.site.structure, operands, draw.site.event, order)
    except TypeError:  # a distribution with a part that cannot be hashed
        return _nature(draw.site.structure, operands, draw.site.event, order)


@functools.lru_cache(maxsize=4096)
def _cached(structure: Structure, operands: tuple, event: Event, order: int) -> Nature:
    return _nature(structure, operands, event, order)


def _nature(structure: Structure, operands: tuple, event: Event, order: int) -> Nature:
    key, *arrays = operands
    found: dict[str, Any] = {}

    def look(*arrays: Any) -> None:
        distribution = structure.build(arrays)
        found["numpyro"] = isinstance(distribution, dist.Distribution)
        shapes = jax.tree.unflatten(event.tree, [jax.ShapeDtypeStruct(*leaf) for leaf in event.leaves])
        found["discrete"] = distributions.is_discrete(distribution, shapes)
        support = distributions.support(distribution)
        if support is not None:
            log_probs = distributions.element_log_probs(distribution)
            found["support"], found["elements"] = support.shape[0], math.prod(log_probs.shape[1:])

    jax.eval_shape(look, *arrays)
    edges = _edges(structure, arrays)
    rough = {} if found["discrete"] else _breaks(sample_leaves(structure, ()), [key, *arrays], order)
    kinks = _breaks(_density(structure, event), [key, *arrays], order)
    if found["numpyro"]:
        # How NumPyro writes its densities is no sign of a kink (clipping, choices between equals), except for the one
        # that they have: |x - loc|, which matters from the second order on.
        known = {"abs", "stop_gradient"} if order > 1 else {"stop_gradient"}
        kinks = {i: where for i, where in kinks.items() if where.operation in known}
    return Nature(found["discrete"], rough, kinks, edges, found.get("support"), found.get("elements"))


def _density(structure: Structure, event: Event) -> Callable[..., Any]:
    """`(key, *arrays) -> log probability` of a value that varies freely."""

    def density(key: Any, *arrays: Any) -> Any:
        free = [jax.random.bits(key, shape, jnp.uint32).astype(dtype) for shape, dtype in event.leaves]
        return distributions.log_prob(structure.build(arrays), jax.tree.unflatten(event.tree, free))

    return density


def _breaks(function: Callable[..., Any], operands: list[Any], order: int) -> dict[int, Break]:
    """The operands in which a function of (key, *arrays) is not smooth, and where.

    One on which the result depends while no derivative comes through is `stop_gradient`ed: it only looks constant.
    """
    program, _ = stage(function, *operands)
    moving = [jnp.issubdtype(operand.dtype, jnp.inexact) for operand in operands]
    flows = [Flow(reach=bit(i) * moves, tangent=bit(i) * moves) for i, moves in enumerate(moving)]
    analysis = Analysis(program, flows, order)
    unknown = [Break("an operation", "an unknown line")]
    found = {}
    for i in range(len(flows)):
        result = join(flow for flow in analysis.outputs if flow.reach & bit(i))
        if result.broken & bit(i):
            found[i] = (analysis.breaks.get(bit(i)) or unknown)[0]
        elif result.reach & ~result.tangent & bit(i):
            found[i] = Break("stop_gradient", "its own code")
    return found


def _edges(structure: Structure, arrays: list[Any]) -> frozenset[int]:
    def edges(*arrays: Any) -> list[Any]:
        distribution = structure.build(arrays)
        leaves = jax.tree.leaves((getattr(distribution, "support", ()), list(_movers(distribution))))
        return [leaf for leaf in leaves if isinstance(leaf, jax.Array)]

    program, _ = stage(edges, *arrays)
    flows = [Flow(reach=bit(i + 1)) for i in range(len(arrays))]
    reach = 0
    for flow in Analysis(program, flows).outputs:
        reach |= flow.reach
    return frozenset(i for i in range(1, len(flows) + 1) if reach & bit(i))


def _movers(d: Any) -> Iterator[Any]:
    """The parameters of transforms that move a support with an edge; NumPyro says of such that it is the whole line."""
    if not isinstance(d, dist.Distribution):
        return
    if type(d) is dist.TransformedDistribution:
        first, *others = d.transforms
        if not _is_line(d.base_dist.support):
            from_zero = isinstance(d.base_dist.support, type(constraints.positive) | type(constraints.nonnegative))
            # A scale leaves an edge at zero where it is.
            yield first.loc if from_zero and isinstance(first, transforms.AffineTransform) else first
            yield others
    for part in vars(d).values():
        yield from _movers(part)


def _is_line(support: Any) -> bool:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return isinstance(support, type(constraints.real) | type(constraints.real_vector))


def _one_lane(draw: Operation) -> list[jax.ShapeDtypeStruct]:
    """Shapes of the operands of a draw before `vmap` added lanes."""
    assert draw.site is not None
    shapes = []
    for position, aval in enumerate(draw.operands):
        shape = list(aval.shape)
        for lane in reversed(draw.site.lanes):
            axis = lane.axes[position]
            if axis is not None:
                del shape[axis]
        weak = getattr(aval, "weak_type", False)
        shapes.append(jax.ShapeDtypeStruct(tuple(shape), aval.dtype, weak_type=weak))
    return shapes
