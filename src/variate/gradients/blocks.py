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
from variate.estimates.moments import Spread, is_spread, length
from variate.gradients.correlation import correlation_of
from variate.gradients.orders import last
from variate.gradients.samples import basis, run_of, sampled, size_of
from variate.gradients.staged import Derivation, Request, derive, is_place
from variate.gradients.surrogate import baselines, surrogate
from variate.programs import validity
from variate.programs.generator import run_keys


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
    keys = run_keys(key, start + jnp.arange(size))
    if derivation.request.stderr or derivation.plan.optimal:
        found = sampled(derivation, numbers, args, keys)
        values, auxiliary = found.runs.outputs, found.auxiliary
        gradient = _spread(found.gradients)
        correlation = jax.tree.map(jnp.add, correlation_of(derivation, found, size), found.linked)
    else:
        values, gradients, auxiliary = _summed(derivation, numbers, args, keys)
        zeros = [jnp.zeros_like(total) for total in gradients]
        gradient = [Spread(total / size, zero, zero) for total, zero in zip(gradients, zeros, strict=True)]
        correlation = None
    count = jnp.asarray(size)
    moments = Moments(count, jnp.sum(~trees.finite_rows(values)), _spread(values))
    invalid = _invalid(derivation, keys, numbers) if checked else {}
    return Block(moments, Moments(count, jnp.zeros_like(count), gradient), correlation, invalid), auxiliary


def _surrogates(derivation: Derivation, numbers: list[Any], args: Any, keys: Key[Array, " n"]) -> Callable:
    """The surrogates of all runs, their values and auxiliary outputs, of the numbers that are differentiated."""
    plan, once = derivation.plan, run_of(derivation, numbers)

    def totals(moved: Sequence[Array]) -> tuple[list[Array], tuple[list[Array], list[Array]]]:
        runs, auxiliary = jax.vmap(once, in_axes=(0, None))(keys, moved)
        fixed = baselines(plan, runs, args)
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
    return values, jax.vmap(lambda unit: pull(unit)[0])(basis(sums)), auxiliary


def mean_surrogate(request: Request, static: trees.Static, key: Any, numbers: list[Any]) -> Any:
    """The mean over samples of what a program returns, with the derivatives of its expectation."""
    derivation = derive(request, static, key, numbers)
    keys = run_keys(key, jnp.arange(request.num_samples))
    moved = [numbers[i] for i in derivation.moved]
    totals, _ = _surrogates(derivation, numbers, trees.join(numbers, static)[1], keys)(moved)
    return jax.tree.unflatten(jax.tree.structure(derivation.result), [jnp.mean(total, axis=0) for total in totals])


def _spread(samples: list[Array]) -> list[Spread]:
    """Of whole blocks, in which every row counts once: what `Moments.of_rows` gives, with fewer passes."""

    def spread(rows: Array) -> Spread:
        mean = jnp.mean(rows, axis=0, keepdims=True)
        return Spread(mean[0], jnp.zeros_like(mean[0]), length(rows - mean))

    return [spread(rows) for rows in samples]


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
        Estimate(values, errors, converged=found.converged, biased=derivation.choice.value_biased, **counts),
        Estimate(gradient, gradient_errors, converged=finite, biased=derivation.choice.biased, **counts),
    )


def _standard_error(spread: Spread, linked: Array, n: int) -> Array:
    """Of a mean of n samples; `linked` may be estimated as less than it is, and nothing is surer than its rounding."""
    squares = jnp.maximum(spread.root**2 + linked, spread.root**2 / 2)
    rounding = jnp.finfo(squares.dtype).eps * jnp.abs(spread.center + spread.mean)
    return jnp.hypot(jnp.sqrt(squares / (float(n) * (n - 1))), rounding)


def _arrange(derivation: Derivation, entries: list[Array]) -> Any:
    """Gradients [entries of the outputs, *number] of each number, as a tree of results of trees of arguments."""
    shapes = jax.tree.leaves(derivation.result)
    ends = [sum(size_of(shape) for shape in shapes[: i + 1]) for i in range(len(shapes))]
    places = {number: n for n, number in enumerate(derivation.moved)}

    def tree(shape: Any, end: int) -> Any:
        own = [lax.slice_in_dim(entry, end - size_of(shape), end) if len(ends) > 1 else entry for entry in entries]
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
