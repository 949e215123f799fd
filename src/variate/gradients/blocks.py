"""The samples of a gradient, run block by block, and the estimates that their moments make."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Key

from variate import trees
from variate.estimates import Estimate, Moments
from variate.estimates.moments import Spread, is_spread
from variate.gradients import samples
from variate.gradients.orders import last
from variate.gradients.score import LeaveOneOut, Score
from variate.gradients.staged import Derivation, Request, derive, is_place
from variate.gradients.surrogate import Run, baselines, cost, run, surrogate
from variate.programs import validity

# How many samples estimate the part of a gradient that leave-one-out correlates, which only corrects a standard error.
_CORRELATED = 4


class Block(NamedTuple):
    """What a block of samples leaves; blocks are independent of each other."""

    value: Moments
    gradient: Moments  # of a list over outputs of lists over differentiated numbers
    correlation: Any  # n (n - 1) Cov(g_s, g_r) of two samples of one block, in the structure of the gradient
    invalid: dict[int, Array]


def differentiate(request: Request, static: trees.Static, key: Any, numbers: list[Any], checked: bool) -> Any:
    """The estimates of one call, and, if `checked`, how often each draw met parameters out of range."""
    derivation = derive(request, static, key, numbers)
    args = trees.join(numbers, static)[1]
    total, auxiliary, start = None, [], 0
    for size, count in _block_sizes(request.num_samples, request.block_size):
        one = functools.partial(_block, derivation, numbers, args, key, size, checked)
        if count == 1:
            block, aux = one(jnp.asarray(start))
        else:
            shapes, _ = jax.eval_shape(one, jnp.asarray(start))
            nothing = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
            step = functools.partial(_step, one)
            block, stacked = lax.scan(step, nothing, start + size * jnp.arange(count))
            aux = [x.reshape(-1, *x.shape[2:]) for x in stacked]
        total = block if total is None else _merge(total, block)
        auxiliary.append(aux)
        start += size * count
    assert total is not None
    value, gradient = _read(derivation, total)
    if request.has_aux:
        leaves = [jnp.concatenate(parts) for parts in zip(*auxiliary, strict=True)]
        value = (value, jax.tree.unflatten(jax.tree.structure(derivation.auxiliary), leaves))
    return (value, gradient), total.invalid


def _step(one: Callable, carry: Block, start: Array) -> tuple[Block, Any]:
    block, auxiliary = one(start)
    return _merge(carry, block), auxiliary


def _merge(a: Block, b: Block) -> Block:
    correlation, invalid = jax.tree.map(jnp.add, (a.correlation, a.invalid), (b.correlation, b.invalid))
    return Block(a.value.merge(b.value), a.gradient.merge(b.gradient), correlation, invalid)


def _block_sizes(total: int, block: int) -> list[tuple[int, int]]:
    """Sizes of blocks as equal as can be, with how often each occurs."""
    blocks = -(-total // block)
    small, larger = divmod(total, blocks)
    return [(size, count) for size, count in ((small + 1, larger), (small, blocks - larger)) if count]


def _block(
    derivation: Derivation,
    numbers: list[Any],
    args: Any,
    key: Key[Array, ""],
    size: int,
    checked: bool,
    start: Array,
) -> tuple[Block, list[Array]]:
    """One block, and its auxiliary outputs."""
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(start + jnp.arange(size))
    if derivation.request.stderr:
        found = sampled(derivation, numbers, args, keys)
        values, auxiliary = found.runs.outputs, found.auxiliary
        gradient = _spread(found.gradients)
        correlation = _correlation(derivation, found, size)
    else:
        values, gradients, auxiliary = _summed(derivation, numbers, args, keys)
        zeros = [jnp.zeros_like(total) for total in gradients]
        gradient = [Spread(total / size, zero, zero) for total, zero in zip(gradients, zeros, strict=True)]
        correlation = None
    count = jnp.asarray(size)
    moments = Moments(count, jnp.sum(~trees.finite_rows(values)), _spread(values))
    invalid = _invalid(derivation, keys, numbers) if checked else {}
    return Block(moments, Moments(count, jnp.zeros_like(count), gradient), correlation, invalid), auxiliary


def _run_of(derivation: Derivation, numbers: list[Any], redrawn: Array | None = None) -> Callable:
    """One run of the program, as a function of its key and of the numbers that are differentiated."""

    def once(key: Key[Array, ""], moved: Sequence[Array]) -> tuple[Run, list[Any]]:
        changed = dict(zip(derivation.moved, moved, strict=True))
        return run(derivation.plan, [key, *(changed.get(i, number) for i, number in enumerate(numbers))], redrawn)

    return once


class Sampled(NamedTuple):
    """Runs that are each other's baselines, the gradient of each, and what made it."""

    runs: Run
    gradients: list[Array]
    auxiliary: list[Array]
    pull: Callable
    cotangents: Run


def sampled(
    derivation: Derivation, numbers: list[Any], args: Any, keys: Key[Array, " n"], redrawn: Array | None = None
) -> Sampled:
    plan, moved = derivation.plan, [numbers[i] for i in derivation.moved]
    runs, auxiliary, pull = samples.each(_run_of(derivation, numbers, redrawn), keys, moved)
    cotangents = jax.vmap(functools.partial(_cotangents, plan))(runs, baselines(plan, runs, args, len(keys)))
    return Sampled(runs, _for_each_component(pull, cotangents, derivation), auxiliary, pull, cotangents)


def _surrogates(derivation: Derivation, numbers: list[Any], args: Any, keys: Key[Array, " n"]) -> Callable:
    """The surrogates of all runs, their values and auxiliary outputs, of the numbers that are differentiated."""
    plan, once = derivation.plan, _run_of(derivation, numbers)

    def totals(moved: Sequence[Array]) -> tuple[list[Array], tuple[list[Array], list[Array]]]:
        runs, auxiliary = jax.vmap(once, in_axes=(0, None))(keys, moved)
        fixed = baselines(plan, runs, args, len(keys))
        return jax.vmap(functools.partial(surrogate, plan))(runs, fixed), (runs.outputs, auxiliary)

    return totals


def _summed(
    derivation: Derivation, numbers: list[Any], args: Any, keys: Key[Array, " n"]
) -> tuple[list[Array], list[Array], list[Array]]:
    """Values of the runs, the sum of their gradients, which never exist one by one, and auxiliary outputs."""
    each = _surrogates(derivation, numbers, args, keys)

    def total(moved: Sequence[Array]) -> tuple[list[Array], tuple[list[Array], list[Array]]]:
        surrogates, others = each(moved)
        return [jnp.sum(one, axis=0) for one in surrogates], others

    sums, pull, (values, auxiliary) = jax.vjp(total, [numbers[i] for i in derivation.moved], has_aux=True)
    if len(sums) == 1 and sums[0].ndim == 0:
        (gradients,) = pull([jnp.ones_like(sums[0])])
        return values, [jnp.expand_dims(gradient, 0) for gradient in gradients], auxiliary
    return values, jax.vmap(lambda unit: pull(unit)[0])(_basis(sums)), auxiliary


def mean_surrogate(request: Request, static: trees.Static, key: Any, numbers: list[Any]) -> Any:
    """The mean over samples of what a program returns, with the derivatives of its expectation."""
    derivation = derive(request, static, key, numbers)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(request.num_samples))
    moved = [numbers[i] for i in derivation.moved]
    totals, _ = _surrogates(derivation, numbers, trees.join(numbers, static)[1], keys)(moved)
    return jax.tree.unflatten(jax.tree.structure(derivation.result), [jnp.mean(total, axis=0) for total in totals])


def _basis(outputs: list[Array]) -> list[Array]:
    """A unit for each entry of the outputs, along a leading axis."""
    sizes = [output.size for output in outputs]
    rows = jnp.split(jnp.eye(sum(sizes)), [sum(sizes[:i]) for i in range(1, len(sizes))], axis=1)
    return [row.reshape(-1, *output.shape).astype(output.dtype) for row, output in zip(rows, outputs, strict=True)]


def _cotangents(plan: Any, one: Run, fixed: Any) -> Run:
    """The cotangents of all that a run left, with a leading axis over the outputs' entries."""
    _, pull = jax.vjp(lambda run: surrogate(plan, run, fixed), one)
    if len(one.outputs) == 1 and one.outputs[0].ndim == 0:
        return jax.tree.map(lambda x: jnp.expand_dims(x, 0), pull([jnp.ones_like(one.outputs[0])])[0])
    return jax.vmap(lambda unit: pull(unit)[0])(_basis(one.outputs))


def _for_each_component(pull: Callable, cotangents: Run, derivation: Derivation, *options: Any) -> list[Array]:
    """Gradients [samples, entries of the outputs, *number] of each differentiated number."""
    if sum(_size(leaf) for leaf in jax.tree.leaves(derivation.result)) == 1:
        gradients = pull(jax.tree.map(lambda x: jnp.squeeze(x, 1), cotangents), *options)
        return [jnp.expand_dims(gradient, 1) for gradient in gradients]
    return jax.vmap(lambda cotangent: pull(cotangent, *options), in_axes=1, out_axes=1)(cotangents)


def _size(leaf: Any) -> int:
    return functools.reduce(lambda a, b: a * b, leaf.shape, 1)


def _spread(samples: list[Array]) -> list[Spread]:
    """Of whole blocks, in which every row counts once: what `Moments.of_rows` gives, with fewer passes."""

    def spread(rows: Array) -> Spread:
        mean = jnp.mean(rows, axis=0, keepdims=True)
        return Spread(mean[0], jnp.zeros_like(mean[0]), jnp.sum((rows - mean) ** 2, axis=0))

    return [spread(rows) for rows in samples]


def _correlation(derivation: Derivation, found: Sampled, size: int) -> list[Array]:
    r"""$n (n - 1)\,\mathrm{Cov}(g_s, g_r)$ within a block of $n$ samples that are each other's baselines.

    With leave-one-out two samples share a cost each in the other's baseline, so that their covariance is
    $E[h_{sr} h_{rs}] / (n - 1)^2$, where $h_{sr}$ is the scores of $s$ weighted with the costs of $r$. Where all draws
    are charged alike, that is the squared part of the gradient that the scores contribute; estimated free of bias from
    that part alone, then held above zero.
    """
    plan = derivation.plan
    linked = [g for g in plan.groups if isinstance(g.rule, Score) and isinstance(g.rule.baseline, LeaveOneOut)]
    gradients = found.gradients
    if not linked or size < 2:
        return [jnp.zeros_like(gradient[0]) for gradient in gradients]
    sites = {site for group in linked for site in group.sites}
    if plan.credits:
        exchanged = _from_scores(derivation, found, _exchanged(derivation, found.runs, size), sites)
        return [jnp.mean(rows[::2] * rows[1::2], axis=0) * (size / (size - 1)) for rows in exchanged]
    if derivation.direct or len(linked) < len(plan.groups):
        cotangents = jax.tree.map(lambda x: x[: min(size, _CORRELATED)], found.cotangents)
        gradients = _from_scores(derivation, found, cotangents, sites)
    count = gradients[0].shape[0]

    def squared(rows: Array) -> Array:
        return jnp.maximum(jnp.mean(rows, axis=0) ** 2 - jnp.var(rows, axis=0, ddof=1) / count, 0)

    return [squared(rows) * (size / (size - 1)) for rows in gradients]


def _exchanged(derivation: Derivation, runs: Run, size: int) -> Run:
    """Cotangents of the first samples, two by two, each charged with the costs of the other; centred by the rest."""
    plan = derivation.plan
    count = min(size, _CORRELATED) // 2 * 2
    partner = jnp.arange(count) ^ 1
    first = jax.tree.map(lambda x: x[:count], runs)
    theirs = jax.tree.map(lambda x: x[partner], (first.terms, first.entries))
    centres: list[list[Array] | None] = []
    for group in plan.groups:
        costs = jax.vmap(lambda run, g=group: cost(plan, run, g))(runs)
        others = [jnp.sum(c, axis=0, keepdims=True) - c[:count] - c[partner] for c in costs]
        centres.append([total / (size - 2) if size > 2 else jnp.zeros_like(total) for total in others])
    swapped = first._replace(terms=theirs[0], entries=theirs[1])
    return jax.vmap(functools.partial(_cotangents, plan))(swapped, lax.stop_gradient(centres))


def _from_scores(derivation: Derivation, found: Sampled, cotangents: Run, sites: set[int]) -> list[Array]:
    """The part of the gradients of the first samples that comes from the scores of these draws."""
    none = jax.tree.map(jnp.zeros_like, cotangents)
    scores = {i: x if i in sites else none.log_probs[i] for i, x in cotangents.log_probs.items()}
    count = jax.tree.leaves(cotangents)[0].shape[0]
    return _for_each_component(found.pull, none._replace(log_probs=scores), derivation, count)


def _invalid(derivation: Derivation, keys: Array, numbers: list[Any]) -> dict[int, Array]:
    program = derivation.plan.program
    _, counts = jax.vmap(lambda key: validity.invalid_draws(program, [key, *numbers]))(jax.random.clone(keys))
    return jax.tree.map(jnp.sum, counts)


def _read(derivation: Derivation, total: Block) -> tuple[Estimate, Estimate]:
    """The estimates of the value and of the gradient, in the structures that the user knows."""
    request, found = derivation.request, total.value.read()
    values = jax.tree.unflatten(jax.tree.structure(derivation.result), found.value)
    n = request.num_samples
    means = [s.center + s.mean for s in jax.tree.leaves(total.gradient.spread, is_leaf=is_spread)]
    known = request.stderr and n > 1
    finite = (total.value.nonfinite == 0) & trees.all_finite(means)
    errors, gradient_errors = None, None
    if known:
        errors = jax.tree.unflatten(jax.tree.structure(derivation.result), jax.tree.leaves(found.stderr))
        spreads = jax.tree.leaves(total.gradient.spread, is_leaf=is_spread)
        each = [_standard_error(spread, linked, n) for spread, linked in zip(spreads, total.correlation, strict=True)]
        gradient_errors = _arrange(derivation, lax.stop_gradient(each))
    counts: dict[str, Any] = {"num_samples": n, "nonfinite": total.value.nonfinite, "degrees": n - 1 if known else None}
    means = last(means) if request.order == 1 else means
    gradient = _arrange(derivation, means)
    return (
        Estimate(values, errors, converged=found.converged, **counts),
        Estimate(gradient, gradient_errors, converged=finite, biased=derivation.choice.biased, **counts),
    )


def _standard_error(spread: Spread, linked: Array, n: int) -> Array:
    """Of a mean of n samples; `linked` may be estimated as less than it is, and nothing is surer than its rounding."""
    squares = jnp.maximum(spread.squares + linked, spread.squares / 2)
    rounding = jnp.finfo(squares.dtype).eps * jnp.abs(spread.center + spread.mean)
    return jnp.hypot(jnp.sqrt(squares / (float(n) * (n - 1))), rounding)


def _arrange(derivation: Derivation, entries: list[Array]) -> Any:
    """Gradients [entries of the outputs, *number] of each number, as a tree of results of trees of arguments."""
    shapes = jax.tree.leaves(derivation.result)
    ends = [sum(_size(shape) for shape in shapes[: i + 1]) for i in range(len(shapes))]
    places = {number: n for n, number in enumerate(derivation.moved)}

    def tree(shape: Any, end: int) -> Any:
        own = [lax.slice_in_dim(entry, end - _size(shape), end) if len(ends) > 1 else entry for entry in entries]
        parts = [entry.reshape(*shape.shape, *entry.shape[1:]) for entry in own]
        found = [
            jax.tree.map(
                lambda leaf: parts[places[leaf]] if is_place(leaf) else None, derivation.arguments[position - 1]
            )
            for position in derivation.request.positions
        ]
        return found[0] if derivation.request.single else tuple(found)

    trees_of_results = [tree(shape, end) for shape, end in zip(shapes, ends, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(derivation.result), trees_of_results)
