"""Plackett-Luce: permutations, and ordered draws without replacement."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from variate.subsets.base import check_logits, check_size, check_value, gumbel, log_sum_exp


class PlackettLuce(eqx.Module):
    r"""The order $\pi$ in which items are drawn without replacement, each with a probability proportional to its weight
    $w_i = e^{\phi_i}$ among those that are left:
    $p(\pi) = \prod_{i=1}^{k} \frac{w_{\pi_i}}{\sum_j w_j - \sum_{j<i} w_{\pi_j}}$.

    A draw sorts $\phi_i + G_i$ with standard Gumbel noise $G$, which is the same law. Draws are integers, so a gradient
    passes them by `Score` alone; `PermutationMatrix` draws the same as a matrix, which may be relaxed. The wrong choice
    where the order does not count (`TopK`: the same draws, with the probability of the set), and where what else is
    left changes how two items compare.

    Args:
        logits: $\phi$ [..., n], finite; only their differences count.
        size: $k$, how many places are filled; all n if left out.

    Draws are the items in order, int32 [..., k]; `log_prob` is [...], and -inf for what is no order of different items.

    Raises:
        TypeError: `logits` are not real, or `size` is no integer.
        ValueError: `logits` have no axis, or one is not finite; `size` is not from 1 to n.

    Source: Plackett (1975), The analysis of permutations; Luce (1959), Individual choice behavior; by Gumbel noise
    Yellott (1977).
    """

    logits: Float[Array, "*batch n"]
    size: int = eqx.field(static=True)

    def __init__(self, logits: Any, size: Any = None):
        self.logits = check_logits(logits)
        items = self.logits.shape[-1]
        self.size = items if size is None else check_size("size", size, items, "the number of items")

    def sample(self, key: Key[Array, ""]) -> Int[Array, "*batch k"]:
        return lax.top_k(self.logits + gumbel(key, self.logits), self.size)[1].astype(jnp.int32)

    def log_prob(self, x: Any) -> Float[Array, "*batch"]:
        x, logits = check_value(x, self.logits, (self.size,))
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise TypeError(f"x must be integers, the items in order, got {x.dtype}")
        return jnp.vectorize(_log_prob, signature="(n),(k)->()")(logits, x)


def _log_prob(logits: Float[Array, " n"], x: Int[Array, " k"]) -> Float[Array, ""]:
    items, (size,) = logits.shape[0], x.shape
    inside = (x >= 0) & (x < items)
    places = jnp.where(inside, x, 0)
    times = jnp.zeros(items, jnp.int32).at[places].add(1)
    chosen = logits[places]
    if size < items:  # the rest comes last, as one item
        rest = log_sum_exp(jnp.where(times > 0, -jnp.inf, logits))
        left = lax.cumlogsumexp(jnp.append(chosen, rest), reverse=True)[:size]
    else:
        left = lax.cumlogsumexp(chosen, reverse=True)
    return jnp.where(jnp.all(inside) & jnp.all(times <= 1), jnp.sum(chosen - left), -jnp.inf)
