"""Expectations of programs: blocks of samples in one compiled loop, folded into an estimate."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Int, Key, PyTree

from variate.checks import (
    check_arguments,
    check_callable,
    check_hashable,
    check_key,
    check_positive_int,
    check_result,
    describe,
)
from variate.programs import validity
from variate.programs.staging import Program, stage
from variate.trees import Static, as_float, join, split

from .estimate import Estimate
from .moments import Moments
from .stopping import StoppingRule

DEFAULT_SAMPLES = 1_024
DEFAULT_BLOCK = 256


class _Plan(NamedTuple):
    """How to sample; static, so part of what a compiled loop is cached under."""

    until: StoppingRule | None
    num_samples: int  # at most this many; exactly this many without `until`
    block_size: int

    @property
    def num_blocks(self) -> int:
        return -(-self.num_samples // self.block_size)


def expect(
    f: Callable[..., PyTree],
    *,
    num_samples: int | None = None,
    until: StoppingRule | None = None,
    max_samples: int = 10_000_000,
    block_size: int | None = None,
) -> Callable[..., Estimate]:
    r"""The expectation of a random program: a function `(key, *args)` returning the `Estimate` of $E[f(key, *args)]$.

    `f(key, *args)` returns any pytree of real arrays; integers and booleans are averaged as floats. Sample i uses the
    key `jax.random.fold_in(key, i)`, so the same key gives the same samples whatever the block size, and bit for bit
    the same answer for a given one. Runs compiled, and works under `jit`, `vmap` and `scan`; arguments are traced as by
    `jax.jit`, save that booleans and objects that are no numbers stay as they are.

    - `num_samples`: how many samples; 1,024 when neither this nor `until` is given. The interval is then Student's.
    - `until`: a stopping rule, `StdErr(1e-3)` say, asked after every block.
    - `max_samples`: where `until` gives up and returns what it has, with `converged=False`.
    - `block_size`: samples run at once, 256 by default. Memory is that of one block, `block_size` times what `f` needs.
      Larger is faster for a small `f`; take a smaller one where a single run is already a large array program.

    A sample that is not finite is counted, makes `converged` false, and ends sampling with `until`, since no
    later draw can mend the mean. For the derivative of an expectation use `grad`; differentiating through this loop
    ignores how the draws depend on the parameters.

    Raises `TypeError` for a key that is not typed, an `f` that does not take `(key, *args)` and results that are not
    real numbers; `ValueError` for a distribution's parameters out of range (under a caller's `jit` they show as
    non-finite numbers, if at all), a batch of keys, counts that are not positive, and `num_samples` beside `until`.
    """
    check_callable("f", f)
    plan = _plan(num_samples, until, max_samples, block_size)

    @functools.wraps(f, updated=())
    def estimate(key: Any = None, *args: Any) -> Estimate:
        check_key(key)
        numbers, static = split((f, args))
        check_hashable(static.leaves)
        known = not any(isinstance(leaf, Tracer) for leaf in (key, *numbers))
        found, invalid = _run(plan, static, known, key, numbers)
        if known and any(invalid.values()):
            validity.raise_invalid(_staged(static, key, numbers), [jax.random.clone(key), *numbers], invalid)
        return found

    return estimate


def sample_block(f: Callable[..., PyTree], keys: Key[Array, " n"], args: tuple[Any, ...]) -> PyTree[Array]:
    """One sample a key, along a new leading axis of every leaf, as floats of 32 bits or more."""

    return jax.vmap(lambda key: jax.tree.map(as_float, f(key, *args)))(keys)


def _plan(num_samples: Any, until: Any, max_samples: Any, block_size: Any) -> _Plan:
    if until is None:
        limit = check_positive_int("num_samples", DEFAULT_SAMPLES if num_samples is None else num_samples)
    elif num_samples is not None:
        raise ValueError(
            f"give num_samples or until, not both, got num_samples={describe(num_samples)} and until={until}; "
            "max_samples is what bounds until"
        )
    elif not isinstance(until, StoppingRule):
        raise TypeError(f"until must be a stopping rule, StdErr(1e-3) say, got {describe(until)}")
    else:
        limit = check_positive_int("max_samples", max_samples)
    block = check_positive_int("block_size", DEFAULT_BLOCK if block_size is None else block_size)
    return _Plan(until, limit, min(block, limit))


def _staged(static: Static, key: Key[Array, ""], numbers: list[Any]) -> Program:
    def call(key: Key[Array, ""], *numbers: Any) -> PyTree:
        f, args = join(list(numbers), static)
        result = f(key, *args)
        check_result(f, result)
        return result

    return stage(call, key, *numbers)[0]


def _uncounted(f: Callable[..., PyTree], key: Key[Array, ""], *args: Any) -> tuple[PyTree, dict[int, Array]]:
    result = f(key, *args)
    check_result(f, result)
    return result, {}


class _State(NamedTuple):
    """What goes round the loop: the fold, and how often each draw met parameters out of range."""

    moments: Moments
    invalid: dict[int, Array]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _run(
    plan: _Plan, static: Static, checked: bool, key: Key[Array, ""], numbers: list[Any]
) -> tuple[Estimate, dict[int, Array]]:
    # Without the barriers a caller's own jit could fold its constants into the loop and round differently.
    key, numbers = jax.lax.optimization_barrier((key, numbers))
    f, args = join(numbers, static)
    check_arguments(f, args)
    sample = validity.counted(f) if checked else functools.partial(_uncounted, f)

    def block(index: Int[Array, ""]) -> tuple[PyTree[Array], dict[int, Array]]:
        places = (index * plan.block_size + jnp.arange(plan.block_size)).astype(jnp.uint32)
        return sample_block(sample, jax.vmap(jax.random.fold_in, (None, 0))(key, places), args)

    def add(index: Int[Array, ""], state: _State) -> _State:
        whole = plan.num_samples % plan.block_size == 0
        count = None if whole else jnp.minimum(plan.num_samples - index * plan.block_size, plan.block_size)
        rows, invalid = block(index)
        used = jnp.arange(plan.block_size) < (plan.block_size if count is None else count)
        met = {site: state.invalid[site] + jnp.sum(used * (times > 0)) for site, times in invalid.items()}
        return _State(state.moments.merge(Moments.of_rows(rows, count)), met)

    shapes, draws = jax.eval_shape(block, jnp.zeros((), int))
    empty = Moments.empty(jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), shapes))
    state = _fold(plan, add, _State(empty, {site: jnp.zeros((), int) for site in draws}))
    found = jax.lax.optimization_barrier(state.moments).read()
    degrees = float(max(plan.num_samples - 1, 1))
    found = dataclasses.replace(found, degrees=degrees) if plan.until is None else plan.until.assess(found)
    return found, state.invalid


def _fold(plan: _Plan, add: Callable[[Int[Array, ""], _State], _State], empty: _State) -> _State:
    until = plan.until
    if until is None:
        return jax.lax.fori_loop(0, plan.num_blocks, add, empty)

    def unfinished(carry: tuple[Int[Array, ""], _State]) -> Array:
        index, (moments, _) = carry
        stop = until.assess(moments.read()).converged | (moments.nonfinite > 0)
        return (index == 0) | ((index < plan.num_blocks) & ~stop)

    def go_on(carry: tuple[Int[Array, ""], _State]) -> tuple[Int[Array, ""], _State]:
        index, state = carry
        return index + 1, add(index, state)

    return jax.lax.while_loop(unfinished, go_on, (jnp.zeros((), int), empty))[1]
