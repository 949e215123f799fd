"""Steps of two chains at once that bring them together, each a step of its own kernel when looked at alone."""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from variate.checks import check_fraction
from variate.mcmc.base import Info, LogDensity, is_kernel, metropolis, unbound
from variate.mcmc.random_walk import RandomWalk


class Pair(NamedTuple):
    one: Any
    other: Any

    @property
    def met(self) -> Bool[Array, ""]:
        return jnp.all(self.one.position == self.other.position)


class Reflected(eqx.Module):
    r"""`RandomWalk` whose proposals coincide as often as they can, and are mirror images elsewhere.

    With $z = (x - y) / s$ and $\xi$ normal, the proposals are $x + s \xi$ and, with probability
    $\min(1, \phi(\xi + z) / \phi(\xi))$, the same, else $y + s (\xi - 2 e e^\top \xi)$, $e = z / |z|$; both are
    accepted by one uniform number.

    The kernel for few dimensions. In many, proposals seldom coincide: `Sometimes`.

    Raises:
        ValueError: a scale that is not positive.

    Source: Jacob, O'Leary and Atchadé (2020), Unbiased Markov chain Monte Carlo methods with couplings, J. R. Stat.
    Soc. B 82(3), 543-600, section 4.1; Bou-Rabee, Eberle and Zimmer (2020), Coupling and convergence for Hamiltonian
    Monte Carlo, Ann. Appl. Probab. 30(3), 1209-1250, section 2.3, for the mirror.
    """

    scale: float | Float[Array, ""] | Float[Array, " d"]  # s, in the units of the position
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        RandomWalk(self.scale)

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> Any:
        return self._walk.init(key, position)

    def step(self, key: Key[Array, ""], state: Any) -> tuple[Any, Info]:
        return self._walk.step(key, state)

    def together(self, key: Key[Array, ""], pair: Pair) -> Pair:
        """A step of both."""
        key_move, key_accept, key_one, key_other = jax.random.split(key, 4)
        positions = mirrored(key_move, pair.one.position, pair.other.position, self.scale)
        moved = []
        for state, position, own in zip(pair, positions, (key_one, key_other), strict=True):
            proposal = self.init(own, position)
            log_ratio = proposal.log_density - state.log_density
            moved.append(metropolis(jax.random.clone(key_accept), log_ratio, proposal, state)[0])
        return Pair(*moved)

    @property
    def _walk(self) -> RandomWalk:
        return RandomWalk(self.scale, log_density=self.log_density)


class Sometimes(eqx.Module):
    r"""A step of a kernel by the same random numbers for both chains, and with probability $\gamma$ one of `Reflected`.

    The first brings chains of a target that is nearly log-concave as close as one likes, and the second makes them
    meet. Its scale has to be of the size of what is left between them then, which the first makes small: a thousandth
    of the target's spread, say.

    Raises:
        TypeError: no kernel.
        ValueError: a probability that is not between 0 and 1.

    Source: Heng and Jacob (2019), Unbiased Hamiltonian Monte Carlo with couplings, Biometrika 106(2), 287-302.
    """

    kernel: Any
    meeting: Reflected
    probability: float = eqx.field(static=True, default=0.05)  # gamma
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        if not is_kernel(self.kernel):
            raise TypeError(f"kernel must be a kernel, vt.mcmc.HMC(0.1, 10, 1.0) say, got {self.kernel}")
        check_fraction("probability", self.probability)

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> Any:
        return self._given(self.kernel).init(key, position)

    def step(self, key: Key[Array, ""], state: Any) -> tuple[Any, Info]:
        key_which, key_step = jax.random.split(key)
        pair = self._by(key_which, key_step, Pair(state, state))
        moved = jnp.any(pair.one.position != state.position)
        return pair.one, Info(moved.astype(state.position.dtype), moved, jnp.asarray(False))

    def together(self, key: Key[Array, ""], pair: Pair) -> Pair:
        """A step of both."""
        key_which, key_step = jax.random.split(key)
        return self._by(key_which, key_step, pair)

    def _by(self, key_which: Key[Array, ""], key: Key[Array, ""], pair: Pair) -> Pair:
        def near(pair: Pair) -> Pair:
            walk, again = self._given(self.meeting), self._given(self.kernel)
            keys = jax.random.split(key, 5)
            begun = [walk.init(own, state.position) for own, state in zip(keys[:2], pair, strict=True)]
            moved = walk.together(keys[2], Pair(*begun))
            return Pair(*(again.init(own, state.position) for own, state in zip(keys[3:], moved, strict=True)))

        def common(pair: Pair) -> Pair:
            kernel = self._given(self.kernel)
            return Pair(*(kernel.step(jax.random.clone(key), state)[0] for state in pair))

        return jax.lax.cond(jax.random.bernoulli(key_which, self.probability), near, common, pair)

    def _given(self, kernel: Any) -> Any:
        return dataclasses.replace(kernel, log_density=self.log_density)


def mirrored(
    key: Key[Array, ""], one: Float[Array, " d"], other: Float[Array, " d"], scale: Any
) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    """Draws of normal laws about two centres: equal as often as they can be, else mirror images."""
    key_move, key_same = jax.random.split(key)
    xi = jax.random.normal(key_move, one.shape, one.dtype)
    z = (one - other) / scale
    apart = jnp.sum(z**2)
    same = jnp.log(jax.random.uniform(key_same, dtype=one.dtype)) < -0.5 * (jnp.sum((xi + z) ** 2) - jnp.sum(xi**2))
    image = xi - 2 * z * (z @ xi) / jnp.where(apart > 0, apart, 1)
    moved = one + scale * xi
    return moved, jnp.where(same, moved, other + scale * image)
