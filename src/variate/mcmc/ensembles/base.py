"""What ensembles share: where their walkers begin, and the halves that move in turn."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from variate.checks import check_at_least

from ..base import LogDensity, metropolis

# Of a walker, given walkers that do not move: where to, and what the log ratio has besides that of the densities.
Propose = Callable[
    [Key[Array, ""], Float[Array, " d"], Float[Array, "others d"]], tuple[Float[Array, " d"], Float[Array, ""]]
]


class State(NamedTuple):
    position: Float[Array, "walkers d"]
    log_density: Float[Array, " walkers"]


class Info(NamedTuple):
    """What a step tells of each walker."""

    acceptance: Float[Array, " walkers"]
    accepted: Bool[Array, " walkers"]
    divergent: Bool[Array, " walkers"]
    evaluations: Int[Array, " walkers"]


def check_walkers(walkers: Any) -> None:
    """Raise ValueError unless two halves can move in turn."""
    check_at_least("walkers", walkers, 4)
    if walkers % 2:
        raise ValueError(f"walkers must be even, for halves of them move in turn, got {walkers}")


def scattered(
    key: Key[Array, ""], position: Float[Array, " d"], walkers: int, spread: Any, log_density: LogDensity
) -> State:
    """Walkers about a position, normal with a standard deviation of `spread`."""
    if walkers < 2 * position.size:
        raise ValueError(
            f"walkers must be at least twice the {position.size} coordinates, or they stay in a plane, got {walkers}"
        )
    positions = position[None] + spread * jax.random.normal(key, (walkers, position.size), position.dtype)
    return State(positions, jax.vmap(log_density)(positions))


def in_turn(key: Key[Array, ""], state: State, log_density: LogDensity, propose: Propose) -> tuple[State, Info]:
    r"""The first half of the walkers moved given the second, then the second given where the first now is.

    What leaves the density of each walker of a half invariant, given the other half, leaves $\prod_k \pi(x_k)$
    invariant; and a half moves at once.

    Source: Foreman-Mackey, Hogg, Lang and Goodman (2013), emcee: the MCMC hammer, PASP 125(925), 306-312, algorithm 3.
    """
    half = len(state.position) // 2
    first, second = (jax.tree.map(lambda x, part=part: x[part], state) for part in (slice(half), slice(half, None)))
    key_first, key_second = jax.random.split(key)
    first, told = _moved(key_first, first, second.position, log_density, propose)
    second, more = _moved(key_second, second, first.position, log_density, propose)
    return tuple(jax.tree.map(lambda *x: jnp.concatenate(x), *parts) for parts in ((first, second), (told, more)))


def _moved(
    key: Key[Array, ""], walkers: State, others: Float[Array, "others d"], log_density: LogDensity, propose: Propose
) -> tuple[State, Info]:
    def moved(key: Key[Array, ""], position: Float[Array, " d"], density: Float[Array, ""]) -> tuple[Any, Info]:
        key_propose, key_accept = jax.random.split(key)
        proposal, log_factor = propose(key_propose, position, others)
        new = log_density(proposal)
        log_ratio = new - density + log_factor
        state, acceptance, accepted = metropolis(key_accept, log_ratio, (proposal, new), (position, density))
        return state, Info(acceptance, accepted, jnp.isnan(log_ratio), jnp.ones((), int))

    state, info = jax.vmap(moved)(jax.random.split(key, len(walkers.position)), *walkers)
    return State(*state), info
