"""Named values that a baseline looks at: which there are, whether they know the draw, and how they fit the charges."""

import math
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from variate.gradients.base import Rule
from variate.gradients.plan import Group
from variate.gradients.rules.baseline import Baseline
from variate.gradients.rules.score import Score
from variate.programs.staging import Operation, Program


def watched(rules: Mapping[int, Rule | None]) -> dict[int, tuple[str, ...]]:
    """What the baseline of each draw looks at."""
    baselines = {i: rule.baseline for i, rule in rules.items() if isinstance(rule, Score)}
    return {i: each.names for i, each in baselines.items() if isinstance(each, Baseline) and each.names}


def check_watched(program: Program, rules: Mapping[int, Rule | None]) -> None:
    """Raise where a baseline looks at what is not there, or at what depends on the draw that it is for."""
    labels = {site.index: site.label for site in program.sites}
    for i, names in watched(rules).items():
        for name in names:
            knows = _knows(program, i, name)
            if knows is None:
                raise ValueError(
                    f"baseline: no value is called {name!r} where the draw {labels[i]!r} could see it; "
                    "jax.ad_checkpoint.checkpoint_name(value, name) gives a name"
                )
            if knows:
                raise ValueError(
                    f"baseline: the value {name!r} depends on the draw {labels[i]!r} itself, which would bias it"
                )


def _knows(program: Program, draw: int, name: str) -> bool | None:
    """Whether a named value depends on a draw of the same step; None if there is no such value."""
    (place,) = [op for op in program.operations if any(site.index == draw for site in op.sites)]
    for body in place.bodies:
        if any(site.index == draw for site in body.sites):
            inner = _knows(body, draw, name)
            if inner is not None:
                return inner
    named = [op for op in program.operations if op is not place and _names(op, name)]
    if not named:
        return None
    after = set(place.outputs)
    for operation in program.operations:
        if after.intersection(x for x in operation.inputs if isinstance(x, int)):
            after.update(operation.outputs)
            if any(operation is each for each in named):
                return True
    return False


def _names(operation: Operation, name: str) -> bool:
    if operation.name == "name":
        return operation.params["name"] == name
    # A loop or a branch is looked into only where it draws.
    return any(_names(inner, name) for body in operation.bodies if operation.sites for inner in body.operations)


def seen(group: Group, charges: Sequence[Array], values: Mapping[str, Array]) -> list[list[Array]]:
    """What the baseline of a group looks at, in the shape of each of its charges, features last."""
    baseline = group.rule.baseline if isinstance(group.rule, Score) else None
    names = baseline.names if isinstance(baseline, Baseline) else ()
    return [[_fitted(name, lax.stop_gradient(values[name]), charge) for name in names] for charge in charges]


def _fitted(name: str, value: Array, charge: Array) -> Array:
    """Axes along which charges differ come first, all others are features."""
    kept = [axis for axis, length in enumerate(charge.shape) if length > 1]
    if any(axis >= value.ndim or value.shape[axis] != charge.shape[axis] for axis in kept):
        raise ValueError(
            f"baseline: the value {name!r} has shape {value.shape}, loops first, and does not fit charges of shape "
            f"{charge.shape}"
        )
    moved = jnp.moveaxis(value, kept, range(len(kept)))
    features = math.prod(moved.shape[len(kept) :])
    return moved.reshape(*charge.shape, features).astype(jnp.result_type(float, value))
