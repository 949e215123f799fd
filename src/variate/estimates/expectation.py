"""Expectations of programs: samples by a method, folded into an estimate, and what has to be said of it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from variate.checks import (
    check_callable,
    check_hashable,
    check_positive_int,
    describe,
)
from variate.trees import split

from . import control_variates
from .base import Best, Methods, check_methods
from .choice import PILOT, Choice, choose
from .estimate import Estimate
from .intervals import Interval
from .jackknife import Jackknife
from .plan import Plan
from .rules import parts
from .sampling import opened, raise_if_invalid
from .stopping import StoppingRule, Within, is_tolerance, unresolved
from .tasks import Job, Task, TaskRunner, run_at_once
from .weights import judged

DEFAULT_SAMPLES = 1_024
DEFAULT_BLOCK = 256
_PILOT = 2**32 - 2  # of the keys of runs, which are numbered from 0, none is this


def expect(
    f: Callable[..., PyTree],
    *,
    method: Any = None,
    function: Callable[[PyTree], PyTree] | None = None,
    interval: Interval | None = None,
    num_samples: int | None = None,
    until: StoppingRule | None = None,
    max_samples: int = 10_000_000,
    block_size: int | None = None,
    runner: Any = None,
) -> Callable[..., Estimate]:
    r"""The expectation of a random program: a function `(key, *args)` returning the `Estimate` of $E[f(key, *args)]$.

    `f(key, *args)` returns any pytree of real arrays; integers and booleans are averaged as floats. Sample i has the
    key `jax.random.fold_in(key, i)`, so the same key gives the same samples whatever the block size, and bit for bit
    the same answer for a given one. Runs compiled, and works under `jit`, `vmap` and `scan`; arguments are traced as by
    `jax.jit`, save that booleans and objects that are no numbers stay as they are.

    - `method`: how to need fewer samples: one of this room's methods, or several of different kinds in a tuple, a
      design (`Sobol()`), controls (`Scores()`) and a weighting (`Importance(...)`). `Best()` picks by a pilot, and so
      does a tolerance (`until=StdErr(...)`) where no method is named; `()` is independent samples. Under a caller's
      `jit` there is no pilot, and samples are independent unless a method is named.
    - `function`: a smooth function g of the expectations, of which $g(E f)$ is estimated (`FunctionOfMeans`):
      `lambda m: m["a"] / m["b"]` is a ratio, by the delta method, or, in `Jackknife(...)`, by leaving draws out.
    - `interval`: bounds that every number of the results is between, and what to make of them, `Betting(0, 1)` say.
      The interval then holds for any number of samples, and `until=Within(...)` stops at it.
    - `num_samples`: how many samples; 1,024 when neither this nor `until` is given. The interval is then Student's.
    - `until`: a stopping rule, `StdErr(1e-3)` say, asked after every block.
    - `max_samples`: where `until` gives up and returns what it has, with `converged=False`.
    - `block_size`: samples run at once, 256 by default. Memory is that of one block, `block_size` times what `f` needs.
      Larger is faster for a small `f`; take a smaller one where a single run is already a large array program.
    - `runner`: who does it where that takes long. `vt.running.Runner(...)` shows progress, keeps checkpoints, ends
      after so many seconds, and shares the work between processes or machines.

    A sample that is not finite is counted, makes `converged` false, and ends sampling with `until`, since no
    later draw can mend the mean. For the derivative of an expectation use `grad`; differentiating through this loop
    ignores how the draws depend on the parameters.

    Raises `TypeError` for a key that is not typed, an `f` that does not take `(key, *args)` and results that are not
    real numbers; `ValueError` for a distribution's parameters out of range (under a caller's `jit` they show as
    non-finite numbers, if at all), a batch of keys, counts that are not positive, `num_samples` beside `until`, a
    method that has nothing to work on in this program, and a stated mean of a control that cannot be.
    """
    check_callable("f", f)
    plan = _plan(num_samples, until, max_samples, block_size)
    if runner is not None and (isinstance(runner, type) or not isinstance(runner, TaskRunner)):
        raise TypeError(f"runner must be a runner, vt.running.Runner() say, got {describe(runner)}")
    if interval is not None:
        if not isinstance(interval, Interval):
            raise TypeError(f"interval must be an interval from bounds, Betting(0, 1) say, got {describe(interval)}")
        others = [rule for rule in parts(until) if not isinstance(rule, Within)]
        if until is not None and others:
            raise ValueError(f"until: an interval from bounds ends by Within(...), got {type(others[0]).__name__}")
        plan = plan._replace(interval=interval)
    elif any(isinstance(rule, Within) for rule in parts(until)):
        raise ValueError("until: Within(...) needs an interval that rests on bounds: expect(..., interval=...)")
    if function is not None:
        if not callable(function):
            raise TypeError(f"function must be a function of the expectations, got {describe(function)}")
        if isinstance(function, Jackknife) and until is not None:
            raise ValueError(
                "function: a Jackknife goes with num_samples, for its error bar gets no surer by more draws"
            )
        plan = plan._replace(function=function)
    # A tolerance is worth a pilot; a number of samples is taken at its word unless the best method is asked for.
    asked = isinstance(method, Best)
    methods = Methods() if asked else check_methods(method)
    choosing = (asked or (method is None and is_tolerance(until))) and plan.num_samples >= 4 * PILOT
    check_hashable(split(methods)[1].leaves)

    @functools.wraps(f, updated=())
    def estimate(key: Any = None, *args: Any) -> Estimate:
        call = opened(f, key, args)
        numbers, static, known = call
        choice = Choice(methods, None)
        if choosing and known:
            choice = choose(static, jax.random.fold_in(jax.random.clone(key), _PILOT), numbers, plan)
        given, kinds = split(choice.methods)
        job = Job(plan, static, kinds, known)
        if runner is None:
            found, invalid, off, watch = run_at_once(job, key, numbers, given)
        elif known:
            found, invalid, off, watch = runner.run(Task(job, key, numbers, given))
        else:
            raise TypeError("runner: runs are handed out where numbers are known, not under jit, vmap or scan")
        if known and bool(off.size) and float(jnp.max(off)) > 1:
            control_variates.raise_wrong_mean(off)
        raise_if_invalid(call, key, invalid)
        if known and found.ends is not None and int(found.ends.outside):
            raise ValueError(
                f"interval: {int(found.ends.outside)} of {int(found.num_samples)} results were not {interval.possible}"  # pyright: ignore[reportOptionalMemberAccess]
            )
        if known and found.ended is None:
            found = dataclasses.replace(found, ended=unresolved(plan.until, found))
        ratio = None if choice.ratio is None else jnp.asarray(choice.ratio)
        found = judged(found, watch)
        return dataclasses.replace(found, method=choice.methods.name, variance_ratio=ratio)

    return estimate


def _plan(num_samples: Any, until: Any, max_samples: Any, block_size: Any) -> Plan:
    if until is None:
        limit = check_positive_int("num_samples", DEFAULT_SAMPLES if num_samples is None else num_samples)
    elif num_samples is not None:
        raise ValueError(
            f"give num_samples or until, not both, got num_samples={describe(num_samples)} and until={until}; "
            "max_samples is what bounds until"
        )
    else:
        for rule in parts(until):
            if isinstance(rule, type) or not isinstance(rule, StoppingRule):
                raise TypeError(f"until must be a stopping rule, StdErr(1e-3) say, got {describe(rule)}")
        limit = check_positive_int("max_samples", max_samples)
    block = check_positive_int("block_size", DEFAULT_BLOCK if block_size is None else block_size)
    return Plan(until, limit, min(block, limit))
