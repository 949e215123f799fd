"""Augment-REINFORCE-swap-merge: dice compared with those that two exponentials swapped would have given."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import lax
from jax.nn import one_hot, softmax
from jaxtyping import Array, Float, Key

from variate import checks
from variate.gradients.base import Alternatives, Facts, JointReplay
from variate.gradients.rules.disarm import steps
from variate.programs import distributions


@dataclass(frozen=True)
class ARSM(JointReplay):
    r"""$\nabla_\theta E f(z) = E \sum_i \sum_c \sum_j \left(f(z^{c \rightleftharpoons j}) - \tfrac1C \sum_m
    f(z^{m \rightleftharpoons j})\right) \left(\tfrac1C - \pi_{ij}\right) \nabla_\theta \phi_{ic}$.

    A die of logits $\phi_i$ falls as $z_i = \operatorname{argmin}_c \pi_{ic} e^{-\phi_{ic}}$, where the shares $\pi_i$
    are uniform on the simplex of $C$ categories; $z^{c \rightleftharpoons j}$ is what all elements would be, had each
    its shares of $c$ and $j$ swapped. Serves categorical draws. $C (C - 1) / 2$ replays, in which all elements (over
    lanes too) are swapped together, whatever their number; a draw in a loop takes as many for each step. Choose it to
    compare with published results: for what its replays cost, `Score` with leave-one-out had less noise wherever we
    measured. The wrong choice for few dice, where `Enumerate` is exact; for many faces; and for probabilities that are
    parameters themselves and come near 0, where the derivative of a logit is large: within rounding of 0 their
    derivative is taken for zero.

    Args:
        limit: the most replays that one draw may cost.

    Source: Yin, Yue and Zhou (2019), ARSM: augment-REINFORCE-swap-merge estimator for gradient backpropagation through
    categorical variables, theorem 2.
    """

    limit: int = 1024

    def __post_init__(self) -> None:
        checks.check_positive_int("limit", self.limit)

    def serves(self, facts: Facts) -> str | None:
        if facts.law not in (dist.CategoricalLogits, dist.CategoricalProbs) or facts.support is None:
            return f"{facts.law.__name__} draws no categories; those of Categorical can be swapped"
        if facts.order > 1:
            return "only its first derivative is available"
        pairs = facts.support * (facts.support - 1) // 2
        if (replays := pairs * steps(facts)) > self.limit:
            return (
                f"it would take {replays} replays ({pairs} pairs of its {facts.support} categories in each step of its "
                f"loops), more than ARSM(limit={self.limit})"
            )
        return None

    def alternatives(self, distribution: Any, value: Array, key: Key[Array, ""]) -> Alternatives:
        own = distributions.drawn_log_prob(distributions.elementwise(distribution), value)
        logits, probabilities = _parameters(distributions.innermost(distribution), own)
        exponentials = exponentials_of(key, value, probabilities)
        categories = probabilities.shape[-1]
        left = 1 / categories - exponentials / jnp.sum(exponentials, axis=-1, keepdims=True)
        logits = logits - jnp.mean(logits, axis=-1, keepdims=True)
        # The pairs (c, j) and (j, c) share a replay; those with c = j are the run itself, and all weights sum to zero.
        c, j = np.triu_indices(categories, 1)
        weights = lax.stop_gradient(left[..., j]) * logits[..., c] + lax.stop_gradient(left[..., c]) * logits[..., j]
        swaps = np.tile(np.arange(categories), (len(c), 1))
        swaps[np.arange(len(c)), c], swaps[np.arange(len(c)), j] = j, c
        swapped = jnp.argmin(exponentials[..., swaps] / probabilities[..., None, :], axis=-1)
        return Alternatives(own, weights, swapped.astype(value.dtype))


def _parameters(law: Any, own: Array) -> tuple[Float[Array, "*elements c"], Float[Array, "*elements c"]]:
    """Numbers with the derivatives of the logits, and the probabilities, held fixed."""
    parameter = jnp.asarray(law.probs if isinstance(law, dist.CategoricalProbs) else law.logits, own.dtype)
    parameter = jnp.broadcast_to(parameter, (*own.shape, parameter.shape[-1]))
    if isinstance(law, dist.CategoricalProbs):
        probabilities = lax.stop_gradient(parameter)
        certain = probabilities < jnp.finfo(own.dtype).eps
        return jnp.where(certain, 0, parameter / jnp.where(certain, 1, probabilities)), probabilities
    return jnp.where(jnp.isfinite(parameter), parameter, 0), lax.stop_gradient(softmax(parameter))


def exponentials_of(key: Key[Array, ""], value: Array, probabilities: Float[Array, "*elements c"]) -> Array:
    """Exponentials $e_c$ with `value` for their $\\operatorname{argmin}_c e_c / p_c$, the shares up to their sum.

    The least of the $e_c / p_c$ is exponential whichever it is; the others are independent, and have no memory of it.
    """
    categories, dtype = probabilities.shape[-1], probabilities.dtype
    drawn = jax.random.exponential(key, (*value.shape, 1 + categories), dtype)  # in one: a generator compiles long
    drawn = jnp.maximum(drawn, jnp.finfo(dtype).tiny)  # JAX's own may be 0, and 0 / 0 has no order
    others = jnp.where(one_hot(value, categories, dtype=bool), 0, drawn[..., 1:])
    return drawn[..., :1] * probabilities + others
