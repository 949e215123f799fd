"""One run under a method of estimation, as a row of what is to be averaged."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Key, PyTree

from variate import checks
from variate.programs import validity
from variate.programs.program import Program
from variate.programs.runs import Run, Wishes, run_with
from variate.programs.staging import stage
from variate.programs.uniforms import Layout, layout
from variate.trees import Static, as_float, join, split

from .base import Integrated, Methods
from .controlled import Controlled, ControlledMoments
from .designs import Sets
from .moments import Moments
from .weights import ParetoSmoothed, SelfNormalized, Weighted

Invalid = dict[int, Int[Array, ""]]  # by the index of a draw, how often it met parameters out of range


@dataclass(frozen=True)
class Sampler:
    """Rows of a program under a method; `row(key, uniforms)` is one, `uniforms` empty where there is no design."""

    row: Callable[[Key[Array, ""], Float[Array, " d"]], tuple[PyTree[Array], Invalid]]
    sets: Sets | None
    labels: tuple[str, ...]  # of the uniforms: what their draws are called
    controlled: Any  # what folds rows that are `Controlled`, or None
    stated: bool  # whether the means of the controls are somebody's word
    normalized: bool = False  # whether rows are to be divided by the sum of their weights
    smoothed: bool = False  # whether the largest of these weights are to be smoothed
    weighted: bool = False  # whether rows are weighted at all

    @property
    def kind(self) -> Any:
        """The fold of independent rows."""
        plain = ParetoSmoothed if self.smoothed else self.within
        return plain if self.controlled is None else self.controlled

    @property
    def within(self) -> Any:
        """The fold of runs that depend on each other, whose `row` stands for all of them."""
        return SelfNormalized if self.normalized else Moments

    def bare(self, rows: Any) -> Any:
        """What is folded of rows, a row or its shapes."""
        return rows.value if isinstance(rows, Weighted) and not self.normalized else rows


def sampler(methods: Methods, static: Static, num_samples: int, key: Any, numbers: list[Any], checked: bool) -> Sampler:
    """Of the function and the arguments that `static` and `numbers` make."""
    if methods == Methods():
        f, args = join(numbers, static)
        run = validity.counted(f) if checked else _uncounted(f)

        def plain(key: Key[Array, ""], uniforms: Float[Array, " d"]) -> tuple[PyTree[Array], Invalid]:
            result, invalid = run(key, *args)
            return jax.tree.map(as_float, result), invalid

        return Sampler(plain, None, (), None, False)
    if methods.controls and methods.weighting and methods.weighting.self_normalized:
        raise ValueError("method: controls go with weights of the mean 1, not with self-normalised ones")
    smoothed = methods.weighting is not None and methods.weighting.smoothed
    if smoothed and methods.design:
        raise ValueError("method: weights are smoothed for independent runs, not for those of a design")
    if methods.integration and (methods.controls or methods.weighting):
        raise ValueError("method: what is integrated out goes with a design, not with controls or weights")
    program, shape = staged(static, key, numbers)
    wishes = _wishes(methods, program)
    gone = methods.integration.integrated(program) if methods.integration else Integrated()
    wishes = dataclasses.replace(wishes, means=gone.means)
    plan = layout(program, wishes.proposals, {*gone.means, *gone.values}) if methods.design else Layout((), {}, {})
    sets = methods.design.sets(plan.labels, num_samples) if methods.design else None
    if methods.design and not plan.dimension:
        why = lambda site: plan.kept.get(site.index, "it is integrated out")  # noqa: E731
        reasons = "; ".join(f"{site.label!r}: {why(site)}" for site in program.sites) or "it has no draws"
        raise ValueError(f"method: {type(methods.design).__name__} has no draw to serve ({reasons})")

    def one(key: Key[Array, ""], uniforms: Float[Array, " d"], fixed: dict[int, Array]) -> tuple[PyTree[Array], Run]:
        run = run_with(program, [key, *numbers], plan.split(uniforms), wishes, fixed)
        result = jax.tree.unflatten(jax.tree.structure(shape), run.outputs)
        return jax.tree.map(as_float, result), run

    def row(key: Key[Array, ""], uniforms: Float[Array, " d"]) -> tuple[PyTree[Array], Invalid]:
        if gone.values:
            results, runs = jax.vmap(one, (None, None, 0))(key, uniforms, gone.values)
            result, invalid = _averaged(results, jnp.exp(runs.log_weight)), jax.tree.map(jnp.sum, runs.invalid)
        else:
            result, run = one(key, uniforms, {})
            result, invalid = _row(methods, result, run), run.invalid
        return result, invalid if checked else {}

    stated = methods.controls is not None and methods.controls.stated
    regressed = ControlledMoments if methods.weighting is not None and methods.weighting.regressed else None
    controlled = regressed if methods.controls is None else methods.controls.fold
    normalized = methods.weighting is not None and methods.weighting.self_normalized
    weighted = methods.weighting is not None
    return Sampler(row, sets, tuple(plan.labels), controlled, stated, normalized, smoothed, weighted)


class Opened(NamedTuple):
    """A call of an estimate as compiled functions take it: numbers, all else, and whether the numbers are known."""

    numbers: list[Any]
    static: Static
    known: bool


def opened(f: Any, key: Any, args: tuple[Any, ...]) -> Opened:
    """Of `f(key, *args)`.

    Raises:
        TypeError: a key that is not typed, an `f` that does not take these arguments, or one that is no number and
            cannot be hashed.
        ValueError: a batch of keys.
    """
    checks.check_key(key)
    checks.check_arguments(f, args)
    numbers, static = split((f, args))
    checks.check_hashable(static.leaves)
    return Opened(numbers, static, not any(isinstance(leaf, Tracer) for leaf in (key, *numbers)))


def raise_if_invalid(call: Opened, key: Key[Array, ""], invalid: Invalid) -> None:
    """Raise `ValueError` for draws that met parameters out of range, unless a caller's `jit` hides them."""
    if call.known and any(invalid.values()):
        program, _ = staged(call.static, key, call.numbers)
        validity.raise_invalid(program, [jax.random.clone(key), *call.numbers], invalid)


def staged(static: Static, key: Any, numbers: list[Any]) -> tuple[Program, Any]:
    """The program that the function is, and the shapes of its result."""

    def call(key: Key[Array, ""], *numbers: Any) -> PyTree:
        f, args = join(list(numbers), static)
        result = f(key, *args)
        checks.check_result(f, result)
        return result

    return stage(call, key, *numbers)


def _uncounted(f: Callable[..., PyTree]) -> Callable[..., tuple[PyTree, Invalid]]:
    def run(key: Any, *args: Any) -> tuple[PyTree, Invalid]:
        result = f(key, *args)
        checks.check_result(f, result)
        return result, {}

    return run


def _wishes(methods: Methods, program: Program) -> Wishes:
    wanted = methods.controls.wishes(program) if methods.controls else Wishes()
    proposals = methods.weighting.proposals(program) if methods.weighting else {}
    return Wishes(proposals, wanted.kept, wanted.scores)


def _averaged(results: PyTree[Array], weights: Float[Array, " n"]) -> PyTree[Array]:
    """What has no probability may be anything."""

    def average(leaf: Array) -> Array:
        own = weights.astype(leaf.dtype).reshape(-1, *(1,) * (leaf.ndim - 1))
        return jnp.sum(jnp.where(own == 0, 0, own * leaf), axis=0)

    return jax.tree.map(average, results)


def _row(methods: Methods, value: PyTree[Array], run: Run) -> PyTree[Array]:
    """Under weights every number is weighted, and the weight itself has the mean 1, which is one control more."""
    controls = methods.controls.controls(run) if methods.controls else None
    if methods.weighting is None:
        return value if controls is None else Controlled(value, controls)
    if methods.weighting.self_normalized:
        return Weighted(value, run.log_weight)
    weight = jnp.exp(run.log_weight)
    none = weight == 0  # outside of the program's support, where its result may be anything
    value = jax.tree.map(lambda leaf: jnp.where(none, 0, weight.astype(leaf.dtype) * leaf), value)
    if controls is not None:
        controls = jnp.append(weight.astype(controls.dtype) * controls, (weight - 1).astype(controls.dtype))
    if methods.weighting.regressed:
        beside = [jnp.ravel(control).astype(float) for control in run.beside.values()]
        controls = jnp.concatenate(beside if controls is None else [controls, *beside])
    return Weighted(value if controls is None else Controlled(value, controls), run.log_weight)
