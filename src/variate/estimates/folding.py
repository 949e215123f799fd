"""The two ways in which runs come in blocks: independent ones, or a few sets of points that grow together."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PyTree

from variate.programs.generator import run_keys
from variate.protocols import OrderedFold

from .blocks import Blocks, Folded, State
from .controlled import Controlled
from .designs import Sets
from .estimate import Estimate
from .function_of_means import FunctionOfMeans
from .intervals.base import Bounded
from .jackknife import Jackknife, LeaveGroupsOut
from .moments import Moments
from .plan import Plan
from .ridge import PastRegression
from .rules import Pair, parts
from .sampling import Sampler
from .stopping import StdErr, StoppingRule, spent
from .weights import Watch

_FEWEST_SETS = 100  # before which none is asked whether it is enough
_DESIGN = 2**32 - 1  # of the keys of runs, which are numbered from 0, none is this


def blocks_of(plan: Plan, sampler: Sampler, key: Key[Array, ""]) -> Blocks:
    growing = sampler.sets is not None and sampler.sets.count is not None
    return Growing(plan, sampler, key) if growing else Independent(plan, sampler, key)


class Independent(Blocks):
    """Runs, or sets of a design, that come one after the other."""

    def __init__(self, plan: Plan, sampler: Sampler, key: Key[Array, ""]):
        self.sampler, self.key = sampler, key
        self.size = size = sampler.sets.size if sampler.sets else 1
        self.units = plan.num_samples // size
        if self.units == 0:
            raise ValueError(f"num_samples must be at least {size}, one set of the design, got {plan.num_samples}")
        self.per_block = min(max(plan.block_size // size, 1), self.units)
        self.count, self.runs = -(-self.units // self.per_block), self.per_block * size
        self.until = _of_sets(plan.until, size)
        self.looking = self.until is not None
        run, draws = jax.eval_shape(sampler.row, key, jnp.zeros(len(sampler.labels)))
        example = sampler.bare(run)
        self.kind = _kind(plan, sampler, example)
        self.controls = 0 if isinstance(self.kind, PastRegression) else _num_controls(example)
        watch = Watch.of(run, self.units * size, self.runs, sampler.normalized, sampler.smoothed)
        watch = None if plan.interval else watch  # bounds have no tail
        nothing = jnp.zeros((), int)
        self.empty = State(self.kind.empty(example), nothing, dict.fromkeys(draws, nothing), watch)

    def add(self, index: Array, state: State) -> State:
        sampler, size, per_block = self.sampler, self.size, self.per_block
        left = None if self.units % per_block == 0 else jnp.minimum(self.units - index * per_block, per_block)
        places = (index * per_block + jnp.arange(per_block)).astype(jnp.uint32)
        rows, invalid = _sets(sampler, self.key, places) if sampler.sets else _runs(sampler, self.key, places)
        used = jnp.arange(per_block) < (per_block if left is None else left)
        met = {site: state.invalid[site] + jnp.sum(used * (times > 0)) for site, times in invalid.items()}
        watch = state.watch and state.watch.seen(rows, None if left is None else jnp.repeat(used, size), index)
        rows, bad = sampler.bare(rows), jnp.zeros((), int)
        if size > 1:
            sets = jax.tree.map(lambda leaf: leaf.reshape(per_block, size, *leaf.shape[1:]), rows)
            within = jax.vmap(sampler.within.of_rows)(sets)
            rows, bad = jax.vmap(lambda fold: fold.row)(within), jnp.sum(jnp.where(used, within.nonfinite, 0))
        fold = state.fold
        ordered = isinstance(fold, OrderedFold)
        fold = fold.add_rows(rows, left) if ordered else fold.merge(self.kind.of_rows(rows, left))
        return State(fold, state.nonfinite + bad, met, watch)

    def join(self, one: Any, other: Any) -> Any:
        return one.merge(other)

    def enough(self, done: Any, state: State) -> Bool[Array, ""]:
        if self.until is None:
            return jnp.zeros((), bool)
        found = self.until.assess(state.fold.read())
        return found.converged | spent(self.until, found) | (found.nonfinite > 0)

    def read(self, done: Any, state: State) -> Folded:
        found = state.fold.read()
        if self.until is None:
            degrees = min(done * self.per_block, self.units) - 1
            if isinstance(self.kind, LeaveGroupsOut):
                degrees = min(degrees, self.kind.option.groups - 1)
            found = dataclasses.replace(found, degrees=float(max(degrees - self.controls, 1)))
        else:
            found, degrees = self.until.assess(found), self.units - 1
        bad = state.nonfinite if self.size > 1 else found.nonfinite
        found = dataclasses.replace(found, num_samples=found.num_samples * self.size, nonfinite=bad)
        return _folded(self.sampler, found, state, state.fold, degrees)


class Growing(Blocks):
    """A few sets, whose points come one after the other; their number is a power of two whenever it is looked at."""

    def __init__(self, plan: Plan, sampler: Sampler, key: Key[Array, ""]):
        sets = sampler.sets
        assert sets is not None
        assert sets.count is not None
        if others := [rule for rule in parts(plan.until) if not isinstance(rule, StdErr | None)]:
            raise ValueError(f"until: {type(others[0]).__name__} does not know how few sets of points are looked at")
        self.sampler, self.key, self.sets, self.number = sampler, key, sets, sets.count
        self.until: Any = plan.until
        self.looking = self.until is not None
        self.step = min(2 ** (max(plan.block_size // self.number, 1).bit_length() - 1), sets.size)
        self.count, self.runs = sets.size // self.step, self.number * self.step
        self.scrambles = jax.vmap(sets.randomize)(_set_keys(key, jnp.arange(self.number)))
        run, draws = jax.eval_shape(sampler.row, key, jnp.zeros(len(sampler.labels)))
        example = sampler.bare(run)
        self.degrees = self.number - 1 - _num_controls(example)
        if self.degrees < 1:
            raise ValueError(
                f"method: {self.number} sets of points tell nothing of the error beside {_num_controls(example)} "
                "controls; take more replicates"
            )
        self.kind = _kind(plan, sampler, example)
        if isinstance(self.kind, PastRegression):
            raise ValueError("method: the few sets of a design that grows have no order that Ridge could learn from")
        fold = jax.vmap(lambda _: sampler.within.empty(example))(jnp.arange(self.number))
        watch = Watch.of(run, self.number * sets.size, self.runs, sampler.normalized, sampler.smoothed)
        nothing = jnp.zeros((), int)
        self.empty = State(fold, nothing, dict.fromkeys(draws, nothing), watch)

    def add(self, index: Array, state: State) -> State:
        sampler, sets = self.sampler, self.sets
        points = index * self.step + jnp.arange(self.step)
        uniforms = jax.vmap(jax.vmap(sets.point, (None, 0)), (0, None))(self.scrambles, points)
        places = jnp.arange(self.number)[:, None] * sets.size + points[None]
        keys = run_keys(self.key, places.ravel()).reshape(places.shape)
        rows, invalid = jax.vmap(jax.vmap(sampler.row))(keys, uniforms)
        met = {site: state.invalid[site] + jnp.sum(times > 0) for site, times in invalid.items()}
        runs = jax.tree.map(lambda leaf: leaf.reshape(places.size, *leaf.shape[2:]), rows)
        watch = state.watch and state.watch.seen(runs, None, index)
        fold = self.join(state.fold, jax.vmap(sampler.within.of_rows)(sampler.bare(rows)))
        return State(fold, jnp.sum(fold.nonfinite), met, watch)

    def join(self, one: Any, other: Any) -> Any:
        return jax.vmap(self.sampler.within.merge)(one, other)

    def enough(self, done: Any, state: State) -> Bool[Array, ""]:
        if self.until is None:
            return jnp.zeros((), bool)
        found = self.until.assess_sets(self._estimate(state), self.degrees, done)
        return ((done & (done - 1)) == 0) & (found.converged | spent(self.until, found) | (state.nonfinite > 0))

    def read(self, done: Any, state: State) -> Folded:
        found = self._estimate(state)
        if self.until is None:
            found = dataclasses.replace(found, degrees=float(self.degrees))
        else:
            found = self.until.assess_sets(found, self.degrees, done)
        return _folded(self.sampler, found, state, self._sets(state), self.number - 1)

    def _sets(self, state: State) -> Any:
        """The fold of the sets, of which each is a row."""
        return self.kind.of_rows(self._means(state))

    def _means(self, state: State) -> PyTree[Array]:
        """What each set comes to."""
        return jax.vmap(lambda fold: fold.row)(state.fold)

    def _estimate(self, state: State) -> Estimate:
        total, found = jnp.sum(state.fold.num_samples), of_sets(self.kind, self._means(state))
        return dataclasses.replace(found, num_samples=total, nonfinite=state.nonfinite)


def of_sets(kind: Any, means: PyTree[Array]) -> Estimate:
    """From what each of some independent sets comes to, by a kind of fold."""
    # Of plain means alone: what is no mean of the sets has an interval without it.
    skewness = jax.tree.map(_skewness, means) if kind is Moments else None
    return dataclasses.replace(kind.of_rows(means).read(), skewness=skewness)


def _skewness(means: Float[Array, "n ..."]) -> Float[Array, "..."]:
    """Of independent means."""
    n = means.shape[0]
    deviation = means - jnp.mean(means, axis=0, keepdims=True)
    size = jnp.sqrt(jnp.sum(deviation**2, axis=0, keepdims=True) / (n - 1))
    ratio = deviation / jnp.where(size > 0, size, 1)
    return jnp.sum(ratio**3, axis=0) * (n / ((n - 1) * max(n - 2, 1)))


def _runs(sampler: Sampler, key: Key[Array, ""], places: Array) -> tuple[PyTree[Array], dict[int, Array]]:
    return jax.vmap(lambda key: sampler.row(key, jnp.zeros(0)))(run_keys(key, places))


def _sets(sampler: Sampler, key: Key[Array, ""], places: Array) -> tuple[PyTree[Array], dict[int, Array]]:
    """The runs of some sets, those of a set side by side."""
    sets: Sets = sampler.sets  # pyright: ignore[reportAssignmentType]
    inside = jnp.arange(sets.size)

    def points(key: Key[Array, ""]) -> Array:
        made = sets.randomize(key)
        return jax.vmap(lambda i: sets.point(made, i))(inside)

    uniforms = jax.vmap(points)(_set_keys(key, places))
    runs = places[:, None] * jnp.uint32(sets.size) + inside[None].astype(jnp.uint32)
    rows, invalid = jax.vmap(sampler.row)(run_keys(key, runs.ravel()), uniforms.reshape(runs.size, -1))
    return rows, {site: jnp.sum(times.reshape(runs.shape), axis=1) for site, times in invalid.items()}


def _set_keys(key: Key[Array, ""], places: Array) -> Key[Array, " n"]:
    return run_keys(jax.random.fold_in(key, _DESIGN), places)


def _kind(plan: Plan, sampler: Sampler, example: Any) -> Any:
    """What folds rows: a class, or an empty fold that serves as one."""
    if plan.interval is not None:
        if sampler.sets or sampler.controlled is not None or sampler.weighted or plan.function:
            raise ValueError("interval: bounds of a result are those of independent runs, without a method or function")
        return Bounded.of(plan.interval, None if plan.until else plan.num_samples, example)
    if plan.function is None:
        return sampler.kind
    if sampler.controlled is not None or sampler.normalized:
        what = "controls" if sampler.controlled is not None else "self-normalised weights"
        raise ValueError(f"function: a function of means goes with designs and weights of the mean 1, not with {what}")
    if isinstance(plan.function, Jackknife):
        return LeaveGroupsOut.of(plan.function, example)
    return FunctionOfMeans.of(plan.function, example)


def _of_sets(until: StoppingRule | None, size: int) -> StoppingRule | None:
    """The rule for sets instead of runs: of means of many runs fewer are needed before their mean is normal."""
    if isinstance(until, Pair):
        return until.map(lambda rule: _of_sets(rule, size))
    if size == 1 or not isinstance(until, StdErr):
        return until
    return dataclasses.replace(until, min_samples=max(-(-until.min_samples // size), _FEWEST_SETS))


def _folded(sampler: Sampler, found: Estimate, state: State, fold: Any, degrees: int) -> Folded:
    """With what the draws say of the means that somebody stated."""
    off = fold.off(max(degrees, 1)) if sampler.stated else jnp.zeros(0)
    found = dataclasses.replace(found, converged=found.converged & ~jnp.any(off > 1))
    return Folded(found, state.invalid, off, state.watch)


def _num_controls(example: Any) -> int:
    return example.controls.size if isinstance(example, Controlled) else 0
