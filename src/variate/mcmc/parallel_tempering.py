"""Parallel tempering: chains of flatter and flatter densities, which swap their places."""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Key
from scipy.interpolate import PchipInterpolator

from variate.checks import check_at_least, check_distribution, describe
from variate.protocols import Kernel

from .base import Info, LogDensity, given, is_kernel, unbound, vector_drawn, vector_log_prob, walkers_of


class State(NamedTuple):
    position: Float[Array, " d"]  # at beta = 1
    log_density: Float[Array, ""]
    others: Float[Array, "levels_less_one d"]  # from beta = 0 on


class SwapInfo(NamedTuple):
    """`Info`, of the kernels at all levels, and of each pair of neighbours how likely a swap was refused."""

    acceptance: Float[Array, ""]
    accepted: Bool[Array, ""]
    divergent: Bool[Array, ""]
    evaluations: Int[Array, ""]
    refused: Float[Array, " levels_less_one"]


class ParallelTempering(eqx.Module):
    r"""Chains $x_0, \dots, x_N$ of $\pi_\beta \propto \rho^{1 - \beta} \pi^\beta$, $0 = \beta_0 < \dots < \beta_N = 1$.

    $x_0$ is a new draw of the reference $\rho$, all others make a step of a kernel that leaves their density invariant.
    Then the neighbours i and i + 1 of every even i swap places with probability
    $\min(1, e^{(\beta_{i+1} - \beta_i)(V(x_i) - V(x_{i+1}))})$, $V = \log \pi - \log \rho$; after one more step of all,
    those of every odd i. That order carries states from the reference to the target at a speed that does not fall with
    the number of levels, as it does where pairs are chosen at random. The product of all densities is left invariant,
    not reversibly; the draws are those of $x_N$.

    Choose it where modes are so far apart that no other kernel goes from one to the other, and there is a reference
    that reaches all of them. With as many levels as make a swap refused about half of the time it is best; what it
    costs is the kernel's cost times twice the levels. The wrong choice where a single chain finds all modes, and where
    the reference misses one: nothing tells that.

    Raises:
        TypeError: no kernel, or one without its settings; no distribution.
        ValueError: betas that do not increase from 0 to 1, or fewer than two levels.

    Source: Geyer (1991), Markov chain Monte Carlo maximum likelihood, Computing Science and Statistics, 156-163; Syed,
    Bouchard-Côté, Deligiannidis and Doucet (2022), Non-reversible parallel tempering: a scalable highly parallel MCMC
    scheme, J. R. Stat. Soc. B 84(2), 321-350, algorithms 1 and 2.
    """

    kernel: Any  # with all of its settings; or a function of beta that returns it, for wide steps where it is flat
    reference: Any  # rho, a distribution on vectors like the position, reaching all modes: a prior say
    betas: Float[Array, " levels"] | None = None  # found in the warm-up if not given: all pairs refuse alike
    levels: int = eqx.field(static=True, default=10)  # how many, where they are to be found
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        check_at_least("levels", self.levels, 2)
        check_distribution(self.reference)
        _check_betas(self.betas)
        if isinstance(self.kernel, Kernel):
            _check_kernel(self.kernel)
        elif not callable(self.kernel):
            raise TypeError(f"kernel must be a kernel or a function of beta, got {describe(self.kernel)}")

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        others = jnp.broadcast_to(position, (len(given("betas", self.betas)) - 1, position.size))
        return State(position, self.log_density(position), others)

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, SwapInfo]:
        def once(at: tuple[Array, Array], of: tuple[Array, Array]) -> tuple[tuple[Array, Array], SwapInfo]:
            x, log_density, info = self._round(of[0], at[0], of[1])
            return (x, log_density), info

        begun = (jnp.concatenate([state.others, state.position[None]]), state.log_density)
        (x, log_density), told = lax.scan(once, begun, (jax.random.split(key, 2), jnp.arange(2)))
        accepted, divergent = jnp.any(told.accepted), jnp.any(told.divergent)
        evaluations, refused = jnp.sum(told.evaluations), jnp.mean(told.refused, 0)
        info = SwapInfo(jnp.mean(told.acceptance), accepted, divergent, evaluations, refused)
        return State(x[-1], log_density, x[:-1]), info

    def _round(
        self, key: Key[Array, ""], x: Float[Array, "levels d"], parity: Int[Array, ""]
    ) -> tuple[Float[Array, "levels d"], Float[Array, ""], SwapInfo]:
        """A step at each level, then the swaps of every second pair."""
        betas = jnp.asarray(self.betas, x.dtype)
        key_draw, key_swap, key_moves = jax.random.split(key, 3)
        draw = vector_drawn("reference", self.reference, key_draw, x[0])
        moved, infos = jax.vmap(self._move)(jax.random.split(key_moves, len(betas) - 1), betas[1:], x[1:])
        x = jnp.concatenate([draw[None], moved])
        log_densities = jax.vmap(self.log_density)(x)
        log_references = jax.vmap(partial(vector_log_prob, self.reference))(x)
        log_ratios = swap_log_ratios(betas, log_densities - log_references)
        swap = jnp.where(jnp.isnan(log_ratios), 0, jnp.exp(jnp.minimum(log_ratios, 0)))
        decided = jax.random.uniform(key_swap, swap.shape, swap.dtype) < swap
        order = swapped(decided & (jnp.arange(len(swap)) % 2 == parity))
        # Where the reference has no mass, none of the flatter densities has: no swap ever leads out.
        divergent = jnp.any(jnp.isnan(log_ratios)) | jnp.any(log_references == -jnp.inf) | jnp.any(infos.divergent)
        evaluations = jnp.sum(jnp.broadcast_to(infos.evaluations, infos.acceptance.shape)) + 2 * len(betas) - 1
        info = SwapInfo(jnp.mean(infos.acceptance), jnp.any(infos.accepted), divergent, evaluations, 1 - swap)
        return x[order], log_densities[order][-1], info

    def _move(
        self, key: Key[Array, ""], beta: Float[Array, ""], position: Float[Array, " d"]
    ) -> tuple[Float[Array, " d"], Info]:
        def log_density(x: Float[Array, " d"]) -> Float[Array, ""]:
            flat = jnp.where(beta < 1, (1 - beta) * vector_log_prob(self.reference, x), 0)
            return flat + beta * self.log_density(x)

        key_init, key_step = jax.random.split(key)
        kernel: Any = self.kernel if isinstance(self.kernel, Kernel) else _check_kernel(self.kernel(beta))
        kernel = dataclasses.replace(kernel, log_density=log_density)
        state, info = kernel.step(key_step, kernel.init(key_init, position))
        return state.position, info


def swap_log_ratios(
    betas: Float[Array, " levels"], potentials: Float[Array, " levels"]
) -> Float[Array, " levels_less_one"]:
    r"""$(\beta_{i+1} - \beta_i)(V(x_i) - V(x_{i+1}))$ of each pair of neighbours."""
    return (betas[1:] - betas[:-1]) * (potentials[:-1] - potentials[1:])


def swapped(pairs: Bool[Array, " levels_less_one"]) -> Int[Array, " levels"]:
    """Which state comes to each level when these pairs, of which none touch, swap."""
    up = pairs.astype(int)
    return jnp.arange(len(up) + 1) + jnp.append(up, 0) - jnp.append(0, up)


def respaced(betas: np.ndarray, refused: np.ndarray) -> np.ndarray:
    r"""The betas between which swaps are refused alike, where those of neighbours were refused so often.

    At equal distances of $\Lambda(\beta_i) = \sum_{j < i} r_j$, between which a monotone cubic is followed.

    Source: Syed et al. (2022), section 5.
    """
    barrier = np.append(0, np.cumsum(np.maximum(refused, 1e-6)))  # so that it increases
    found = PchipInterpolator(barrier, betas)(np.linspace(0, barrier[-1], len(betas)))
    return np.append(np.append(0, found[1:-1]), 1)  # which rounding could miss


def evenly(levels: int) -> np.ndarray:
    return np.linspace(0, 1, levels)


def _check_kernel(kernel: Any) -> Any:
    if not is_kernel(kernel) or walkers_of(kernel) > 1:
        raise TypeError(f"kernel must be a kernel, vt.mcmc.HMC(0.1, 10, 1.0) say, got {describe(kernel)}")
    for name in ("step_size", "scale"):
        if getattr(kernel, name, 1.0) is None:
            raise TypeError(f"kernel must have a {name}, which the warm-up of parallel tempering does not find")
    return kernel


def _check_betas(betas: Any) -> None:
    if betas is None or isinstance(betas, Tracer):
        return
    found = np.asarray(betas)
    if found.dtype == object:
        return
    if found.ndim != 1 or len(found) < 2 or found[0] != 0 or found[-1] != 1 or not np.all(np.diff(found) > 0):
        raise ValueError(f"betas must increase from 0 to 1, got {betas}")
