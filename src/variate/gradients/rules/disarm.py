"""DisARM: coins compared with their antithetic twins, without the noise of where between them they fell."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import lax
from jax.nn import sigmoid
from jaxtyping import Array, Bool, Float, Key

from variate import checks
from variate.gradients.base import Alternatives, Facts, JointReplay
from variate.programs import distributions


@dataclass(frozen=True)
class Antithetic(JointReplay):
    """The part that is common to rules which compare coins with their twins."""

    limit: int = 1024

    def __post_init__(self) -> None:
        checks.check_positive_int("limit", self.limit)

    def serves(self, facts: Facts) -> str | None:
        if facts.law not in (dist.BernoulliLogits, dist.BernoulliProbs):
            return f"{facts.law.__name__} draws no coins, and only Bernoulli draws have antithetic twins"
        if facts.order > 1:
            return "only its first derivative is available"
        if (replays := steps(facts)) > self.limit:
            who = f"{type(self).__name__}(limit={self.limit})"
            return f"it would take {replays} replays, one a step of its loops, more than {who}"
        return None


@dataclass(frozen=True)
class DisARM(Antithetic):
    r"""$\nabla_\theta E f(b) = E\,\tfrac12 (f(b) - f(\tilde b)) \sum_i (-1)^{\tilde b_i} 1[b_i \ne \tilde b_i]\,
    \sigma(|\ell_i|)\, \nabla_\theta \ell_i$.

    The coins $b_i = 1[u_i > 1 - p_i]$ with logits $\ell_i$ have twins $\tilde b_i = 1[u_i < p_i]$ of the same
    distribution; it is `ARM` averaged over the $u$ that both have in common. Serves Bernoulli draws. One replay, in
    which all elements (over lanes too) are their twins, whatever their number; a draw in a loop takes one for each
    step. Choose it for many coins where a gradient may cost two runs: it has less noise than `Score` with two samples
    and leave-one-out, which with four or more has as little or less for the same cost. The wrong choice for few coins,
    where `Enumerate` is exact, and for probabilities that are parameters themselves and come near 0 or 1: a coin then
    differs from its twin rarely, and within rounding of 0 and 1 never, so that its derivative there is taken for zero.

    Args:
        limit: the most replays that one draw may cost.

    Source: Dong, Mnih and Tucker (2020), DisARM: an antithetic gradient estimator for binary latent variables;
    independently Yin, Ho, Yan, Qian and Zhou (2020) as the unbiased uniform gradient.
    """

    def alternatives(self, distribution: Any, value: Array, key: Key[Array, ""]) -> Alternatives:
        coins = twins(distribution, value, key)
        weights = jnp.where(coins.differ, coins.sign * coins.likelier / 2, 0)
        return coins.alternatives(weights)


class Twins(NamedTuple):
    """Coins $b$, the uniform numbers behind them, and their twins, by element."""

    log_prob: Float[Array, "*elements"]
    logit: Float[Array, "*elements"]  # of which only the derivative counts
    likelier: Float[Array, "*elements"]  # the larger of $p$ and $1 - p$
    sign: Float[Array, "*elements"]  # of the step from $b$ to the other side
    # Of $u$ from the end of $[0, 1]$ at which it gives $b$: 0 for tails, 1 for heads.
    distance: Float[Array, "*elements"]
    differ: Bool[Array, "*elements"]
    twin: Array

    def alternatives(self, weights: Float[Array, "*elements"]) -> Alternatives:
        """The twins as the one alternative, with fixed weights of the logits."""
        moving = lax.stop_gradient(weights) * self.logit
        return Alternatives(self.log_prob, moving[..., None], self.twin[..., None])


def twins(distribution: Any, value: Array, key: Key[Array, ""]) -> Twins:
    """The twins of coins that were drawn, with $u$ drawn from where it gives what they show."""
    own = distributions.drawn_log_prob(distributions.elementwise(distribution), value)
    law = distributions.innermost(distribution)
    if isinstance(law, dist.BernoulliProbs):
        parameter = jnp.broadcast_to(jnp.asarray(law.probs, own.dtype), own.shape)
        heads, tails = lax.stop_gradient((parameter, 1 - parameter))
        # A coin that is as good as certain never differs from its twin, and its logit has no finite derivative.
        certain = heads * tails < jnp.finfo(own.dtype).eps
        slope = jnp.where(certain, 0, 1 / jnp.where(certain, 1, heads * tails))
    else:
        parameter = jnp.broadcast_to(jnp.asarray(law.logits, own.dtype), own.shape)
        heads, tails = lax.stop_gradient((sigmoid(parameter), sigmoid(-parameter)))
        parameter, slope = jnp.where(jnp.isfinite(parameter), parameter, 0), jnp.ones_like(own)
    up = value == 0
    here, there = jnp.where(up, tails, heads), jnp.where(up, heads, tails)
    distance = here * inside(key, own)
    differ = distance < there
    return Twins(
        log_prob=own,
        logit=slope * parameter,
        likelier=jnp.maximum(heads, tails),
        sign=jnp.where(up, 1, -1).astype(own.dtype),
        distance=distance,
        differ=differ,
        twin=jnp.where(differ, 1 - value, value),
    )


def inside(key: Key[Array, ""], like: Array) -> Array:
    """Uniform on $(0, 1]$: at 0 a twin would differ, however small the probability of it."""
    return 1 - jax.random.uniform(key, like.shape, like.dtype)


def steps(facts: Facts) -> int:
    """How often a run comes by that draw."""
    return math.prod(loop.length or 1 for loop in facts.site.repeats)
