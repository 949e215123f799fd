"""Multi-fidelity Monte Carlo: a few runs of the program, many of cheaper ones whose results go up and down with it."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key, PyTree

from variate import checks
from variate.estimates.estimate import Estimate
from variate.estimates.moments import Moments
from variate.estimates.sampling import Invalid
from variate.programs import validity
from variate.programs.generator import run_keys
from variate.trees import Static, as_float, join, split

from .allocation import FEWEST, Pilot, Plan, afforded, plans, segments
from .base import flat, folded, operations_in, read, refuse, shapes

_SPARE = 1.2  # of the runs that the variances of the pilot ask for, since these are known to some tenth


class Multifidelity(Estimate):
    """An estimate, and what its programs were: arrays with an axis of programs, the one that is asked for first."""

    correlations: Float[Array, " programs"] | None = None  # with the first, of the number whose variance is largest
    costs: Float[Array, " programs"] | None = None  # of a run
    runs: Int[Array, " programs"] | None = None  # beside those of the pilot; 0 of a program that does not pay


def multifidelity(
    f: Callable[..., PyTree],
    *cheaper: Callable[..., PyTree],
    rmse: float | None = None,
    budget: float | int | None = None,
    costs: Sequence[float | int] | None = None,
    pilot: int = 200,
    block_size: int = 256,
) -> Callable[..., Multifidelity]:
    r"""An expectation by a few runs and many of cheaper programs: a function `(key, *args)` returning its `Estimate`.

    `f(key, *args)` is what is asked for; each of the others is called with the same key, and should do something like
    it with the same draws: on a coarser grid, in fewer steps, by a fit. They need not be near, but only go up and down
    together, for

    $$\hat\mu = \overline{f}_{m_1} + \sum_{i \ge 2} \alpha_i (\overline{f_i}_{m_i} - \overline{f_i}_{m_{i-1}}), \qquad
      m_1 < m_2 < \dots,$$

    with means over the first $m_i$ of the same runs, has the mean of $f$ whatever the others have. A pilot finds how
    they correlate, $\rho_i$, and from it $\alpha_i = \rho_i \sigma_1 / \sigma_i$ and, sorted by it, the numbers that
    cost least for an error, $m_i / m_1 = \sqrt{w_1 (\rho_i^2 - \rho_{i+1}^2) / (w_i (1 - \rho_2^2))}$; programs that
    do not pay, or would need fewer runs than those before them, are left out. The runs of the estimate are others than
    the pilot's, so it has no bias, and its error bar is of their own spread, however wrong the pilot.

    The wrong choice where the cheaper programs approach the right one in a sequence that could go on (`multilevel`),
    and where f is so dear that a pilot cannot be afforded.

    Args:
        cheaper: the other programs, in any order.
        rmse: the standard error to be reached, of every number of the result. Either this,
        budget: or the cost of all runs, the pilot's among them, in the unit of `costs`.
        costs: of a run of each program, that of f first; by default the operations that they stage.
        pilot: runs of all programs.
        block_size: runs at a time.

    Raises:
        TypeError: results are no real numbers.
        ValueError: programs differ in the shapes of their results, costs are not one for each program, not one of
            `rmse` and `budget` is given, the budget does not suffice, or a distribution's parameters are out of range.

    Source: Peherstorfer, Willcox and Gunzburger (2016), Optimal model management for multifidelity Monte Carlo
    estimation, SIAM J. Sci. Comput. 38(5), A3163-A3194: theorem 3.4 and algorithm 1.
    """
    programs = (f, *cheaper)
    for name, program in zip(("f", *["cheaper"] * len(cheaper)), programs, strict=True):
        checks.check_callable(name, program)
    if (rmse is None) == (budget is None):
        raise ValueError(f"give rmse or budget, one of the two, got rmse={rmse} and budget={budget}")
    asked = checks.check_positive("rmse" if budget is None else "budget", rmse if budget is None else budget)
    given = None if costs is None else checks.check_column("costs", list(costs), len(programs))
    checks.check_at_least("pilot", pilot, FEWEST)
    checks.check_positive_int("block_size", block_size)

    @functools.wraps(f, updated=())
    def estimate(key: Any = None, *args: Any) -> Multifidelity:
        checks.check_key(key)
        numbers, static = split((programs, args))
        checks.check_hashable(static.leaves)
        learning, using = jax.random.split(key)
        tried, met = _tried(static, pilot, block_size, learning, numbers)
        refuse(_together(programs, tuple(range(len(programs)))), jax.random.clone(learning), args, met)
        of_run = np.asarray(_operations(static, jax.random.clone(key), numbers)) if given is None else given
        rows = np.asarray(tried, float)
        known = Pilot.of(rows, of_run)
        plan = min(plans(known), key=lambda plan: plan.variance(known) * plan.cost(known))

        left = None if budget is None else asked - pilot * float(np.sum(of_run))
        counts = plan.counts(_SPARE * plan.variance(known) / asked**2) if left is None else afforded(plan, known, left)
        parts = []
        for weights, size, first in segments(plan, counts, known):
            order, start = plan.order[first:], jax.random.fold_in(jax.random.clone(using), first)
            fold, met = _runs(static, order, block_size, start, numbers, weights, jnp.asarray(size))
            refuse(_together(programs, order), jax.random.clone(start), args, met)
            parts.append(read(fold))
        return _read(_summed(parts), plan, counts, known, rows, asked if budget is None else np.inf)

    return estimate


def _summed(parts: list[Estimate]) -> Estimate:
    """Of independent means; degrees of freedom are those of Welch and Satterthwaite, the fewest of any number."""
    errors = np.stack([flat(part.stderr) for part in parts])
    sizes = np.array([int(part.num_samples) for part in parts])
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = np.sum(errors**2, axis=0) ** 2 / np.sum(errors**4 / (sizes[:, None] - 1), axis=0)
    return Estimate(
        jax.tree.map(lambda *leaves: sum(leaves), *[part.value for part in parts]),
        jax.tree.map(lambda *leaves: jnp.sqrt(sum(leaf**2 for leaf in leaves)), *[part.stderr for part in parts]),
        sizes.sum(),
        all(bool(part.converged) for part in parts),
        sum(int(part.nonfinite) for part in parts),
        degrees=float(np.min(np.nan_to_num(degrees, nan=float(sizes[0] - 1)))),
    )


def _read(
    found: Estimate,
    plan: Plan,
    counts: Int[np.ndarray, " used"],
    pilot: Pilot,
    tried: Float[np.ndarray, "n programs m"],
    rmse: float,
) -> Multifidelity:
    runs = np.zeros(len(pilot.costs), int)
    runs[list(plan.order)] = counts
    nonfinite = int(found.nonfinite) + int(np.sum(~np.isfinite(tried[:, 0]).all(axis=1)))
    near = float(np.max(flat(found.stderr))) <= rmse
    worst = int(np.argmax(pilot.variances))
    signs = np.sign(pilot.slopes[:, worst])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = plan.variance(pilot) * plan.cost(pilot) / (pilot.variances[worst] * pilot.costs[0])
    return Multifidelity(
        found.value,
        found.stderr,
        len(tried) * len(runs) + int(runs.sum()),
        near and bool(found.converged) and nonfinite == 0,
        nonfinite,
        found.degrees,
        method=f"Multifidelity of {len(counts)} programs",
        variance_ratio=jnp.asarray(ratio),  # at the same cost
        correlations=jnp.asarray(signs * np.sqrt(pilot.squares[:, worst])),
        costs=jnp.asarray(pilot.costs),
        runs=jnp.asarray(runs),
    )


def _together(programs: tuple[Callable[..., PyTree], ...], which: tuple[int, ...]) -> Callable[..., tuple[PyTree, ...]]:
    """Some of the programs, on the same draws."""

    @functools.wraps(programs[which[0]], updated=())
    def run(key: Key[Array, ""], *args: Any) -> tuple[PyTree, ...]:
        return tuple(programs[i](jax.random.clone(key), *args) for i in which)

    return run


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _tried(
    static: Static, count: int, block: int, key: Key[Array, ""], numbers: list[Any]
) -> tuple[Float[Array, "n programs m"], Invalid]:
    programs, args = join(numbers, static)

    def row(key: Key[Array, ""]) -> tuple[Float[Array, "programs m"], Invalid]:
        results, invalid = validity.counted(_together(programs, tuple(range(len(programs)))))(key, *args)
        results = jax.tree.map(as_float, results)
        for other in results[1:]:
            if shapes(other) != shapes(results[0]):
                raise ValueError(
                    f"cheaper programs must return the shapes of f, got {shapes(other)} and {shapes(results[0])}"
                )
        return jnp.stack([ravel_pytree(each)[0].astype(float) for each in results]), invalid

    rows, invalid = jax.lax.map(row, run_keys(key, jnp.arange(count)), batch_size=min(block, count))
    return rows, jax.tree.map(lambda times: jnp.sum(times > 0), invalid)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _runs(
    static: Static,
    which: tuple[int, ...],
    block: int,
    key: Key[Array, ""],
    numbers: list[Any],
    weights: Float[Array, "running m"],
    count: Int[Array, ""],
) -> tuple[Moments, Invalid]:
    programs, args = join(numbers, static)

    def row(key: Key[Array, ""]) -> tuple[PyTree[Array], Invalid]:
        results, invalid = validity.counted(_together(programs, which))(key, *args)
        results = jax.tree.map(as_float, results)
        back = ravel_pytree(results[0])[1]
        weighted = [jax.tree.map(jnp.multiply, back(w), each) for w, each in zip(weights, results, strict=True)]
        return jax.tree.map(lambda *leaves: sum(leaves), *weighted), invalid

    return folded(row, key, count, block)


@functools.partial(jax.jit, static_argnums=0)
def _operations(static: Static, key: Key[Array, ""], numbers: list[Any]) -> Float[Array, " programs"]:
    programs, args = join(numbers, static)
    staged = [jax.make_jaxpr(lambda key, run=run: run(key, *args))(jax.random.clone(key)) for run in programs]
    return jnp.asarray([operations_in(each.jaxpr) for each in staged])
