"""The joint log density of a program's draws and of what weighs its runs."""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from variate import checks, trees
from variate.programs import distributions, parameters
from variate.programs.interpretation import Records, run
from variate.programs.primitive import over_lanes
from variate.programs.program import Factor, Operation, Program, Site
from variate.programs.simulation import names_of, shape_of
from variate.programs.staging import stage_whole
from variate.programs.supports import checked
from variate.programs.unseen import refuse_unseen


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

        def run(key: Any, *numbers: Any) -> None:
            model, args, kwargs = trees.join(list(numbers), self.static)
            model(key, *args, **kwargs)

        program, _ = stage_whole(run, jax.random.key(0), *self.numbers)
        for factor in program.factors:
            _refuse_uncountable(factor)
        refuse_unseen(program)
        return program

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


class Piece(NamedTuple):
    """What one draw or factor adds: its log density, and how many of its distributions had parameters out of range.

    `values`: what was drawn, or, where it was made of other coordinates, those that it would be made of.
    """

    log_density: Float[Array, "..."]
    invalid: Int[Array, "..."]
    values: Any = None


class Joint(NamedTuple):
    """A joint log density, its pieces by the labels of draws and factors, and what came of every draw."""

    log_density: Float[Array, ""]
    pieces: dict[str, Float[Array, ""]]
    invalid: dict[str, Int[Array, ""]]
    values: dict[str, Any]


# How what was given for one lane of a draw becomes its value: the leaves of it, its log density, and what to keep.
Reading = Callable[[Site, Any, list[Array]], tuple[list[Array], Array, Any]]


def as_values(site: Site, distribution: Any, given: list[Array]) -> tuple[list[Array], Array, Any]:
    """What was given is the value; where that is impossible the run goes on with one that is possible."""
    value, inside = checked(distribution, jax.tree.unflatten(site.event.tree, given))
    each = jnp.where(inside, distributions.drawn_log_prob(distribution, value), -jnp.inf)
    return jax.tree.leaves(value), jnp.sum(each), None


def joint_of(program: Program, numbers: Sequence[Any], given: Mapping[int, list[Array]], reading: Reading) -> Joint:
    """The joint density where `given` stands, by the index of the draw, for the draws of a program."""
    _, records = run(program, [jax.random.key(0), *numbers], Weighing(given, reading))
    total = sum((jnp.sum(piece.log_density) for piece in records.values()), jnp.zeros((), float))
    return joint_from(program, records, total)


def joint_from(
    program: Program, records: Mapping[int, Piece], log_density: Float[Array, ""], omitted: Collection[int] = ()
) -> Joint:
    """A joint density and its pieces; of the draws that are `omitted`, by their index, there is no value."""
    names = {index: name for name, index in names_of(program).items()}
    labels = labels_of(program, names)
    pieces = {labels[i]: jnp.sum(piece.log_density) for i, piece in records.items()}
    invalid = {labels[i]: jnp.sum(piece.invalid, dtype=jnp.int32) for i, piece in records.items()}
    wrong = sum(invalid.values(), jnp.zeros((), jnp.int32)) > 0
    values = {names[i]: piece.values for i, piece in records.items() if i in names and i not in omitted}
    return Joint(jnp.where(wrong, jnp.nan, log_density), pieces, invalid, values)


@dataclass(frozen=True)
class Weighing:
    """A handler that takes what is given for each draw and adds up log densities."""

    given: Mapping[int, list[Array]]
    reading: Reading

    def draw(self, site: Site, index: tuple[Array, ...], operands: Sequence[Array]) -> tuple[list[Array], Piece]:
        given = self.given[site.index]

        def one(*inputs: Array) -> tuple[list[Array], Piece]:
            distribution = site.structure.build(inputs[len(given) + 1 :])
            values, log_density, kept = self.reading(site, distribution, list(inputs[: len(given)]))
            return values, Piece(log_density.astype(float), _invalid(distribution), kept)

        values, piece = over_lanes(one, site.lanes, len(given))(*given, *operands)
        return values, piece

    def weigh(self, factor: Factor, operands: Sequence[Array]) -> Piece:
        def one(*operands: Array) -> Piece:
            if factor.structure is None:
                return Piece(jnp.sum(operands[0]).astype(float), jnp.zeros((), jnp.int32))
            count = factor.tree.num_leaves
            distribution = factor.structure.build(operands[count:])
            value, inside = checked(distribution, jax.tree.unflatten(factor.tree, operands[:count]))
            each = jnp.where(inside, distributions.drawn_log_prob(distribution, value), -jnp.inf)
            return Piece(jnp.sum(each).astype(float), _invalid(distribution))

        return over_lanes(one, factor.lanes)(*operands)

    def stepped(self, body: Program) -> tuple[Any, Callable[[Any], "Weighing"]]:
        own = {site.index: self.given[site.index] for site in body.sites if site.index in self.given}
        return own, lambda step: Weighing({**self.given, **step}, self.reading)

    def loop(self, run: Any, operation: Operation, inputs: list[Array]) -> tuple[list[Array], Records]:
        site = operation.sites[0]
        raise TypeError(
            f"the draw {site.label!r} ({site.source}) is inside a while_loop, whose number of draws is not known "
            "before the run: it has no joint density"
        )


def _invalid(distribution: Any) -> Int[Array, ""]:
    """1 where a parameter is out of range in a way that the density itself might not show."""
    with distributions.numpyro_promotion():
        holds = [jnp.all(condition.holds()) for condition in parameters.cheap_conditions(distribution)]
    return 1 - functools.reduce(jnp.logical_and, holds, jnp.asarray(True)).astype(jnp.int32)


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
