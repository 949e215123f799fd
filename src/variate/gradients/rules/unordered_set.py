"""Unordered sets: values drawn without replacement, each a baseline for the others."""

import itertools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import logsumexp, one_hot
from jaxtyping import Array, Float, Int, Key

from variate import checks
from variate.gradients.base import Alternatives, Facts, Replay
from variate.gradients.rules.enumerate import Enumerate
from variate.gradients.rules.sum_and_sample import positive, why_not_some
from variate.programs import distributions

LARGEST = 10  # of the sets, whose subsets are all gone through


@dataclass(frozen=True)
class UnorderedSet(Replay):
    r"""$\sum_i \sum_{s \in S} \nabla_\theta p_\theta(s)\, R(S, s) \left(f(s) - \sum_{r \in S} p_\theta(r)\, R_s(S, r)\,
    f(r)\right)$ over the elements $i$ of a draw, with sets $S$ of different values.

    $S$ is what has come after `size` draws without replacement, in any order; $R(S, s) = p_{-s}(S \setminus s) / p(S)$,
    where $p_{-s}$ draws from all values but $s$; $R_s$ is the same of $p_{-s}$ and $S \setminus s$, and $R_s(S, s) =
    1$. Each element of the draw (over loops and lanes too) takes `size` replays, which share every other random number
    with the run. Serves draws of finite support; with `size` no less than the support it is `Enumerate`. Choose it
    where that would take too many replays and the probability is spread over many values. The wrong choice for draws of
    many elements, each of which takes its replays.

    Args:
        size: how many values of an element are tried, from 2 to 10; their $2^{size}$ subsets are gone through.
        limit: the most replays that one draw may cost.

    Source: Kool, van Hoof and Welling (2020), Estimating gradients for discrete random variables by sampling without
    replacement, eq. 15; the sets by Gumbel top-k.
    """

    size: int = 4
    limit: int = 1024

    def __post_init__(self) -> None:
        checks.check_positive_int("size", self.size, at_most=LARGEST)
        if self.size < 2:
            raise ValueError(f"size must be at least 2 for one value to be another's baseline, got {self.size}")
        checks.check_positive_int("limit", self.limit)

    def serves(self, facts: Facts) -> str | None:
        return why_not_some(self, facts, self.size, self.limit)

    def alternatives(self, distribution: Any, value: Array, key: Key[Array, ""]) -> Alternatives:
        support = distributions.support(distribution)
        assert support is not None  # or `serves` had said so
        if len(support) <= self.size:
            return Enumerate().alternatives(distribution, value, key)
        own = distributions.drawn_log_prob(distributions.elementwise(distribution), value)
        table = jnp.moveaxis(distributions.element_probs(distribution), 0, -1)
        sampling = positive(table)
        chosen = without_replacement(key, sampling, self.size)
        probabilities = jnp.take_along_axis(table, chosen, axis=-1)
        single, double = ratios(sampling, chosen)
        baselines = lax.stop_gradient(probabilities) * jnp.einsum("...sr,...s->...r", double, probabilities)
        return Alternatives(own, single * probabilities - baselines, support[chosen])


def without_replacement(key: Key[Array, ""], probabilities: Float[Array, "*elements values"], size: int) -> Array:
    """The places of so many different values, drawn one after the other."""
    perturbed = jnp.log(probabilities) + jax.random.gumbel(key, probabilities.shape, probabilities.dtype)
    return lax.top_k(perturbed, size)[1]


def ratios(
    probabilities: Float[Array, "*elements values"], chosen: Int[Array, "*elements size"]
) -> tuple[Float[Array, "*elements size"], Float[Array, "*elements size size"]]:
    r"""$R(S, s)$, and $R(S, s) R_s(S, r)$, of the chosen values.

    With $g(U)$ the sum over all orders of $S \setminus U$ of $\prod (1 - p(\text{all before}))^{-1}$, $U$ before them
    all, $p(S) = g(\emptyset) \prod_{s \in S} p(s)$ and $p_{-s}(S \setminus s) = g(s) \prod_{r \ne s} p(r)$.
    """
    size = chosen.shape[-1]
    subsets = np.array(list(itertools.product([False, True], repeat=size)))[:, ::-1]  # row n holds the bits of n
    inside = jnp.take_along_axis(probabilities, chosen, axis=-1)
    taken = jnp.any(one_hot(chosen, probabilities.shape[-1], dtype=bool), axis=-2)
    outside = jnp.sum(jnp.where(taken, 0, probabilities), axis=-1, keepdims=True)
    # What is left is summed up, as 1 less what is taken would be lost to rounding where the latter is nearly all.
    left = jnp.log(outside + jnp.sum(jnp.where(subsets, 0, inside[..., None, :]), axis=-1))
    log_g = jnp.zeros_like(left)  # of every subset, right for all of S
    for count in reversed(range(size)):
        rows = np.flatnonzero(np.sum(subsets, axis=1) == count)
        following = np.array([[row | 1 << bit for bit in range(size) if not row >> bit & 1] for row in rows])
        log_g = log_g.at[..., rows].set(logsumexp(log_g[..., following], axis=-1) - left[..., rows])
    one = 1 << np.arange(size)
    single = jnp.exp(log_g[..., one] - log_g[..., :1]) / inside
    pairs = jnp.exp(log_g[..., one[:, None] | one] - log_g[..., :1, None])
    double = pairs / (inside[..., :, None] * inside[..., None, :])
    return single, jnp.where(np.eye(size, dtype=bool), single[..., None], double)
