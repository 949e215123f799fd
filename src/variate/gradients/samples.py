"""Many runs at once, and the gradient of each."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from variate.gradients.rules.covariance import Covariance
from variate.gradients.staged import Derivation
from variate.gradients.surrogate import Run, baselines, run, surrogate


def each(
    function: Callable, keys: Key[Array, " samples"], moved: Sequence[Array]
) -> tuple[Any, Any, Callable[..., Any]]:
    """Runs of `function(key, moved) -> (result, auxiliary)` over keys, and a pull-back to one gradient a sample.

    The pull-back takes cotangents and, after them, the number of samples (the first ones) to pull back.
    """
    kept: dict[str, Any] = {}

    def forward(key: Key[Array, ""]) -> tuple[Any, Any, list[Array]]:
        result, pull, auxiliary = jax.vjp(lambda moved: function(key, moved), moved, has_aux=True)
        leaves, kept["tree"] = jax.tree.flatten(pull)
        # Residuals that are the same for every sample, weights above all, stay outside of `vmap`: returned through it
        # they would be copied for each sample. What varies is traced by the `vmap` that traces the key.
        kept["varies"] = [isinstance(leaf, type(key)) for leaf in leaves]
        kept["same"] = [leaf for leaf, varies in zip(leaves, kept["varies"], strict=True) if not varies]
        return result, auxiliary, [leaf for leaf, varies in zip(leaves, kept["varies"], strict=True) if varies]

    results, auxiliary, residuals = jax.vmap(forward)(keys)

    def pull(cotangents: Any, samples: int | None = None) -> Any:
        def one(residuals: list[Array], cotangent: Any) -> Any:
            own, same = iter(residuals), iter(kept["same"])
            leaves = [next(own) if varies else next(same) for varies in kept["varies"]]
            (gradient,) = jax.tree.unflatten(kept["tree"], leaves)(cotangent)
            return gradient

        first = jax.tree.map(lambda x: x[:samples], (residuals, cotangents)) if samples else (residuals, cotangents)
        return jax.vmap(one)(*first)

    return results, auxiliary, pull


def run_of(derivation: Derivation, numbers: list[Any], redrawn: Array | None = None) -> Callable:
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
    linked: list[Array]  # n (n - 1) times what an optimal baseline adds to the covariance of two samples


def sampled(
    derivation: Derivation, numbers: list[Any], args: Any, keys: Key[Array, " n"], redrawn: Array | None = None
) -> Sampled:
    plan, moved = derivation.plan, [numbers[i] for i in derivation.moved]
    runs, auxiliary, pull = each(run_of(derivation, numbers, redrawn), keys, moved)
    cotangents = jax.vmap(functools.partial(cotangents_of, plan))(runs, baselines(plan, runs, args))
    gradients = for_each_component(pull, cotangents, derivation)
    found = Sampled(runs, gradients, auxiliary, pull, cotangents, [jnp.zeros_like(g[0]) for g in gradients])
    for group in plan.optimal:
        found = _with_optimal(derivation, found, set(group.sites))
    for group in plan.groups:
        if isinstance(group.rule, Covariance) and derivation.request.stderr:
            found = _centred(derivation, found, group.sites)
    return found


def from_scores(derivation: Derivation, found: Sampled, cotangents: Run, draws: set[int], count: int) -> list[Array]:
    """The part of the gradients of the first samples that comes from the scores of these draws."""
    none = jax.tree.map(jnp.zeros_like, cotangents)
    scores = {i: x if i in draws else none.log_probs[i] for i, x in cotangents.log_probs.items()}
    return for_each_component(found.pull, none._replace(log_probs=scores), derivation, count)


def _scores(derivation: Derivation, found: Sampled, draws: set[int]) -> tuple[int, list[Array]]:
    """How many samples there are, and the derivatives of the log probabilities of these draws in each."""
    count = len(found.runs.outputs[0])
    return count, from_scores(derivation, found, jax.tree.map(jnp.ones_like, found.cotangents), draws, count)


def _with_optimal(derivation: Derivation, found: Sampled, draws: set[int]) -> Sampled:
    r"""Gradients less $b_i h_i$, where $b_i$ regresses the scored part on the score $h_i$ over the other samples."""
    count, scores = _scores(derivation, found, draws)
    parts = from_scores(derivation, found, found.cotangents, draws, count)
    gradients, linked = [], []
    for gradient, part, score, before in zip(found.gradients, parts, scores, found.linked, strict=True):
        products, squares = part * score, score**2
        rest = jnp.sum(squares, axis=0, keepdims=True) - squares
        others = jnp.sum(products, axis=0, keepdims=True) - products
        ratio = jnp.where(rest > 0, others / jnp.where(rest > 0, rest, 1), 0)
        gradients.append(gradient - ratio * score)
        # Each sample is in the ratio of every other: what that makes them vary together.
        mean = jnp.mean(squares, axis=0)
        shared = jnp.mean((part - ratio * score) * squares, axis=0) / jnp.where(mean > 0, mean, 1)
        linked.append(before + shared**2 * (count / (count - 1)))
    return found._replace(gradients=gradients, linked=linked)


def _centred(derivation: Derivation, found: Sampled, draws: tuple[int, ...]) -> Sampled:
    """The same gradients in sum, each with its score less the mean of all: what a constant adds is not their noise."""
    count, scores = _scores(derivation, found, set(draws))
    advantages = found.cotangents.log_probs[draws[0]].reshape(count, -1)
    gradients = []
    for gradient, score in zip(found.gradients, scores, strict=True):
        mean = jnp.mean(score, axis=0, keepdims=True)
        rows = gradient - advantages.reshape(*advantages.shape, *(1,) * (gradient.ndim - 2)) * mean
        center = jnp.mean(rows, axis=0, keepdims=True)
        # The mean score was made of the same samples, which takes a degree of freedom.
        gradients.append(center + (rows - center) * math.sqrt(count / (count - 1)))
    return found._replace(gradients=gradients)


def cotangents_of(plan: Any, one: Run, fixed: Any) -> Run:
    """The cotangents of all that a run left, with a leading axis over the outputs' entries."""
    _, pull = jax.vjp(lambda run: surrogate(plan, run, fixed), one)
    if len(one.outputs) == 1 and one.outputs[0].ndim == 0:
        return jax.tree.map(lambda x: jnp.expand_dims(x, 0), pull([jnp.ones_like(one.outputs[0])])[0])
    return jax.vmap(lambda unit: pull(unit)[0])(basis(one.outputs))


def for_each_component(pull: Callable, cotangents: Run, derivation: Derivation, *options: Any) -> list[Array]:
    """Gradients [samples, entries of the outputs, *number] of each differentiated number."""
    if sum(size_of(leaf) for leaf in jax.tree.leaves(derivation.result)) == 1:
        gradients = pull(jax.tree.map(lambda x: jnp.squeeze(x, 1), cotangents), *options)
        return [jnp.expand_dims(gradient, 1) for gradient in gradients]
    return jax.vmap(lambda cotangent: pull(cotangent, *options), in_axes=1, out_axes=1)(cotangents)


def basis(outputs: list[Array]) -> list[Array]:
    """A unit for each entry of the outputs, along a leading axis."""
    sizes = [output.size for output in outputs]
    rows = jnp.split(jnp.eye(sum(sizes)), [sum(sizes[:i]) for i in range(1, len(sizes))], axis=1)
    return [row.reshape(-1, *output.shape).astype(output.dtype) for row, output in zip(rows, outputs, strict=True)]


def size_of(leaf: Any) -> int:
    return functools.reduce(lambda a, b: a * b, leaf.shape, 1)
