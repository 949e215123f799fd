"""One run under a method of estimation, as a row of what is to be averaged."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from variate import checks
from variate.compiling import traced
from variate.programs import dataflow, validity
from variate.programs.program import Program
from variate.programs.runs import Wishes, run_with
from variate.programs.staging import stage
from variate.programs.uniforms import Layout, layout
from variate.trees import Static, as_float, join, split

from .base import Integrated, Methods
from .controlled import Controlled, ControlledMoments
from .designs import Sets
from .designs.base import inside
from .designs.independent import Independent
from .moments import Moments
from .weights import ParetoSmoothed, SelfNormalized, Weighted, defended

_OWN_OR_NOT = "the choice between own and proposed draws"
_PICK = 0x0D1CE  # folded into the key of that choice, where there is no design: no program should fold it in itself
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
        if not checked:
            staged(static, key, numbers)  # which refuses what weighs the runs

        def plain(key: Key[Array, ""], uniforms: Float[Array, " d"]) -> tuple[PyTree[Array], Invalid]:
            result, invalid = run(key, *args)
            return jax.tree.map(as_float, result), invalid

        return Sampler(plain, None, (), None, False)
    if methods.controls and methods.weighting and methods.weighting.self_normalized:
        raise ValueError("method: controls go with weights of the mean 1, not with self-normalised ones")
    smoothed = methods.weighting is not None and methods.weighting.smoothed
    if smoothed and methods.design:
        raise ValueError("method: weights are smoothed for independent runs, not for those of a design")
    program, shape = staged(static, key, numbers)
    gone = methods.integration.integrated(program) if methods.integration else Integrated()
    absent = _absent(methods, program, gone)
    wishes = _wishes(methods, program, gone, absent)
    design = methods.design or (Independent() if wishes.uniforms else None)
    share = methods.weighting.defensive if methods.weighting else 0.0
    integrated = {*gone.means, *gone.values}
    plan = layout(program, wishes.proposals, integrated, share > 0) if design else Layout((), {}, {})
    # A uniform, where there are any, says which runs are the program's own, so that a design spreads them.
    place = plan.first(wishes.proposals) if share else None
    labels = [*plan.labels, _OWN_OR_NOT] if share and place is None else plan.labels
    sets = design.sets(labels, num_samples) if design else None
    if design and not plan.dimension:
        why = lambda site: plan.kept.get(site.index, "it is integrated out")  # noqa: E731
        reasons = "; ".join(f"{site.label!r}: {why(site)}" for site in program.sites) or "it has no draws"
        raise ValueError(f"method: {methods.name} has no draw to serve ({reasons})")

    def one(key: Key[Array, ""], uniforms: Float[Array, " d"], fixed: dict[int, Array]) -> _Ran:
        wanted = wishes
        if share:
            own, uniforms = shared_out(uniforms, place, share) if design else (_pick(key) < share, uniforms)
            wanted = replace(wishes, own=own)
        run = run_with(program, [key, *numbers], plan.split(uniforms), wanted, fixed)._replace(
            absent=absent, uniforms=uniforms
        )
        if share:
            run = run._replace(log_weight=defended(run.log_weight, share))
        value = jax.tree.map(as_float, jax.tree.unflatten(jax.tree.structure(shape), run.outputs))
        controls = methods.controls.controls(run) if methods.controls else None
        return _Ran(value, controls, run.beside, run.log_prob, run.log_weight, run.invalid)

    def row(key: Key[Array, ""], uniforms: Float[Array, " d"]) -> tuple[PyTree[Array], Invalid]:
        if gone.values:
            ran = _averaged(jax.vmap(one, (None, None, 0))(key, uniforms, gone.values), methods.weighting is not None)
        else:
            ran = one(key, uniforms, {})
        return _row(methods, ran), ran.invalid if checked else {}

    stated = methods.controls is not None and methods.controls.stated
    regressed = ControlledMoments if methods.weighting is not None and methods.weighting.regressed else None
    controlled = regressed if methods.controls is None else methods.controls.fold
    normalized = methods.weighting is not None and methods.weighting.self_normalized
    weighted = methods.weighting is not None
    return Sampler(row, sets, tuple(labels), controlled, stated, normalized, smoothed, weighted)


def shared_out(
    uniforms: Float[Array, " d"], place: int | None, share: float
) -> tuple[Bool[Array, ""], Float[Array, " n"]]:
    """Whether a run is the program's own, by the uniform at a place, or one more at the end, and those it is made of.

    That at the place is uniform anew in either case, when its share is spread over the unit interval. So the first of
    the draws that have proposals fills both evenly, where a uniform of its own would cut its points into pieces.
    """
    if place is None:
        return uniforms[-1] < share, uniforms[:-1]
    pick = uniforms[place]
    own = pick < share
    spread = jnp.where(own, pick / share, (pick - share) / (1 - share))
    return own, uniforms.at[place].set(inside(spread))


def _pick(key: Key[Array, ""]) -> Float[Array, ""]:
    return jax.random.uniform(jax.random.fold_in(jax.random.clone(key), _PICK))


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
    return Opened(numbers, static, not traced(key, numbers))


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


class _Ran(NamedTuple):
    """What a row is made of; the probability of values that were fixed is apart from the weight of those drawn."""

    value: PyTree[Array]
    controls: Float[Array, "*n p"] | None
    beside: dict[str, Array]
    log_prob: Float[Array, "*n"]
    log_weight: Float[Array, "*n"]
    invalid: Invalid


def _absent(methods: Methods, program: Program, gone: Integrated) -> dict[str, str]:
    """By label, why draws have no value of their own, which matters to controls and proposals alone.

    One whose law depends on a draw for which its mean stands has another law than the program's.
    """
    if methods.integration is None or not (methods.controls or methods.weighting):
        return {}
    laws = dataflow.Analysis(program, [dataflow.NOTHING] * len(program.inputs)).operands
    labels, found = {site.index: site.label for site in program.sites}, {}
    by = f"is integrated out by {type(methods.integration).__name__}"
    for site in program.sites:
        reached = gone.means & set(dataflow.members(dataflow.join(laws[site.index]).reach))
        if site.index in gone.means or site.index in gone.values:
            found[site.label] = by
        elif reached:
            found[site.label] = f"depends on {labels[min(reached)]!r}, which {by}"
    return found


def _wishes(methods: Methods, program: Program, gone: Integrated, absent: dict[str, str]) -> Wishes:
    wanted = methods.controls.wishes(program) if methods.controls else Wishes()
    proposals = methods.weighting.proposals(program) if methods.weighting else {}
    for site in program.sites:
        if (name := site.name) in proposals and name and (site.index in gone.means or site.index in gone.values):
            raise ValueError(f"proposals: the draw {name!r} {absent[name]}, so that nothing is drawn in its place")
    kept = wanted.kept.difference(absent)
    scores = {i: operands for i, operands in wanted.scores.items() if i not in gone.means and i not in gone.values}
    if (wanted.kept or wanted.scores) and not (kept or scores):
        reasons = "; ".join(f"{label!r} {why}" for label, why in absent.items())
        raise ValueError(f"method: {type(methods.controls).__name__} has no draw left to serve: {reasons}")
    if wanted.uniforms and methods.weighting:
        what = type(methods.controls).__name__
        raise ValueError(f"method: {what} does not go with weights, which are not what the draws are made of")
    return Wishes(proposals, kept, scores, gone.means, wanted.uniforms)


def _averaged(runs: _Ran, weighted: bool) -> _Ran:
    """The mean over the values that were fixed, by their probabilities, and by the weights of their runs if any."""
    log_mass = runs.log_prob + runs.log_weight
    log_weight = jax.nn.logsumexp(log_mass) if weighted else jnp.zeros(())
    shares = jnp.where(jnp.isneginf(log_mass), 0, jnp.exp(log_mass - log_weight))

    def average(tree: PyTree[Array], shares: Float[Array, " n"]) -> PyTree[Array]:
        def of(leaf: Array) -> Array:
            own = shares.astype(leaf.dtype).reshape(-1, *(1,) * (leaf.ndim - 1))
            return jnp.sum(jnp.where(own == 0, 0, own * leaf), axis=0)  # what has no probability may be anything

        return jax.tree.map(of, tree)

    value, controls = average((runs.value, runs.controls), shares)
    beside = average(runs.beside, jnp.exp(runs.log_prob))
    return _Ran(value, controls, beside, jnp.zeros(()), log_weight, jax.tree.map(jnp.sum, runs.invalid))


def _row(methods: Methods, ran: _Ran) -> PyTree[Array]:
    """Under weights every number is weighted, and the weight itself has the mean 1, which is one control more."""
    value, controls = ran.value, ran.controls
    if methods.weighting is None:
        return value if controls is None else Controlled(value, controls)
    if methods.weighting.self_normalized:
        return Weighted(value, ran.log_weight)
    weight = jnp.exp(ran.log_weight)
    none = weight == 0  # outside of the program's support, where its result may be anything
    value = jax.tree.map(lambda leaf: jnp.where(none, 0, weight.astype(leaf.dtype) * leaf), value)
    if controls is not None:
        controls = jnp.append(weight.astype(controls.dtype) * controls, (weight - 1).astype(controls.dtype))
    if methods.weighting.regressed:
        beside = [jnp.ravel(control).astype(float) for control in ran.beside.values()]
        controls = jnp.concatenate(beside if controls is None else [controls, *beside])
    return Weighted(value if controls is None else Controlled(value, controls), ran.log_weight)
