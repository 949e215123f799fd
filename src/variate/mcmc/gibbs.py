"""Gibbs sampling in blocks: kernels that take turns, each on coordinates of its own."""

import dataclasses
import operator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from variate.checks import describe

from .base import LogDensity, is_kernel, unbound, walkers_of


class State(NamedTuple):
    position: Float[Array, " d"]


class Info(NamedTuple):
    """What a step tells of itself; `acceptances` are those of its kernels."""

    acceptance: Float[Array, ""]
    accepted: Bool[Array, ""]
    divergent: Bool[Array, ""]
    evaluations: Int[Array, ""] | int
    acceptances: Float[Array, " kernels"]


def _indices(blocks: Any) -> tuple[tuple[int, ...], ...]:
    try:
        found = tuple(tuple(operator.index(index) for index in block) for block in blocks)
    except TypeError:
        raise TypeError(f"blocks must be sequences of indices of coordinates, got {blocks}") from None
    for block in found:
        if not block or min(block) < 0 or len({*block}) < len(block):
            raise ValueError(f"blocks must hold indices from 0 on, each once in a block, got {block}")
    return found


class Gibbs(eqx.Module):
    r"""Gibbs sampling in blocks: the k-th kernel makes a step of $x_{B_k}$ given all other coordinates, k = 1, 2, ....

    Each kernel is given the density of its block, $\pi(x_{B_k} \mid x_{-B_k})$ up to a constant, and leaves it
    invariant; so all together leave $\pi$ invariant. The order is that of the blocks, so it is not reversible even if
    each kernel is. Blocks may share coordinates, and must reach all. `acceptance` is the mean of the kernels';
    `accepted`, that any moved; `divergent`, that any diverged.

    Choose it where parts of the target ask for different kernels or scales, a few awkward coordinates beside many
    smooth ones say. The wrong choice where the blocks depend on each other strongly: it moves one while the others are
    held. Each kernel starts anew in every step, with one more evaluation of the density; what one leaves as `None` is
    found in the warm-up, its scale from draws alone.

    Raises:
        TypeError: kernels that are none, or blocks that are no indices.
        ValueError: not a block for each kernel, an index that is negative or twice in a block; while it runs, a
            coordinate without a block, or a block beyond the position.

    Source: Geman and Geman (1984), Stochastic relaxation, Gibbs distributions, and the Bayesian restoration of images,
    IEEE Trans. Pattern Anal. Mach. Intell. 6(6), 721-741; by kernels that leave the conditionals invariant: Tierney
    (1994), Markov chains for exploring posterior distributions, Annals of Statistics 22(4), 1701-1728, section 2.4.
    """

    kernels: tuple[Any, ...] = eqx.field(converter=tuple)
    blocks: tuple[tuple[int, ...], ...] = eqx.field(static=True, converter=_indices)  # one for each kernel
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        for kernel in self.kernels:
            if not is_kernel(kernel) or walkers_of(kernel) > 1:
                raise TypeError(f"kernels must be kernels, vt.mcmc.RandomWalk(0.5) say, got {describe(kernel)}")
        if len(self.kernels) != len(self.blocks) or not self.kernels:
            raise ValueError(f"blocks must be one for each kernel, got {len(self.blocks)} for {len(self.kernels)}")

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        if {index for block in self.blocks for index in block} != set(range(position.size)):
            raise ValueError(f"blocks must hold each of {position.size} coordinates and no others, got {self.blocks}")
        return State(position)

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        told = []
        for kernel, block, own in zip(self.kernels, self.blocks, jax.random.split(key, len(self.blocks)), strict=True):
            state, info = self._turn(own, state, kernel, jnp.asarray(block))
            told.append(info)
        acceptances = jnp.stack([info.acceptance for info in told])
        accepted, divergent = (
            jnp.any(jnp.stack(x)) for x in zip(*((i.accepted, i.divergent) for i in told), strict=True)
        )
        evaluations = sum(info.evaluations + 1 for info in told)
        return state, Info(jnp.mean(acceptances), accepted, divergent, evaluations, acceptances)

    def _turn(self, key: Key[Array, ""], state: State, kernel: Any, block: Int[Array, " b"]) -> tuple[State, Any]:
        def conditional(part: Float[Array, " b"]) -> Float[Array, ""]:
            return self.log_density(state.position.at[block].set(part))

        key_init, key_step = jax.random.split(key)
        kernel = dataclasses.replace(kernel, log_density=conditional)
        part, info = kernel.step(key_step, kernel.init(key_init, state.position[block]))
        return State(state.position.at[block].set(part.position)), info
