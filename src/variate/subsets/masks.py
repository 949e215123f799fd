"""N:M sparsity: masks that keep n of every m weights in a row."""

import itertools
import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.nn import one_hot, softmax
from jaxtyping import Array, Float, Key

from variate.subsets.base import check_logits, check_mask, check_size, gumbel, log_softmax

MOST = 65_536  # masks of one group, each of which has a logit


class NMMask(eqx.Module):
    r"""For each group of $m$ consecutive weights one of the $\binom{m}{n}$ masks that keep $n$ of them, with
    probabilities $\mathrm{softmax}(\phi)$, groups independent.

    The masks are in the order of `itertools.combinations(range(m), n)`, and `masks` [C(m, n), m] lists them; 2:4, which
    hardware runs at twice the speed, has six. Its relaxation, for `vt.gradients.StructuredRelaxation`, is the Gumbel-
    softmax over them. A score function charges all groups of a row with all that the row reaches; put groups into the
    batch (logits [..., groups, 1, C(m, n)]) to have each charged with its own. The wrong choice where $m$ is large:
    `ConditionalPoisson` has a logit for each weight instead of each mask.

    Args:
        logits: $\phi$ [..., groups, C(m, n)], finite.
        n: how many of each group are kept, from 1 to m.
        m: the size of a group.

    Draws are zeros and ones [..., groups * m] in the type of the logits; `log_prob` is [...], and -inf for other masks.

    Raises:
        TypeError: `logits` are not real, or `n` or `m` is no integer.
        ValueError: `logits` are not finite or of another shape; `n` is not from 1 to m, or there are over 65,536 masks.

    Source: Fang et al. (2024), MaskLLM: learnable semi-structured sparsity for large language models.
    """

    logits: Float[Array, "*batch groups masks"]
    n: int = eqx.field(static=True)
    m: int = eqx.field(static=True)

    def __init__(self, logits: Any, n: Any, m: Any):
        self.logits = check_logits(logits, axes=2)
        self.m = check_size("m", m, MOST, "the size of a group")
        self.n = check_size("n", n, self.m, "the size of a group")
        count = math.comb(self.m, self.n)
        if count > MOST:
            raise ValueError(f"n and m must leave at most {MOST} masks of a group, got {self.n}:{self.m} with {count}")
        if self.logits.shape[-1] != count:
            found = self.logits.shape
            raise ValueError(f"logits must have a last axis of the {count} masks of {self.n}:{self.m}, got {found}")

    @property
    def masks(self) -> np.ndarray:
        """The masks of one group, in the order of the logits."""
        table = np.zeros((self.logits.shape[-1], self.m), self.logits.dtype)
        kept = np.array(list(itertools.combinations(range(self.m), self.n)))
        np.put_along_axis(table, kept, 1, axis=1)
        return table

    def sample(self, key: Key[Array, ""]) -> Float[Array, "*batch weights"]:
        which = jnp.argmax(self.logits + gumbel(key, self.logits), axis=-1)
        return self._joined(one_hot(which, self.logits.shape[-1], dtype=self.logits.dtype))

    def _joined(self, weights: Float[Array, "*batch groups masks"]) -> Float[Array, "*batch weights"]:
        """Weights of the masks of each group to one mask for all."""
        groups = weights @ self.masks
        return groups.reshape(*groups.shape[:-2], -1)

    def log_prob(self, x: Any) -> Float[Array, "*batch"]:
        *_, groups, count = self.logits.shape
        x, logits = check_mask(x, self.logits, groups * self.m, axes=2)
        each = x.reshape(*x.shape[:-1], groups, 1, self.m)
        table = self.masks.reshape(*(1,) * (each.ndim - 2), count, self.m)
        found = jnp.all(each == table, axis=-1)
        log_probs = jnp.sum(jnp.where(found, log_softmax(logits), 0), axis=(-1, -2))
        return jnp.where(jnp.all(jnp.any(found, axis=-1), axis=-1), log_probs, -jnp.inf)

    def inclusion_probabilities(self) -> Float[Array, "*batch weights"]:
        """Of each weight, to be kept."""
        return self._joined(softmax(self.logits))

    def relaxed(self, key: Key[Array, ""], temperature: float) -> Float[Array, "*batch weights"]:
        """Between zero and one, with the sum n in each group; tends to `sample(key)` as the temperature falls."""
        return self._joined(softmax((self.logits + gumbel(key, self.logits)) / temperature))
