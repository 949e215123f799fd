"""The loops that fold blocks of runs into an estimate, on the device, in the memory of one block."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Integer, Key, PyTree

from .controlled import Controlled, ControlledMoments
from .designs import Sets
from .estimate import Estimate
from .function_of_means import FunctionOfMeans
from .intervals.base import Bounded
from .plan import Plan
from .sampling import Invalid, Sampler
from .stopping import StdErr, StoppingRule
from .weights import Watch

_FEWEST_SETS = 100  # before which none is asked whether it is enough
_DESIGN = 2**32 - 1  # of the keys of runs, which are numbered from 0, none is this


class Folded(NamedTuple):
    """What a loop ends with: `off` is by how much controls have another mean than was stated."""

    found: Estimate
    invalid: Invalid
    off: Array
    watch: Watch | None


class _State(NamedTuple):
    """What goes round a loop: the fold, how many runs were not finite, and of draws with parameters out of range."""

    fold: Any
    nonfinite: Int[Array, ""]
    invalid: Invalid
    watch: Watch | None


def fold_many(plan: Plan, sampler: Sampler, key: Key[Array, ""]) -> Folded:
    """Of runs, or sets of a design, that come one after the other and are independent."""
    size = sampler.sets.size if sampler.sets else 1
    count = plan.num_samples // size
    if count == 0:
        raise ValueError(f"num_samples must be at least {size}, one set of the design, got {plan.num_samples}")
    per_block = min(max(plan.block_size // size, 1), count)
    num_blocks = -(-count // per_block)
    until = _of_sets(plan.until, size)
    run, draws = jax.eval_shape(sampler.row, key, jnp.zeros(len(sampler.labels)))
    example = sampler.bare(run)
    kind = _kind(plan, sampler, example)

    def add(index: Int[Array, ""], state: _State) -> _State:
        left = None if count % per_block == 0 else jnp.minimum(count - index * per_block, per_block)
        places = (index * per_block + jnp.arange(per_block)).astype(jnp.uint32)
        rows, invalid = _sets(sampler, key, places) if sampler.sets else _runs(sampler, key, places)
        used = jnp.arange(per_block) < (per_block if left is None else left)
        met = {site: state.invalid[site] + jnp.sum(used * (times > 0)) for site, times in invalid.items()}
        watch = state.watch and state.watch.seen(rows, None if left is None else jnp.repeat(used, size), index)
        rows, bad = sampler.bare(rows), jnp.zeros((), int)
        if size > 1:
            sets = jax.tree.map(lambda leaf: leaf.reshape(per_block, size, *leaf.shape[1:]), rows)
            within = jax.vmap(sampler.within.of_rows)(sets)
            rows, bad = jax.vmap(lambda fold: fold.row)(within), jnp.sum(jnp.where(used, within.nonfinite, 0))
        fold = state.fold
        fold = fold.add_rows(rows, left) if isinstance(fold, Bounded) else fold.merge(kind.of_rows(rows, left))
        return _State(fold, state.nonfinite + bad, met, watch)

    watch = Watch.of(run, count * size, per_block * size, sampler.normalized, sampler.smoothed)
    watch = None if plan.interval else watch  # bounds have no tail
    state = _State(kind.empty(example), jnp.zeros((), int), {site: jnp.zeros((), int) for site in draws}, watch)

    def read(state: _State) -> Estimate:
        return state.fold.read()

    def unfinished(index: Array, state: _State) -> Array:
        found = read(state)
        stop = until.assess(found).converged | (found.nonfinite > 0)  # pyright: ignore[reportOptionalMemberAccess]
        return (index == 0) | ~stop

    state = _loop(num_blocks, add, state, unfinished if until else None)
    found = read(jax.lax.optimization_barrier(state))
    degrees = float(max(count - 1 - _num_controls(example), 1))
    found = dataclasses.replace(found, degrees=degrees) if until is None else until.assess(found)
    bad = state.nonfinite if size > 1 else found.nonfinite
    found = dataclasses.replace(found, num_samples=found.num_samples * size, nonfinite=bad)
    return Folded(found, state.invalid, _off(state.fold, count - 1), state.watch)


def fold_growing(plan: Plan, sampler: Sampler, key: Key[Array, ""]) -> Folded:
    """Of a few sets, whose points come one after the other; their number is a power of two whenever it is looked at."""
    sets = sampler.sets
    assert sets is not None
    assert sets.count is not None
    step = min(2 ** (max(plan.block_size // sets.count, 1).bit_length() - 1), sets.size)
    scrambles = jax.vmap(sets.randomize)(_set_keys(key, jnp.arange(sets.count)))

    def add(index: Int[Array, ""], state: _State) -> _State:
        points = index * step + jnp.arange(step)
        uniforms = jax.vmap(jax.vmap(sets.point, (None, 0)), (0, None))(scrambles, points)
        places = jnp.arange(sets.count)[:, None] * sets.size + points[None]
        keys = run_keys(key, places.ravel()).reshape(places.shape)
        rows, invalid = jax.vmap(jax.vmap(sampler.row))(keys, uniforms)
        met = {site: state.invalid[site] + jnp.sum(times > 0) for site, times in invalid.items()}
        runs = jax.tree.map(lambda leaf: leaf.reshape(places.size, *leaf.shape[2:]), rows)
        watch = state.watch and state.watch.seen(runs, None, index)
        merged = jax.vmap(within.merge)(state.fold, jax.vmap(within.of_rows)(sampler.bare(rows)))
        return _State(merged, jnp.sum(merged.nonfinite), met, watch)

    run, draws = jax.eval_shape(sampler.row, key, jnp.zeros(len(sampler.labels)))
    example, within = sampler.bare(run), sampler.within
    degrees = sets.count - 1 - _num_controls(example)
    if degrees < 1:
        raise ValueError(
            f"method: {sets.count} sets of points tell nothing of the error beside {_num_controls(example)} controls; "
            "take more replicates"
        )
    kind = _kind(plan, sampler, example)
    empty = jax.vmap(lambda _: within.empty(example))(jnp.arange(sets.count))
    watch = Watch.of(run, sets.count * sets.size, sets.count * step, sampler.normalized, sampler.smoothed)
    state = _State(empty, jnp.zeros((), int), {site: jnp.zeros((), int) for site in draws}, watch)

    def read(state: _State) -> Estimate:
        found = kind.of_rows(jax.vmap(lambda fold: fold.row)(state.fold)).read()
        return dataclasses.replace(found, num_samples=jnp.sum(state.fold.num_samples), nonfinite=state.nonfinite)

    def off(state: _State) -> Array:
        return _off(kind.of_rows(jax.vmap(lambda fold: fold.row)(state.fold)), sets.count - 1)  # pyright: ignore[reportOptionalOperand]

    def assessed(index: Array, state: _State) -> Estimate:
        assert isinstance(plan.until, StdErr)
        return plan.until.assess_sets(read(state), degrees, index)

    def unfinished(index: Array, state: _State) -> Array:
        look = (index & (index - 1)) == 0
        return (index == 0) | ~(look & (assessed(index, state).converged | (state.nonfinite > 0)))

    if plan.until is not None and not isinstance(plan.until, StdErr):
        raise ValueError(f"until: {type(plan.until).__name__} does not know how few sets of points are looked at")
    blocks = sets.size // step
    state = _loop(blocks, add, state, unfinished if plan.until else None)
    state = jax.lax.optimization_barrier(state)
    done = jnp.max(state.fold.num_samples) // step
    found = assessed(done, state) if plan.until else dataclasses.replace(read(state), degrees=float(degrees))
    return Folded(found, state.invalid, off(state), state.watch)


def _loop(
    count: int,
    add: Callable[[Array, _State], _State],
    empty: _State,
    unfinished: Callable[[Array, _State], Array] | None,
) -> _State:
    if unfinished is None:
        return jax.lax.fori_loop(0, count, add, empty)
    start = (jnp.zeros((), int), empty)
    go_on = lambda carry: (carry[0] < count) & unfinished(*carry)  # noqa: E731
    return jax.lax.while_loop(go_on, lambda carry: (carry[0] + 1, add(*carry)), start)[1]


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


def run_keys(key: Key[Array, ""], places: Integer[Array, " n"]) -> Key[Array, " n"]:
    """Of the runs with these numbers, whatever block they are in."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, places.astype(jnp.uint32))


def _set_keys(key: Key[Array, ""], places: Array) -> Key[Array, " n"]:
    return run_keys(jax.random.fold_in(key, _DESIGN), places)


def _kind(plan: Plan, sampler: Sampler, example: Any) -> Any:
    """What folds rows: a class, or an empty fold that serves as one."""
    if plan.interval is not None:
        if sampler.sets or sampler.controlled or sampler.weighted or plan.function:
            raise ValueError("interval: bounds of a result are those of independent runs, without a method or function")
        return Bounded.of(plan.interval, None if plan.until else plan.num_samples, example)
    if plan.function is None:
        return sampler.kind
    if sampler.controlled or sampler.normalized:
        what = "controls" if sampler.controlled else "self-normalised weights"
        raise ValueError(f"function: a function of means goes with designs and weights of the mean 1, not with {what}")
    return FunctionOfMeans.of(plan.function, example)


def _of_sets(until: StoppingRule | None, size: int) -> StoppingRule | None:
    """The rule for sets instead of runs: of means of many runs fewer are needed before their mean is normal."""
    if size == 1 or not isinstance(until, StdErr):
        return until
    return dataclasses.replace(until, min_samples=max(-(-until.min_samples // size), _FEWEST_SETS))


def _off(fold: Any, degrees: int) -> Array:
    return fold.off(max(degrees, 1)) if isinstance(fold, ControlledMoments) else jnp.zeros(0)


def _num_controls(example: Any) -> int:
    return example.controls.size if isinstance(example, Controlled) else 0
