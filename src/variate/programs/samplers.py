"""What a distribution allows, read off its own sampler, support and values."""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import constraints, transforms

from variate.programs import distributions
from variate.programs.dataflow import Analysis, Break, Flow, bit, join
from variate.programs.primitive import Event, sample_leaves
from variate.programs.program import Operation, one_lane
from variate.programs.staging import stage
from variate.programs.structure import Structure


@dataclass(frozen=True)
class Nature:
    """What one lane of a draw is like; operands are counted from the key, which is 0.

    `rough`: the operands with which its value does not move smoothly, and where the sampler breaks the path. `kinks`:
    those in which its log probability is not smooth. `edges`: those that move its support. `support`: how many values
    an element has, None where that is not finite or not known. `elements`: how many elements it has, None where that is
    not known. `law`: the class of the distribution of an element; `parameters`: its names for what it depends on, and
    the operands in each.
    """

    discrete: bool
    rough: dict[int, Break]
    kinks: dict[int, Break]
    edges: frozenset[int]
    support: int | None
    elements: int | None
    law: type
    parameters: dict[str, frozenset[int]]


def nature(draw: Operation, order: int = 1) -> Nature:
    """The nature of a draw, for derivatives up to `order`."""
    assert draw.site is not None
    operands = tuple(one_lane(draw))
    try:
        return _cached(draw.site.structure, operands, draw.site.event, order)
    except TypeError:  # a distribution with a part that cannot be hashed
        return _nature(draw.site.structure, operands, draw.site.event, order)


def support(draw: Operation) -> np.ndarray | None:
    """The values of an element of a draw, where they are finitely many numbers."""
    assert draw.site is not None
    structure, found = draw.site.structure, []

    def look(*arrays: Any) -> None:
        values = distributions.support(structure.build(arrays))
        found.extend([] if values is None or values.ndim != 1 else [np.asarray(values)])

    jax.eval_shape(look, *one_lane(draw)[1:])
    return found[0] if found else None


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
        found["law"] = type(distributions.innermost(distribution))
        if found["numpyro"]:
            found["elements"] = math.prod(distributions.elementwise(distributions.unmasked(distribution)).batch_shape)
        support = distributions.support(distribution)
        found["support"] = None if support is None else support.shape[0]

    jax.eval_shape(look, *arrays)
    edges = frozenset().union(*_touched(structure, arrays, _edges))
    names: list[str] = []

    def named(distribution: Any) -> list[Any]:
        inner = distributions.innermost(distribution)
        names[:] = [name for name in getattr(inner, "arg_constraints", ()) if hasattr(inner, name)]
        return [getattr(inner, name) for name in names]

    parameters = dict(zip(names, _touched(structure, arrays, named), strict=True))
    rough = {} if found["discrete"] else _breaks(sample_leaves(structure, ()), [key, *arrays], order)
    kinks = _breaks(_density(structure, event), [key, *arrays], order)
    if found["numpyro"]:
        # How NumPyro writes its densities is no sign of a kink (clipping, choices between equals), except for the one
        # that they have: |x - loc|, which matters from the second order on.
        known = {"abs", "stop_gradient"} if order > 1 else {"stop_gradient"}
        kinks = {i: where for i, where in kinks.items() if where.operation in known}
    return Nature(
        found["discrete"], rough, kinks, edges, found["support"], found.get("elements"), found["law"], parameters
    )


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


def _touched(structure: Structure, arrays: list[Any], pick: Callable[[Any], list[Any]]) -> list[frozenset[int]]:
    """The operands on which each of the parts of a distribution that `pick` names depends."""
    program, shapes = stage(lambda *arrays: _arrays_in(pick(structure.build(arrays))), *arrays)
    analysis = Analysis(program, [Flow(reach=bit(i + 1)) for i in range(len(arrays))])
    outputs = iter(analysis.outputs)
    reached = [join(next(outputs) for _ in part).reach for part in shapes]
    return [frozenset(i for i in range(1, len(arrays) + 1) if reach & bit(i)) for reach in reached]


def _arrays_in(parts: list[Any]) -> list[list[Any]]:
    return [[leaf for leaf in jax.tree.leaves(part) if isinstance(leaf, jax.Array)] for part in parts]


def _edges(distribution: Any) -> list[Any]:
    return [getattr(distribution, "support", ()), list(_movers(distribution))]


def _movers(d: Any) -> Iterator[Any]:
    """The parameters that move an atom, or a support with an edge; NumPyro says of such that it is the whole line."""
    if not isinstance(d, dist.Distribution):
        return
    if isinstance(d, dist.Delta):
        yield d.v
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
