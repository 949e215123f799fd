"""Runs of a program at a level of accuracy, beside those of the level below from the same draws."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from variate import checks
from variate.estimates.estimate import Estimate
from variate.estimates.moments import Moments
from variate.estimates.sampling import Invalid, Opened, raise_if_invalid
from variate.programs import validity
from variate.programs.generator import run_keys
from variate.programs.jaxprs import called
from variate.trees import Static, as_float, join, split


class Pair(NamedTuple):
    """What a run came to at its level, and at the level below from the same draws."""

    fine: PyTree[Array]
    coarse: PyTree[Array]

    @property
    def difference(self) -> PyTree[Array]:
        return jax.tree.map(jnp.subtract, self.fine, self.coarse)


def pair(f: Callable[..., Any], key: Key[Array, ""], level: int, args: tuple[Any, ...]) -> tuple[Pair, Invalid]:
    """One run, and how often its draws met parameters out of range. Below level 0 there is nothing.

    Raises `TypeError` where `f` returns no pair, or something that is no number, and `ValueError` where the two differ
    in shape.
    """
    result, invalid = validity.counted(at_level(f, level))(key, *args)
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(
            f"f must return (fine, coarse), its results at a level and below, got {checks.describe(result)}"
        )
    fine = jax.tree.map(as_float, result[0])
    if level == 0:
        return Pair(fine, jax.tree.map(jnp.zeros_like, fine)), invalid
    coarse = jax.tree.map(as_float, result[1])
    if shapes(fine) != shapes(coarse):
        raise ValueError(f"fine and coarse must have the same shapes, got {shapes(fine)} and {shapes(coarse)}")
    return Pair(fine, coarse), invalid


def at_level(f: Callable[..., Any], level: int) -> Callable[..., Any]:
    return functools.wraps(f, updated=())(lambda key, *args: f(key, level, *args))


def refuse(program: Callable[..., Any], key: Key[Array, ""], args: tuple[Any, ...], met: Invalid) -> None:
    """Raise `ValueError` for draws that met parameters out of range in runs of `program(key, *args)`."""
    raise_if_invalid(Opened(*split((program, args)), known=True), key, met)


def folded(
    row: Callable[[Key[Array, ""]], tuple[PyTree[Array], PyTree[Array]]],
    key: Key[Array, ""],
    count: Int[Array, ""],
    block: int,
) -> tuple[Moments, PyTree[Array]]:
    """Of so many rows, whose keys are numbered, in the memory of one block; and how many met what is invalid."""
    example, invalid = jax.eval_shape(row, key)

    def add(state: tuple[Array, Moments, PyTree[Array]]) -> tuple[Array, Moments, PyTree[Array]]:
        done, fold, met = state
        rows, invalid = jax.vmap(row)(run_keys(key, done + jnp.arange(block)))
        used = done + jnp.arange(block) < count
        met = jax.tree.map(lambda before, times: before + jnp.sum(used & (times > 0)), met, invalid)
        return done + block, fold.merge(Moments.of_rows(rows, jnp.minimum(count - done, block))), met

    start = jnp.zeros((), int), Moments.empty(example), jax.tree.map(lambda _: jnp.zeros((), int), invalid)
    return jax.lax.while_loop(lambda state: state[0] < count, add, start)[1:]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def runs(
    static: Static, level: int, block: int, key: Key[Array, ""], numbers: list[Any], count: Int[Array, ""]
) -> tuple[Moments, Invalid]:
    """Of `(difference, fine, coarse)`."""
    f, args = join(numbers, static)

    def row(key: Key[Array, ""]) -> tuple[PyTree[Array], Invalid]:
        found, invalid = pair(f, key, level, args)
        return (found.difference, found.fine, found.coarse), invalid

    return folded(row, jax.random.fold_in(key, level), count, block)


@functools.partial(jax.jit, static_argnums=(0, 1))
def operations(static: Static, level: int, key: Key[Array, ""], numbers: list[Any]) -> Float[Array, ""]:
    """How many numbers a run at a level computes: that of every operation, as often as its loop goes round.

    Compiled for the sake of its cache, for it is known when the run is traced.
    """
    f, args = join(numbers, static)
    return jnp.asarray(operations_in(jax.make_jaxpr(lambda key: pair(f, key, level, args))(key).jaxpr))


def operations_in(jaxpr: Any) -> float:
    total = 1.0
    for equation in jaxpr.eqns:
        inside = sum(map(operations_in, called(equation)))
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        total += times * inside + sum(float(np.prod(out.aval.shape)) for out in equation.outvars)
    return total


@jax.jit
def read(fold: Moments) -> Estimate:
    """`fold.read()`, which is slow an operation at a time."""
    return fold.read()


merged = jax.jit(Moments.merge)


def flat(tree: PyTree) -> Float[np.ndarray, " m"]:
    return np.concatenate([np.ravel(np.asarray(leaf, float)) for leaf in jax.tree.leaves(tree)])


def shapes(tree: PyTree[Array]) -> PyTree:
    return jax.tree.map(jnp.shape, tree)
