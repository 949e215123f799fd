"""DisARM: coins compared with their antithetic twins."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import lax
from jax.nn import sigmoid
from jaxtyping import Array, Key

from variate.gradients.base import Alternatives, Facts, JointReplay
from variate.programs import distributions


@dataclass(frozen=True)
class DisARM(JointReplay):
    r"""$\nabla_\theta E f(b) = E\,\tfrac12 (f(b) - f(\tilde b)) \sum_i (-1)^{\tilde b_i} 1[b_i \ne \tilde b_i]\,
    \sigma(|\ell_i|)\, \nabla_\theta \ell_i$.
    """

    def serves(self, facts: Facts) -> str | None:
        if facts.law not in (dist.BernoulliLogits, dist.BernoulliProbs):
            return f"{facts.law.__name__} draws no coins"
        if facts.order > 1:
            return "only its first derivative is available"
        return None

    def alternatives(self, distribution: Any, value: Array, key: Key[Array, ""]) -> Alternatives:
        own = distributions.drawn_log_prob(distributions.elementwise(distribution), value)
        logits = jnp.broadcast_to(distributions.innermost(distribution).logits, own.shape)
        probability = sigmoid(logits)
        # $b = 1[u > 1 - p]$ and its twin $1[u < p]$: given $b$, $u$ is uniform on its side.
        inside = jax.random.uniform(key, own.shape, own.dtype)
        u = jnp.where(value == 1, 1 - probability * inside, (1 - probability) * inside)
        twin = u < probability
        weights = jnp.where(twin == value, 0, jnp.where(twin, 1, -1) * sigmoid(jnp.abs(logits)) / 2)
        return Alternatives(own, (lax.stop_gradient(weights) * logits)[..., None], twin.astype(value.dtype)[..., None])
