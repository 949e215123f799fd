"""Named values that a baseline looks at: which there are, whether they know the draw, and how they fit the charges."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from variate.gradients.base import Rule
from variate.gradients.plan import Group
from variate.gradients.rules.baseline import Baseline
from variate.gradients.rules.score import Score
from variate.programs.program import Operation, Program, Site, scan_parts


def watched(rules: Mapping[int, Rule | None]) -> dict[int, tuple[str, ...]]:
    """What the baseline of each draw looks at."""
    baselines = {i: rule.baseline for i, rule in rules.items() if isinstance(rule, Score)}
    return {i: each.names for i, each in baselines.items() if isinstance(each, Baseline) and each.names}


def check_watched(program: Program, rules: Mapping[int, Rule | None]) -> None:
    """Raise where a baseline looks at what is not there, or at what depends on the draw that it is for."""
    sites = {site.index: site for site in program.sites}
    for i, names in watched(rules).items():
        for name in names:
            count = _count(program, name)
            if count != 1:
                raise ValueError(
                    f"baseline: {'two values are' if count else 'no value is'} called {name!r} where the draw "
                    f"{sites[i].label!r} could see it; jax.ad_checkpoint.checkpoint_name(value, name) gives a name"
                )
            _check_unknowing(program, sites[i], name, frozenset())


def _check_unknowing(program: Program, site: Site, name: str, mixed: frozenset[int]) -> None:
    following = Following(site.index, name, mixed)
    following.program(program, [False] * len(program.inputs))
    if following.knows:
        steps = " of an earlier step, with which it is charged together" if mixed else " itself"
        raise ValueError(f"baseline: the value {name!r} depends on the draw {site.label!r}{steps}, which would bias it")


def _count(program: Program, name: str) -> int:
    """How many values have this name where a run sees them: a loop or a branch is looked into only where it draws."""
    seen = 0
    for operation in program.operations:
        if operation.sites and operation.name != "while":
            seen += sum(_count(body, name) for body in operation.bodies)
        else:
            seen += _is(operation, name)
    return seen


def _is(operation: Operation, name: str) -> bool:
    return operation.name == "name" and operation.params["name"] == name


@dataclass
class Following:
    """Follows a draw to a named value: `knows` says whether it comes there.

    `mixed`: the loops around the draw, by depth, all of whose steps share one baseline, so that what an earlier step
    drew must not come there either. In the others a value may know the draws of earlier steps.
    """

    draw: int
    name: str
    mixed: frozenset[int]
    knows: bool = False

    def program(self, program: Program, inputs: Sequence[bool], depth: int = 0, own: bool = True) -> list[bool]:
        """Which outputs know the draw, from which inputs do; `own`: whether the draw in it counts."""
        known = {place for place, knows in zip(program.inputs, inputs, strict=True) if knows}
        for operation in program.operations:
            operands = [x in known for x in operation.inputs]
            if operation.sites and not operation.site:
                outputs = self.control(operation, operands, depth, own)
            else:
                drawn = own and operation.site is not None and operation.site.index == self.draw
                outputs = [drawn or any(operands)] * len(operation.outputs)
                self.knows |= _is(operation, self.name) and any(operands)
            known.update(place for place, knows in zip(operation.outputs, outputs, strict=True) if knows)
        return [output in known for output in program.outputs]

    def control(self, operation: Operation, operands: list[bool], depth: int, own: bool) -> list[bool]:
        inside = own and any(site.index == self.draw for site in operation.sites)
        if operation.name == "while":
            return [inside or any(operands)] * len(operation.outputs)
        if operation.name == "cond":
            which, *rest = operands
            self.knows |= which and any(_count(body, self.name) for body in operation.bodies)
            cases = [self.program(body, [which or x for x in rest], depth, own) for body in operation.bodies]
            return [which or any(case) for case in zip(*cases, strict=True)]
        if operation.name != "scan":
            return self.program(operation.bodies[0], operands, depth, own)
        if inside and depth not in self.mixed:
            before = self.steps(operation, operands, depth, own=False)[0]
            self.program(operation.bodies[0], before, depth + 1, own)
            knows = self.knows
            outputs = self.steps(operation, operands, depth, own)[1]
            self.knows = knows  # what a step knows of those before it is no matter here
            return outputs
        return self.steps(operation, operands, depth, own)[1]

    def steps(self, scan: Operation, operands: list[bool], depth: int, own: bool) -> tuple[list[bool], list[bool]]:
        """What comes into a step, and what leaves it, after any number of steps."""
        constants, carried = scan_parts(scan)
        while True:
            outputs = self.program(scan.bodies[0], operands, depth + 1, own)
            carry = operands[constants : constants + carried]
            following = [a or b for a, b in zip(carry, outputs, strict=False)]
            if following == carry:
                return operands, outputs
            operands = [*operands[:constants], *following, *operands[constants + carried :]]


def seen(
    group: Group,
    charges: Sequence[Array],
    values: Mapping[str, Array],
    program: Program,
    outputs: Sequence[Array],
) -> list[list[Array]]:
    """What the baseline of a group looks at, in the shape of each of its charges, features last.

    `outputs` of the program: those that are not one number have a charge for each entry, which all elements share.
    """
    baseline = group.rule.baseline if isinstance(group.rule, Score) else None
    baseline = baseline if isinstance(baseline, Baseline) else Baseline()
    names = baseline.names
    apart = [output.ndim == 0 for output in outputs]
    if names:
        sites = [site for site in program.sites if site.index in group.sites]
        shapes = {charge.shape if each else () for charge, each in zip(charges, apart, strict=False)}
        for site, shape in ((site, shape) for site in sites for shape in shapes):
            for name in names if _mixed(site, shape) else ():
                _check_unknowing(program, site, name, _mixed(site, shape))
    return [
        [_fitted(name, lax.stop_gradient(values[name]), charge, each, baseline.axes) for name in names]
        for charge, each in zip(charges, apart, strict=False)
    ]


def _mixed(site: Site, charged: tuple[int, ...]) -> frozenset[int]:
    """The loops around a draw, by depth, whose steps are charged together."""
    lengths = [loop.length for loop in site.repeats]
    return frozenset(
        depth for depth, length in enumerate(lengths) if length != 1 and charged[depth : depth + 1] != (length,)
    )


def _fitted(name: str, value: Array, charge: Array, apart: bool, axes: int) -> Array:
    """Axes along which elements are charged apart come first, all others are features, in one axis or two."""
    kept = [axis for axis, length in enumerate(charge.shape) if length > 1 and apart]
    if any(axis >= value.ndim or value.shape[axis] != charge.shape[axis] for axis in kept):
        raise ValueError(
            f"baseline: the value {name!r} has shape {value.shape}, loops first, and does not fit charges of shape "
            f"{charge.shape}"
        )
    moved = jnp.moveaxis(value, kept, range(len(kept)))
    rest = moved.shape[len(kept) :]
    features = (math.prod(rest),) if axes == 1 else (math.prod(rest[:-1]), *(rest[-1:] or (1,)))
    moved = moved.reshape(*(charge.shape if apart else ()), *features)
    real = jnp.issubdtype(value.dtype, jnp.inexact)
    return jnp.broadcast_to(moved, (*charge.shape, *features)).astype(value.dtype if real else charge.dtype)
