"""Whole paths from noise to the target as proposals that do not look where the chain is."""

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Key

from variate.mcmc.base import Info, LogDensity, metropolis, unbound
from variate.mcmc.random_walk import State


class Drawn(NamedTuple):
    position: Float[Array, " d"]
    log_density: Float[Array, ""]
    log_weight: Float[Array, ""]  # of the path to it: the density beside how likely the path was to be drawn


class Normal(NamedTuple):
    """A normal law by its mean and a root of its covariance."""

    mean: Float[Array, " d"]
    root: Float[Array, "d d"]  # lower triangle

    def sample(self, key: Key[Array, ""]) -> Float[Array, " d"]:
        return self.mean + self.root @ jax.random.normal(key, self.mean.shape, self.mean.dtype)

    def log_prob(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        white = solve_triangular(self.root, x - self.mean, lower=True)
        return -0.5 * white @ white - jnp.sum(jnp.log(jnp.sqrt(2 * jnp.pi) * jnp.diag(self.root)))


def normal(mean: Float[Array, " d"], covariance: Float[Array, "d d"]) -> Normal:
    return Normal(mean, jnp.linalg.cholesky(covariance))


def log_normal(x: Float[Array, " d"], variance: Float[Array, ""]) -> Float[Array, ""]:
    """Of independent coordinates around 0."""
    return -0.5 * jnp.sum(x**2 / variance + jnp.log(2 * jnp.pi * variance))


class PathProposals(eqx.Module):
    r"""Proposes what a path from noise ends with, wherever the chain is, and accepts by the weights of two paths.

    A path a with its end x is drawn of q(a, x), in which estimates may have any say, by random numbers that do not
    depend on the path; beside it stands a law r(a | x) of paths that lead to x, from which one can draw. With the same
    random numbers in both, their densities cancel in the weight $w = \pi(x)\, r(a \mid x) / q(a, x)$. A step draws a
    new path of r to where the chain is and one of q to x', and accepts x' with probability $\min(1, w' / w)$. This
    leaves $\pi(x)\, r(a \mid x)$ invariant, so $\pi$, reversibly, however bad the estimates are.

    Kept from step to step, a path that happens to have a large weight would hold the chain where it is for long.

    Source: Andrieu, Doucet and Holenstein (2010), Particle Markov chain Monte Carlo methods, J. R. Stat. Soc. B 72(3),
    269-342, section 4.2, here of single paths.
    """

    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    @abc.abstractmethod
    def log_odds(self, key: Key[Array, ""], position: Float[Array, " d"]) -> Float[Array, ""]:
        r"""$\log r(a \mid x) / q(a, x)$ of a path drawn of r."""

    @abc.abstractmethod
    def proposal(self, key: Key[Array, ""], position: Float[Array, " d"]) -> Drawn:
        """A draw that depends on nothing, but the shape of a position; by its weight, it is one of the target."""

    @abc.abstractmethod
    def evaluations(self) -> int:
        """Of the density, for a path."""

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        return State(position, self.log_density(position))

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_here, key_there, key_accept = jax.random.split(key, 3)
        here = Drawn(*state, state.log_density + self.log_odds(key_here, state.position))
        there = self.proposal(key_there, state.position)
        log_ratio = there.log_weight - here.log_weight
        chosen, acceptance, accepted = metropolis(key_accept, log_ratio, there, here)
        info = Info(acceptance, accepted, jnp.isnan(log_ratio), 2 * self.evaluations() + 1)
        return State(chosen.position, chosen.log_density), info
