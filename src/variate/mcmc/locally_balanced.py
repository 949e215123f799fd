"""Locally balanced proposals on binary vectors: which coordinate is flipped depends on what each flip would do."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from .base import Info, LogDensity, metropolis, unbound


class State(NamedTuple):
    position: Float[Array, " d"]
    log_density: Float[Array, ""]
    log_ratios: Float[Array, " d"]  # of the density after the flip of each coordinate, exact or not, to that before


def root(log_ratio: Float[Array, " d"]) -> Float[Array, " d"]:
    r"""$\log \sqrt t$ of $\log t$."""
    return log_ratio / 2


class LocallyBalanced(eqx.Module):
    r"""Locally balanced flips of a binary vector: flips coordinate i with probability $q_i(x) \propto g(t_i)$.

    $t_i = \pi(x^{(i)}) / \pi(x)$ where $x^{(i)}$ is x with coordinate i flipped, and g is balanced,
    $g(t) = t\, g(1/t)$: $\sqrt t$, or $t / (1 + t)$. It accepts with probability
    $\min(1, t_i\, q_i(x^{(i)}) / q_i(x))$, which leaves $\pi$ invariant for every g, balanced or not.

    Choose it where the density is cheap: a step evaluates d + 1 of them. Where it is a smooth function, evaluated at 0
    and 1, `GibbsWithGradients` has all flips from one gradient. The wrong choice where states of high density are more
    than a flip apart; and of a constant density, where it never rejects and so never stays.

    The field `balance` is $\log g$ as a function of $\log t$, coordinate by coordinate, $\log \sqrt t$ unless given;
    `jax.nn.log_sigmoid` is $t / (1 + t)$.

    Raises:
        TypeError: a balance that is no function.
        ValueError: a position of other numbers than 0 and 1. Under `jit` it is never left, and steps are divergent.

    Source: Zanella (2020), Informed proposals for local MCMC in discrete spaces, J. Am. Stat. Assoc. 115(530), 852-865,
    theorem 1.
    """

    balance: Any = eqx.field(static=True, default=root)  # log g
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        if not callable(self.balance):
            raise TypeError(f"balance must be a function of a log ratio, jax.nn.log_sigmoid say, got {self.balance!r}")

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        if not isinstance(position, Tracer) and not np.all(np.isin(np.asarray(position), (0, 1))):
            raise ValueError(f"position must hold nothing but 0 and 1, got {position}")
        log_density, log_ratios = self.flips(position)
        binary = jnp.all((position == 0) | (position == 1))
        return State(position, log_density, jnp.where(binary, log_ratios, jnp.nan))

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_flip, key_accept = jax.random.split(key)
        forth = self.log_proposal(state)
        flip = jax.random.categorical(key_flip, forth)
        flipped = state.position.at[flip].set(1 - state.position[flip])
        proposal = State(flipped, *self.flips(flipped))
        log_ratio = proposal.log_density - state.log_density + self.log_proposal(proposal)[flip] - forth[flip]
        divergent = jnp.isnan(log_ratio) | jnp.any(jnp.isnan(state.log_ratios))
        evaluations = self.evaluations(state.position.size)
        state, acceptance, accepted = metropolis(key_accept, log_ratio, proposal, state)
        return state, Info(acceptance, accepted, divergent, evaluations)

    def log_proposal(self, state: State) -> Float[Array, " d"]:
        """Of the flip of each coordinate; a density that is no number counts as no mass."""
        weights = self.balance(state.log_ratios)
        return jax.nn.log_softmax(jnp.where(jnp.isnan(weights), -jnp.inf, weights))

    def flips(self, position: Float[Array, " d"]) -> tuple[Float[Array, ""], Float[Array, " d"]]:
        """The log density, and by how much each flip changes it."""
        flipped = jnp.abs(position[None, :] - jnp.eye(position.size, dtype=position.dtype))
        log_density = self.log_density(position)
        return log_density, jax.vmap(self.log_density)(flipped) - log_density

    def evaluations(self, dimension: int) -> int:
        return dimension + 1


class GibbsWithGradients(LocallyBalanced):
    r"""Locally balanced flips whose ratios are those of a first-order Taylor series, from one gradient.

    $\log t_i \approx (1 - 2 x_i)\, \partial_i \log \pi(x)$ in `LocallyBalanced`; the acceptance has the exact density,
    so that $\pi$ is left invariant however bad the series.

    Choose it where the log density is a smooth function, evaluated at 0 and 1: quadratic ones, and networks. The wrong
    choice where it bends much between 0 and 1, or has no gradient there (comparisons, roundings): flips are then chosen
    at random, or badly and rejected.

    Fields and errors are those of `LocallyBalanced`.

    Source: Grathwohl, Swersky, Hashemi, Duvenaud and Maddison (2021), Oops I took a gradient: scalable sampling for
    discrete distributions, ICML, PMLR 139, 3831-3841.
    """

    def flips(self, position: Float[Array, " d"]) -> tuple[Float[Array, ""], Float[Array, " d"]]:
        log_density, gradient = jax.value_and_grad(self.log_density)(position)
        return log_density, (1 - 2 * position) * gradient

    def evaluations(self, dimension: int) -> int:
        return 1
