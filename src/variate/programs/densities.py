"""The joint log density of a program's draws and of what weighs its runs."""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from variate import checks, trees
from variate.programs.digests import digest_of_traced
from variate.programs.interpretation import run
from variate.programs.program import Factor, Program, Site
from variate.programs.simulation import names_of, shape_of
from variate.programs.staging import program_of, traced
from variate.programs.unseen import refuse_unseen
from variate.programs.weighing import Piece, Reading, Weighing, as_values


def density(model: Callable[..., Any]) -> Callable[..., Float[Array, ""]]:
    r"""The joint log density of a program: a function of `(values, *args, **kwargs)`.

    $$\log p(x, y) = \sum_i \log p_i(x_i \mid x_{<i}) + \sum_j \log p_j(y_j \mid x) + \sum_k w_k$$

    over its draws, its observations and its factors. `values` maps the name of every draw (its source line where it has
    none) to its value, with a leading axis for each scan around it, then one for each `vmap`. The arguments are those
    of `model` without its key. It is a deterministic function: `jax.grad` of any order, `jit` and `vmap` apply to it,
    and inside another program it is a term like any other.

    A value outside of its draw's support has the density -inf, and no derivative. A draw in a branch that is not taken
    adds nothing.

    Raises:
        TypeError: `values` is no dictionary, a value is of another type than the draw; a draw is inside a `while_loop`,
            or depends on random numbers that no draw makes.
        ValueError: a draw is missing, a name is not of a draw, or a value is of the wrong shape; a parameter of a
            distribution is out of range. Under a caller's `jit` the density is then NaN.

    Wrong for a density of some of the draws: the others are not integrated out.
    """
    checks.check_callable("model", model)

    def joint(values: Any, /, *args: Any, **kwargs: Any) -> Float[Array, ""]:
        call = Call.of(model, args, kwargs)
        if not isinstance(values, Mapping):
            raise TypeError(
                f"values must be a dictionary from names of draws to their values, got {checks.describe(values)}"
            )
        _refuse_nan(values)
        found = _evaluate(call.static, call.numbers, dict(values))
        call.raise_if_invalid(found)
        return found.log_density

    return functools.wraps(model, updated=())(joint)


class Call(NamedTuple):
    """A call of a model without its key: its numbers, and all else."""

    numbers: list[Any]
    static: trees.Static

    @staticmethod
    def of(model: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> "Call":
        checks.check_arguments(model, args, kwargs)
        numbers, static = trees.split((model, args, dict(kwargs)))
        checks.check_hashable(static.leaves)
        return Call(numbers, static)

    def program(self) -> Program:
        """The program of the key and the numbers; its result is not looked at."""
        return self.staged()[0]

    def staged(self) -> tuple[Program, str]:
        """And a digest of what the model does now, with what it closes over and without the numbers."""

        def run(key: Any, *numbers: Any) -> None:
            model, args, kwargs = trees.join(list(numbers), self.static)
            model(key, *args, **kwargs)

        jaxpr = traced(run, jax.random.key(0), *self.numbers)
        program = program_of(jaxpr, whole=True)
        for factor in program.factors:
            _refuse_uncountable(factor)
        refuse_unseen(program)
        return program, digest_of_traced(jaxpr)

    def raise_if_invalid(self, found: "Joint") -> None:
        """Raise for a parameter that was out of range, unless a caller's `jit` hides it."""
        for label, count in found.invalid.items():
            if not isinstance(count, Tracer) and int(count):
                raise ValueError(f"{label!r}: parameters of its distribution are out of range or not finite")


def _refuse_uncountable(factor: Factor) -> None:
    kinds, what = [loop.kind for loop in factor.loops], f"the {factor.kind} {factor.label!r} ({factor.source})"
    if "while" in kinds:
        raise TypeError(
            f"{what} is inside a while_loop, where what ends the loop decides how often it counts: use a scan"
        )
    if factor.branches > kinds.count("cond"):
        raise TypeError(
            f"{what} is inside a branch that vmap made a choice between results of, so it would count whether or not "
            "the branch is taken: weigh by jnp.where(taken, log_weight, 0.0) outside of the branch"
        )


class Joint(NamedTuple):
    """A joint log density, its pieces by the labels of draws and factors, and what came of every draw."""

    log_density: Float[Array, ""]
    pieces: dict[str, Float[Array, ""]]
    invalid: dict[str, Int[Array, ""]]
    values: dict[str, Any]


def joint_of(program: Program, numbers: Sequence[Any], given: Mapping[int, list[Array]], reading: Reading) -> Joint:
    """The joint density where `given` stands, by the index of the draw, for the draws of a program."""
    _, records = run(program, [jax.random.key(0), *numbers], Weighing(given, reading))
    total = sum((piece.total for piece in records.values()), jnp.zeros((), float))
    return joint_from(program, records, total)


def joint_from(
    program: Program, records: Mapping[int, Piece], log_density: Float[Array, ""], omitted: Collection[int] = ()
) -> Joint:
    """A joint density and its pieces; of the draws that are `omitted`, by their index, there is no value."""
    names = {index: name for name, index in names_of(program).items()}
    labels = labels_of(program, names)
    pieces = {labels[i]: piece.total for i, piece in records.items()}
    invalid = {labels[i]: jnp.sum(piece.invalid, dtype=jnp.int32) for i, piece in records.items()}
    wrong = sum(invalid.values(), jnp.zeros((), jnp.int32)) > 0
    values = {names[i]: piece.values for i, piece in records.items() if i in names and i not in omitted}
    return Joint(jnp.where(wrong, jnp.nan, log_density), pieces, invalid, values)


def labels_of(program: Program, names: Mapping[int, str]) -> dict[int, str]:
    """What each draw and factor is called, by its index, given the names of the draws."""
    labels = dict(names)
    for factor in program.factors:
        label, count = factor.label, 1
        while label in labels.values():
            if factor.name is not None:
                raise ValueError(f"name: two draws, observations or factors are called {factor.name!r}")
            label, count = f"{factor.label}#{count + 1}", count + 1
        labels[factor.index] = label
    return labels


@functools.partial(jax.jit, static_argnums=0)
def _evaluate(static: trees.Static, numbers: list[Any], values: dict[str, Any]) -> Joint:
    program = Call(numbers, static).program()
    return joint_of(program, numbers, given_by_name(program, values), as_values)


def given_by_name(
    program: Program, values: Mapping[str, Any], omitted: Collection[int] = (), some: bool = False
) -> dict[int, list[Array]]:
    """The leaves of the value of each draw, by its index, but for those that are `omitted`; maybe of `some` alone.

    Raises:
        ValueError: a draw is missing, a name is not of a draw, or a value is of the wrong shape.
        TypeError: a value is of another structure or type than the draw.
    """
    sites = {site.index: site for site in program.sites}
    names = {name: index for name, index in names_of(program).items() if index not in omitted}
    for name in values:
        if name not in names:
            raise ValueError(f"values: no draw is called {name!r}; the draws are {sorted(names)}")
    missing = sorted(names.keys() - values.keys())
    if missing and not some:
        raise ValueError(f"values: {', '.join(map(repr, missing))} missing; the draws are {sorted(names)}")
    return {names[name]: _leaves(name, sites[names[name]], value) for name, value in values.items()}


def _refuse_nan(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        for leaf in jax.tree.leaves(value):
            if (
                not isinstance(leaf, Tracer)
                and jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
                and np.isnan(leaf).any()
            ):
                raise ValueError(f"values: {name!r} must be numbers, got {leaf}")


def _leaves(name: str, site: Site, value: Any) -> list[Array]:
    leaves, tree = jax.tree.flatten(value)
    if tree != site.event.tree:
        raise TypeError(f"values: the draw {name!r} is {site.event.tree}, got {tree}")
    found = []
    for leaf, (event, dtype) in zip(leaves, site.event.leaves, strict=True):
        expected = shape_of(site, event)
        if jnp.shape(leaf) != expected:
            raise ValueError(f"values: the draw {name!r} has shape {expected}, got {jnp.shape(leaf)}")
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) and not jnp.issubdtype(dtype, jnp.inexact):
            raise TypeError(f"values: the draw {name!r} is {jnp.dtype(dtype).name}, got {checks.describe(leaf)}")
        found.append(jnp.asarray(leaf).astype(dtype))
    return found
