"""The reusable holdout: many queries of one sample, each chosen in the light of the answers before it."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from variate import checks
from variate.trees import as_float

from .function_of_means import values_of


class HoldoutState(NamedTuple):
    """What has been asked, and what may still be."""

    excess: Float[Array, ""]  # the noise of the threshold, renewed when a query has met it
    budget: Int[Array, ""]  # answers left that tell of overfitting
    asked: Int[Array, ""]


class Answer(NamedTuple):
    """Of a query: within `tolerance` of its expectation, for all queries at once with the probability `level`.

    Without an answer the value is NaN and the tolerance infinite. Only `outside` is of the training rows alone, for
    what it says of others would be an answer too.
    """

    value: Float[Array, ""]
    tolerance: Float[Array, ""]  # 1 or more promises nothing of a mean between 0 and 1
    overfitted: Bool[Array, ""]  # the training mean was too far from the holdout's, and the answer cost budget
    spent: Bool[Array, ""]  # no answer: the budget or the number of queries is used up
    outside: Int[Array, ""]  # training rows whose value was none between 0 and 1 and was moved there


class ReusableHoldout(eqx.Module):
    r"""Answers queries $\varphi: x \mapsto [0, 1]$ by their mean over training rows, unless the holdout contradicts.

    Thresholdout: with $\gamma \sim \mathrm{Lap}(2\sigma)$, $\eta \sim \mathrm{Lap}(4\sigma)$ and
    $\xi \sim \mathrm{Lap}(\sigma)$ the answer is $E_\mathrm{holdout}\varphi + \xi$, cut to the unit interval and
    rounded to a multiple of $\sigma$, where
    $|E_\mathrm{holdout}\varphi - E_\mathrm{train}\varphi| > T + \gamma + \eta$, else $E_\mathrm{train}\varphi$. Each
    answer of the first kind costs one of `budget` and renews $\gamma$; the others are free.

    With the probability `level` $= 1 - \beta$ all answers a, however the queries are chosen, have
    $|a - E\varphi| \le$ `tolerance`, which is

    $\tau = \max(T + 6 \sigma t,\ \sigma t + \sigma / 2) + \sqrt{\ln(4 N / \beta) / 2 n}$,
    $\quad t = \ln((m + 3 B) / \beta)$, $\quad N = \sum_{j=1}^{B} \binom{m}{j} k^{j-1}$,

    for m queries, the budget B, n holdout rows and $k = \lfloor 1/\sigma + 1/2 \rfloor + 1$ possible answers of the
    first kind. For, the noise given, a query depends on the holdout through the answers before it alone, so there are N
    that may ever be asked; Hoeffding's inequality holds for all of them up to $\beta / 2$, and all noise is below t of
    its scales up to $\beta / 2$. It takes independent holdout rows which nothing but `ask` has ever seen.

    A tolerance of 1 or more is no promise: `vacuous` says so. The noise is not what this proof rests on; it makes the
    answers differentially private (an $\varepsilon$ of order $B / \sigma n$), from which the authors derive a
    tolerance that grows more slowly with B. The wrong choice for a few queries that are known beforehand (`Hoeffding`
    at a level for all of them), and for more budget than n affords.

    Source: Dwork, Feldman, Hardt, Pitassi, Reingold and Roth (2015), The reusable holdout: preserving validity in
    adaptive data analysis, Science 349, 636-638 (the algorithm); the same (2015), Generalization in adaptive data
    analysis and holdout reuse, NeurIPS (description length).

    Args:
        train: rows that may be looked at freely, a pytree of arrays with one leading axis.
        holdout: n rows of the same kind.
        threshold: T, about four times $1 / \sqrt n$ for chance not to meet it.
        noise: $\sigma$.
        queries: m; there is no answer to more.
        budget: B.
        level: of the guarantee.

    Raises:
        TypeError: a number that is none.
        ValueError: rows that do not fit each other, a number that is not positive, or a budget beyond the queries.
    """

    train: PyTree[Array]
    holdout: PyTree[Array]
    threshold: float = eqx.field(static=True)
    noise: float = eqx.field(static=True)
    queries: int = eqx.field(static=True)
    budget: int = eqx.field(static=True)
    level: float = eqx.field(static=True)

    def __init__(
        self,
        train: PyTree[Array],
        holdout: PyTree[Array],
        *,
        threshold: float,
        noise: float,
        queries: int,
        budget: int,
        level: float = 0.95,
    ):
        self.train, self.holdout = _rows("train", train), _rows("holdout", holdout)
        if jax.tree.structure(self.train) != jax.tree.structure(self.holdout):
            raise ValueError(
                f"holdout: expected the structure of train, {jax.tree.structure(train)}, "
                f"got {jax.tree.structure(holdout)}"
            )
        _size("train", self.train)
        _size("holdout", self.holdout)
        for one, other in zip(jax.tree.leaves(self.train), jax.tree.leaves(self.holdout), strict=True):
            if one.shape[1:] != other.shape[1:]:
                raise ValueError(f"holdout: expected rows of shape {one.shape[1:]}, got {other.shape[1:]}")
        self.threshold = checks.check_positive("threshold", threshold)
        self.noise = checks.check_positive("noise", noise)
        self.queries = checks.check_positive_int("queries", queries)
        self.budget = checks.check_positive_int("budget", budget, at_most=self.queries)
        self.level = checks.check_fraction("level", level)

    @property
    def tolerance(self) -> float:
        r"""$\tau$, by which an answer may be off."""
        beta, n = 1 - self.level, _size("holdout", self.holdout)
        t = math.log((self.queries + 3 * self.budget) / beta)
        off = max(self.threshold + 6 * self.noise * t, self.noise * (t + 0.5))
        return off + math.sqrt((self._log_possible + math.log(4 / beta)) / (2 * n))

    @property
    def vacuous(self) -> bool:
        """Whether the tolerance promises nothing of a mean between 0 and 1."""
        return self.tolerance >= 1

    @property
    def _log_possible(self) -> float:
        m, log_k = self.queries, math.log(math.floor(1 / self.noise + 0.5) + 1)

        def term(j: int) -> float:
            return math.lgamma(m + 1) - math.lgamma(j + 1) - math.lgamma(m - j + 1) + (j - 1) * log_k

        return float(np.logaddexp.reduce([term(j) for j in range(1, self.budget + 1)]))

    def start(self, key: Key[Array, ""]) -> HoldoutState:
        """Before any query."""
        checks.check_key(key)
        excess = 2 * self.noise * jax.random.laplace(key, dtype=float)
        return HoldoutState(excess, jnp.asarray(self.budget), jnp.zeros((), int))

    def ask(
        self, key: Key[Array, ""], state: HoldoutState, query: Callable[[PyTree], Array]
    ) -> tuple[HoldoutState, Answer]:
        """The answer to a query, a function of one row, and the state after it; `key` is new each time.

        A value of the query below 0 or above 1 counts as that bound, and NaN as 0, which is another query but a valid
        one. Raises `TypeError` for a query that does not return one real number.
        """
        checks.check_key(key)
        if not isinstance(state, HoldoutState):
            raise TypeError(f"state must be what start or the last ask returned, got {checks.describe(state)}")
        training, outside = _mean(query, self.train)
        held, _ = _mean(query, self.holdout)
        keys = jax.random.split(key, 3)
        of_answer, of_query, renewed = [jax.random.laplace(each, dtype=float) * self.noise for each in keys]
        far = jnp.abs(held - training) > self.threshold + state.excess + 4 * of_query
        noisy = jnp.round(jnp.clip(held + of_answer, 0, 1) / self.noise) * self.noise
        spent = (state.budget < 1) | (state.asked >= self.queries)
        told = far & ~spent
        after = HoldoutState(
            jnp.where(told, 2 * renewed, state.excess),
            state.budget - told.astype(state.budget.dtype),
            state.asked + (~spent).astype(state.asked.dtype),
        )
        value = jnp.where(spent, jnp.nan, jnp.where(far, noisy, training))
        return after, Answer(value, jnp.where(spent, jnp.inf, self.tolerance), told, spent, outside)


def _mean(query: Any, rows: PyTree[Array]) -> tuple[Float[Array, ""], Int[Array, ""]]:
    found: Any = jax.vmap(lambda row: values_of("query", query, (row,), "a row"))(rows)
    if not hasattr(found, "shape") or found.ndim != 1:
        raise TypeError(f"query must return one number for a row, got {checks.describe(found)} for all rows")
    values = as_float(found).astype(float)
    inside = (values >= 0) & (values <= 1)
    return jnp.mean(jnp.where(jnp.isnan(values), 0, jnp.clip(values, 0, 1))), jnp.sum(~inside)


def _rows(name: str, rows: PyTree) -> PyTree[Array]:
    for leaf in jax.tree.leaves(rows):
        if not hasattr(leaf, "dtype"):
            raise TypeError(f"{name} must be arrays with one leading axis of rows, got {checks.describe(leaf)}")
    return jax.tree.map(jnp.asarray, rows)


def _size(name: str, rows: PyTree[Array]) -> int:
    sizes = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(rows)}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(f"{name}: expected arrays with one leading axis of rows, got lengths {sorted(sizes)}")
    return sizes.pop()
