"""Augment-REINFORCE-merge: coins compared with their antithetic twins."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Key

from variate.gradients.base import Alternatives
from variate.gradients.rules.disarm import Antithetic, twins


@dataclass(frozen=True)
class ARM(Antithetic):
    r"""$\nabla_\theta E f(b) = E\, (f(b) - f(\tilde b)) \sum_i (u_i - \tfrac12)\, \nabla_\theta \ell_i$.

    The coins $b_i = 1[u_i > 1 - p_i]$ with logits $\ell_i$ have twins $\tilde b_i = 1[u_i < p_i]$ of the same
    distribution, and $u$ is uniform. Serves Bernoulli draws. One replay, in which all elements (over lanes too) are
    their twins, whatever their number; a draw in a loop takes one for each step. Choose it to compare with published
    results: `DisARM`, which averages $u$ out, costs the same and never has more noise. The wrong choice for few coins,
    where `Enumerate` is exact, and for probabilities that are parameters themselves and come near 0 or 1.

    Args:
        limit: the most replays that one draw may cost.

    Source: Yin and Zhou (2019), ARM: augment-REINFORCE-merge gradient for stochastic binary networks, theorem 1.
    """

    def alternatives(self, distribution: Any, value: Array, key: Key[Array, ""]) -> Alternatives:
        coins = twins(distribution, value, key)
        return coins.alternatives(coins.sign * (0.5 - coins.distance))
