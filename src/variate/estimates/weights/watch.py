"""Whether an error bar means anything: tails of what is averaged, and the mean of weights, watched as runs go by."""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from variate.compiling import sooner
from variate.estimates.controlled import Controlled
from variate.estimates.estimate import Estimate
from variate.estimates.moments import Moments

from .pareto import CONVERGES, INFINITE, surely_infinite, tail_index, tail_length, weight_tail_index
from .self_normalized import Weighted

_SLOTS = 4_096
_FEWEST = 1_000  # runs, of which fewer show no tail
_FEWEST_WEIGHTED = 100  # of weighted runs, whose tails are heavy where proposals are wrong
_NUMBERS = 8  # of a result, of which more are not watched
_OFF = 8  # standard errors of the mean weight: weights are skewed, so that their mean becomes normal late
_TAME = 0.3  # tail index of the weights below which their mean is believed


class Watch(eqx.Module):
    r"""The largest numbers that went by, as a fold: slot i keeps the largest of the runs i, i + s, i + 2s, ...

    An eighth of the slots at most makes a tail, so that few of the largest shared a slot. Watched are the distances of
    the results, times their weights, from the mean of the first block. With self-normalised weights it is the weights w
    and the products $w |x - \mu|$ with that mean, all as logarithms.

    Where no tail can be fitted, most being as far as each other, and one of them has more than half of the sum of
    squares, that is a tail of index infinity: the error bar would be that run's and nobody else's.
    """

    slots: Float[Array, "columns slots"]
    weight: Moments | None  # of weights whose mean is 1
    center: list[Array]  # of the numbers watched
    normalized: bool = eqx.field(static=True)
    smoothed: bool = eqx.field(static=True)

    @classmethod
    def of(
        cls, example: PyTree, num_samples: int, block: int, normalized: bool, smoothed: bool = False
    ) -> "Watch | None":
        """Of no runs like `example` yet, of at most `num_samples` that come in blocks; None where none is worth it."""
        numbers = sum(leaf.size for leaf in _leaves(example))
        weighted = isinstance(example, Weighted)
        fewest = _FEWEST_WEIGHTED if weighted else _FEWEST
        if num_samples < fewest or (numbers > _NUMBERS and not weighted):
            return None
        watched = [leaf.size for leaf in _leaves(example)] if numbers <= _NUMBERS else []
        slots = block * min(_SLOTS // block, -(-num_samples // block)) if block < _SLOTS else _SLOTS
        return cls(
            jnp.full((sum(watched) + weighted, slots), -jnp.inf),
            Moments.empty(jnp.zeros(())) if weighted and not normalized else None,
            [jnp.zeros(size) for size in watched],
            normalized,
            smoothed,
        )

    def seen(self, rows: PyTree[Array], used: Bool[Array, " n"] | None, index: Int[Array, ""]) -> "Watch":
        """With one more block, the one of this index, of whose runs those count that are `used`; None for all."""
        counts = jnp.ones((), bool) if used is None else used
        leaves = [leaf.reshape(leaf.shape[0], -1).T.astype(float) for leaf in _leaves(rows)] if self.center else []
        center = self._center(rows, leaves, counts, index)
        far = [jnp.abs(leaf - middle[:, None]) for leaf, middle in zip(leaves, center, strict=True)]
        if isinstance(rows, Weighted):
            far = [rows.log_weight[None] + jnp.log(leaf) for leaf in far] if self.normalized else far
            far = [rows.log_weight[None], *far]
        columns = jnp.concatenate(far) if len(far) > 1 else far[0]
        columns = columns if used is None else jnp.where(used[None], columns, -jnp.inf)
        weight = self.weight
        if weight is not None:
            weight = weight.merge(Moments.of_rows(jnp.exp(rows.log_weight), None if used is None else jnp.sum(used)))
        return Watch(self._larger(columns, index), weight, center, self.normalized, self.smoothed)

    def merge(self, other: "Watch") -> "Watch":
        """With the largest of other runs, which were as far from the same center."""
        weight = self.weight if other.weight is None or self.weight is None else self.weight.merge(other.weight)
        slots = jnp.maximum(self.slots, other.slots)
        return Watch(slots, weight, self.center, self.normalized, self.smoothed)

    def _center(self, rows: PyTree[Array], leaves: list[Array], counts: Array, index: Int[Array, ""]) -> list[Array]:
        """The mean of the first block: from an outlier all others would be as far."""
        if not leaves:
            return []

        def first() -> list[Array]:
            logs = rows.log_weight if self.normalized else jnp.zeros(leaves[0].shape[1])
            share = jax.nn.softmax(jnp.where(counts, logs, -jnp.inf))[None]
            return [jnp.sum(jnp.where((share > 0) & jnp.isfinite(leaf), share * leaf, 0), axis=1) for leaf in leaves]

        return jax.lax.cond(index == 0, first, lambda: self.center)

    def _larger(self, columns: Float[Array, "columns n"], index: Int[Array, ""]) -> Float[Array, "columns slots"]:
        size, slots = columns.shape[1], self.slots.shape[1]
        if size >= slots:
            columns = jnp.pad(columns, ((0, 0), (0, -size % slots)), constant_values=-jnp.inf)
            return jnp.maximum(self.slots, jnp.max(columns.reshape(len(columns), -1, slots), axis=1))
        place = (0, (index % (slots // size)) * size)
        before = jax.lax.dynamic_slice(self.slots, place, columns.shape)
        return jax.lax.dynamic_update_slice(self.slots, jnp.maximum(before, columns), place)

    def verdict(self, num_runs: Int[Array, ""]) -> "Verdict":
        most = self.slots.shape[1] // 8
        count = tail_length(num_runs, most)
        largest = jax.lax.top_k(self.slots, most + 1)[0]
        if self.normalized:
            k, further = _indices(jnp.exp(largest - largest[:, :1]), count)
            heavy = (k > CONVERGES) if self.smoothed else (k > CONVERGES) | surely_infinite(k, count)
            return Verdict(jnp.any(heavy & further), _worst(k), None)
        k, further = _indices(largest[len(largest) - sum(c.size for c in self.center) :], count)
        heavy = jnp.any(surely_infinite(k, count) & further)
        if self.weight is None:
            return Verdict(heavy, _worst(k), None)
        wild = weight_tail_index(largest[0], count) > _TAME
        weight = self.weight.read()
        off = jnp.abs(weight.value - 1) > _OFF * jnp.asarray(weight.stderr) + 64 * jnp.finfo(weight.value.dtype).eps
        lost = weight.value == 0  # of all runs, so that none says what the result is
        return Verdict(heavy | (off & ~wild) | lost, _worst(k), weight.value)


class Verdict(NamedTuple):
    """Whether an error bar means nothing; k of the heaviest tail, NaN if there is none; the mean weight."""

    doubtful: Bool[Array, ""]
    tail: Float[Array, ""]
    mean_weight: Float[Array, ""] | None


def judged(found: Estimate, watch: Watch | None) -> Estimate:
    """The estimate, without its error bar where that means nothing."""
    if watch is None:
        return found
    stderr, converged, verdict = _judged(watch, found.stderr, found.converged, found.num_samples)
    return dataclasses.replace(
        found, stderr=stderr, converged=converged, tail=verdict.tail, mean_weight=verdict.mean_weight
    )


# Apart from the loop, for it is the same for all programs and takes longer to compile than most of them.
@sooner(once=True)
def _judged(watch: Watch, stderr: PyTree[Array], converged: Array, num_runs: Array) -> tuple[PyTree, Array, Verdict]:
    verdict = watch.verdict(num_runs)
    # A tail index is known to a digit or two. Its last bits are those of the distances, which another program around
    # the same runs rounds once or twice.
    bits = jnp.finfo(verdict.tail.dtype).nexp
    verdict = verdict._replace(tail=jax.lax.reduce_precision(verdict.tail, bits, 10))
    stderr = jax.tree.map(lambda error: jnp.where(verdict.doubtful, jnp.nan, error), stderr)
    return stderr, converged & ~verdict.doubtful, verdict


def _indices(largest: Float[Array, "columns m"], count: Int[Array, ""]) -> tuple[Array, Array]:
    """k of each column, and whether it is above 1/2 in the last third of the tail too, whose k it is if it is not.

    What is bounded may look heavy at first, where it is a mixture of what is common and what is rare. Infinity, and
    sure, where nothing fits and the first has more than half of the squares.
    """
    of_columns, top = jax.vmap(tail_index, (0, None)), largest[:, :1]
    k, last = of_columns(largest, count), of_columns(largest, count // 3)
    shares = jnp.where(largest > 0, largest / jnp.where(top > 0, top, 1), 0)
    alone = jnp.isnan(k) & (top[:, 0] > 0) & (jnp.sum(shares**2, axis=1) < 2)
    further = (last > INFINITE) | alone
    k = jnp.where((k > INFINITE) & ~further, jnp.fmin(k, last), k)
    return jnp.where(alone, jnp.inf, k), further


def _leaves(rows: Any) -> list[Any]:
    """What is watched of rows, or of their shapes."""
    rows = rows.value if isinstance(rows, Weighted) else rows
    return jax.tree.leaves(rows.value if isinstance(rows, Controlled) else rows)


def _worst(k: Float[Array, " columns"]) -> Float[Array, ""]:
    """The largest that there is."""
    found = jnp.max(jnp.where(jnp.isnan(k), -jnp.inf, k), initial=-jnp.inf)
    return jnp.where(jnp.isneginf(found), jnp.nan, found)
