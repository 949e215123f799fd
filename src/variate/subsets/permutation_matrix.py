"""Permutations as matrices of zeros and ones, which a derivative can pass."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jax.nn import log_softmax, one_hot
from jaxtyping import Array, Float, Key

from variate.subsets.base import check_logits, check_value, gumbel
from variate.subsets.plackett_luce import PlackettLuce

ITERATIONS = 20  # of the Sinkhorn operator


class PermutationMatrix(eqx.Module):
    r"""`PlackettLuce` as matrices: $X_{pi} = 1$ where the item $i$ has the place $p$, else 0.

    So `X @ values` sorts values. Its relaxation, for `vt.gradients.StructuredRelaxation`, is Gumbel-Sinkhorn: rows and
    columns of $e^{-|y_{(p)} - y_i| / \tau}$ are normalized in turn, 20 times, the rows last, where $y = \phi + G$ is
    what a draw sorts and $y_{(p)}$ its $p$-th largest. The wrong choice where the order is only looked up
    (`PlackettLuce`): a matrix has $n^2$ numbers.

    Args:
        logits: $\phi$ [..., n], finite; only their differences count.

    Draws are [..., n, n] in the type of the logits; `log_prob` is [...], and -inf for what is no permutation.

    Raises:
        TypeError: `logits` are not real.
        ValueError: `logits` have no axis, or one is not finite.

    Source: Mena, Belanger, Linderman and Snoek (2018), Learning latent permutations with Gumbel-Sinkhorn networks; what
    it starts from, for this law, is that of Prillo and Eisenschlos (2020), SoftSort: a continuous relaxation for the
    argsort operator.
    """

    logits: Float[Array, "*batch n"]

    def __init__(self, logits: Any):
        self.logits = check_logits(logits)

    def sample(self, key: Key[Array, ""]) -> Float[Array, "*batch n n"]:
        return one_hot(PlackettLuce(self.logits).sample(key), self.logits.shape[-1], dtype=self.logits.dtype)

    def log_prob(self, x: Any) -> Float[Array, "*batch"]:
        items = self.logits.shape[-1]
        x, logits = check_value(x, self.logits, (items, items))
        order = jnp.argmax(x, axis=-1)
        is_one_hot = jnp.all(x == one_hot(order, items, dtype=x.dtype), axis=(-1, -2))
        return jnp.where(is_one_hot, PlackettLuce(logits).log_prob(order), -jnp.inf)

    def relaxed(self, key: Key[Array, ""], temperature: float) -> Float[Array, "*batch n n"]:
        """Nonnegative, its rows and, for the most part, its columns with the sum one; tends to `sample(key)`."""
        noisy = self.logits + gumbel(key, self.logits)
        ordered = -jnp.sort(-noisy, axis=-1)
        start = -jnp.abs(ordered[..., :, None] - noisy[..., None, :]) / temperature

        def normalize(_: Any, logs: Array) -> Array:
            return log_softmax(log_softmax(logs, axis=-2), axis=-1)

        return jnp.exp(lax.fori_loop(0, ITERATIONS, normalize, start))
