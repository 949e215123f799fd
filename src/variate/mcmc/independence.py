"""Proposals of a distribution that does not look where the chain is."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from variate.checks import check_distribution

from .base import Info, LogDensity, metropolis, unbound, vector_drawn, vector_log_prob


class State(NamedTuple):
    position: Float[Array, " d"]
    log_density: Float[Array, ""]
    log_proposal: Float[Array, ""]  # of the distribution


class Independence(eqx.Module):
    r"""The independence sampler: proposes a draw x' of a distribution q, wherever the chain is.

    Accepts with probability $\min(1, \pi(x')\, q(x) / \pi(x)\, q(x'))$, which leaves $\pi$ invariant for every q.

    Choose it where q is close to the target, a fitted approximation say: draws are then nearly independent, and where
    $\pi / q$ is at most M, the chain forgets its past by a factor 1 - 1/M in each step. The wrong choice where q has
    lighter tails than the target, for then it stays for ever longer where q hardly goes; a position where q is 0 it
    never leaves, and each step says that it is divergent.

    Raises:
        TypeError: no distribution.
        ValueError: draws that are no vectors like the position, while it runs.

    Source: Tierney (1994), Markov chains for exploring posterior distributions, Annals of Statistics 22(4), 1701-1728,
    section 2.3.3; Mengersen and Tweedie (1996), Annals of Statistics 24(1), 101-121, theorem 2.1, for the rate.
    """

    distribution: Any  # q, on vectors: a batch of numbers, or one vector
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        check_distribution(self.distribution)

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        return State(position, self.log_density(position), vector_log_prob(self.distribution, position))

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_draw, key_accept, key_init = jax.random.split(key, 3)
        proposal = self.init(key_init, vector_drawn("distribution", self.distribution, key_draw, state.position))
        log_ratio = proposal.log_density - state.log_density + state.log_proposal - proposal.log_proposal
        stuck: Bool[Array, ""] = state.log_proposal == -jnp.inf
        state, acceptance, accepted = metropolis(key_accept, log_ratio, proposal, state)
        return state, Info(acceptance, accepted, jnp.isnan(log_ratio) | stuck)
