"""Sets of a fixed size of maximum entropy: independent coins, given how many of them fall heads."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from variate.subsets.base import check_logits, check_mask, check_size, is_mask, log_add


class ConditionalPoisson(eqx.Module):
    r"""Masks $x$ of $k$ ones among $n$, $p(x) = e^{\sum_i \phi_i x_i} / e_k$, where $e_k$ is the sum of
    $\prod_{i \in S} e^{\phi_i}$ over all sets $S$ of $k$ items.

    The law of independent coins with these log odds given that $k$ of them are heads, and the one of most entropy among
    those with its inclusion probabilities. All is exact, by dynamic programming over items and counts in logs, which
    takes $O(nk)$; `inclusion_probabilities` are the derivatives of $\log e_k$. The wrong choice for draws one after the
    other with given weights (`TopK`), and for $n k$ in the millions.

    Args:
        logits: $\phi$ [..., n], finite; only their differences count.
        size: $k$, from 1 to n.

    Draws are zeros and k ones [..., n] in the type of the logits; `log_prob` is [...], and -inf for other masks.

    Raises:
        TypeError: `logits` are not real, or `size` is no integer.
        ValueError: `logits` have no axis, or one is not finite; `size` is not from 1 to n.

    Source: Chen, Dempster and Liu (1994), Weighted finite population sampling to maximize entropy; Hajek (1964).
    """

    logits: Float[Array, "*batch n"]
    size: int = eqx.field(static=True)

    def __init__(self, logits: Any, size: Any):
        self.logits = check_logits(logits)
        self.size = check_size("size", size, self.logits.shape[-1], "the number of items")

    def sample(self, key: Key[Array, ""]) -> Float[Array, "*batch n"]:
        uniform = jax.random.uniform(key, self.logits.shape, self.logits.dtype)
        return jnp.vectorize(self._chosen, signature="(n),(n)->(n)")(centered(self.logits), uniform)

    def _chosen(self, logits: Float[Array, " n"], uniform: Float[Array, " n"]) -> Float[Array, " n"]:
        """From the last item to the first: each is taken with its probability, given how many are still to come."""
        before, after = self._sums(logits)

        def item(left: Int[Array, ""], each: tuple[Array, ...]) -> tuple[Array, Array]:
            logit, uniform, before, after = each
            taken = (left > 0) & (uniform < jnp.exp(logit + before[left - 1] - after[left]))
            return left - taken.astype(left.dtype), taken.astype(logits.dtype)

        return lax.scan(item, jnp.asarray(self.size), (logits, uniform, before, after), reverse=True)[1]

    def _sums(self, logits: Float[Array, " n"]) -> tuple[Float[Array, "n k"], Float[Array, "n k"]]:
        r"""$\log e_j$, $0 \le j \le k$, of the items before each one, and of those up to it."""
        never = jnp.finfo(logits.dtype).min / 4  # a sum over no sets: finite, so that no derivative is lost

        def item(sums: Array, logit: Array) -> tuple[Array, tuple[Array, Array]]:
            one_more = jnp.concatenate([jnp.full_like(sums[:1], never), sums[:-1] + logit])
            new = log_add(sums, one_more)
            return new, (sums, new)

        start = jnp.full(self.size + 1, never, logits.dtype).at[0].set(0)
        return lax.scan(item, start, logits)[1]

    def log_normalizer(self) -> Float[Array, "*batch"]:
        r"""$\log e_k$."""
        shift = jnp.max(lax.stop_gradient(self.logits), axis=-1)
        return self._log_normalizer(centered(self.logits)) + self.size * shift

    def _log_normalizer(self, logits: Float[Array, "*batch n"]) -> Float[Array, "*batch"]:
        return jnp.vectorize(lambda logits: self._sums(logits)[1][-1, -1], signature="(n)->()")(logits)

    def log_prob(self, x: Any) -> Float[Array, "*batch"]:
        x, logits = check_mask(x, centered(self.logits), self.logits.shape[-1])
        possible = is_mask(x, self.size)
        chosen = jnp.sum(jnp.where(possible[..., None], x, 0) * logits, axis=-1)
        return jnp.where(possible, chosen - self._log_normalizer(logits), -jnp.inf)

    def inclusion_probabilities(self) -> Float[Array, "*batch n"]:
        """Of each item, to be in the set."""
        return jax.grad(lambda logits: jnp.sum(self._log_normalizer(logits)))(centered(self.logits))


def centered(logits: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    """Less the largest, which changes no probability and loses no digits to what they have in common."""
    return logits - jnp.max(lax.stop_gradient(logits), axis=-1, keepdims=True)
