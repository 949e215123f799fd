"""Pathfinder: where chains start, and the scale they start with, from normal laws along an optimizer's path."""

import math
import warnings
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from variate.checks import check_positive_int
from variate.mcmc.base import LogDensity
from variate.running.steps import Flat

from .scale import DENSE

_RISE, _BEND = 1e-4, 0.9  # of the conditions of Wolfe
_TRIES = 20  # step lengths of a line
_FLAT = 1e-8  # of the log density, what a step gains at the end of a path


class Normal(NamedTuple):
    """N(m, D + B C B^T), D diagonal: m is what a Newton step leads to."""

    mean: Float[Array, " d"]
    diagonal: Float[Array, " d"]
    wings: Float[Array, "d k"]  # B
    middle: Float[Array, "k k"]  # C

    @property
    def covariance(self) -> Float[Array, "d d"]:
        return jnp.diag(self.diagonal) + self.wings @ self.middle @ self.wings.T

    @property
    def variances(self) -> Float[Array, " d"]:
        return self.diagonal + jnp.sum((self.wings @ self.middle) * self.wings, 1)

    def draws(self, z: Float[Array, "n d"]) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
        """Of standard normal numbers, and their log densities."""
        root = jnp.sqrt(self.diagonal)
        q, r = jnp.linalg.qr(self.wings / root[:, None])
        lower = jnp.linalg.cholesky(jnp.eye(len(r), dtype=r.dtype) + r @ self.middle @ r.T)
        stretched = z + (z @ q) @ (lower - jnp.eye(len(r), dtype=r.dtype)).T @ q.T
        volume = 0.5 * jnp.sum(jnp.log(self.diagonal)) + jnp.sum(jnp.log(jnp.diag(lower)))
        log_law = -0.5 * jnp.sum(z**2, 1) - volume - 0.5 * z.shape[1] * math.log(2 * math.pi)
        return self.mean[None] + root[None] * stretched, log_law


class Memory(NamedTuple):
    """What the last steps of a path tell of the inverse Hessian of the negative log density."""

    moves: Float[Array, "j d"]  # S, the latest last; of steps that were not made, zeros
    bends: Float[Array, "j d"]  # Z: gradient before, less that after
    diagonal: Float[Array, " d"]  # alpha

    def normal(self, x: Float[Array, " d"], gradient: Float[Array, " d"]) -> Normal:
        """The law of section 3.1 at a point."""
        used = jnp.any(self.moves != 0, 1)
        products = self.moves @ self.bends.T
        upper = jnp.where(jnp.diag(~used), 1, jnp.triu(products))
        inverse = jnp.linalg.inv(upper)
        scaled = self.bends * self.diagonal[None]
        inner = jnp.diag(jnp.diag(products)) + scaled @ self.bends.T
        middle = jnp.block([[jnp.zeros_like(upper), -inverse], [-inverse.T, inverse.T @ inner @ inverse]])
        wings = jnp.concatenate([scaled.T, self.moves.T], 1)
        newton = self.diagonal * gradient + wings @ (middle @ (wings.T @ gradient))
        return Normal(x + newton, self.diagonal, wings, middle)

    def learned(self, s: Float[Array, " d"], z: Float[Array, " d"]) -> "Memory":
        """After one step more, unless the density bends the wrong way along it."""
        a, b, c = jnp.sum(self.diagonal * z**2), s @ z, jnp.sum(s**2 / self.diagonal)
        inverse = a / (b * self.diagonal) + z**2 / b - a * s**2 / (b * c * self.diagonal**2)
        moves, bends = (jnp.roll(x, -1, 0).at[-1].set(y) for x, y in ((self.moves, s), (self.bends, z)))
        after = Memory(moves, bends, 1 / inverse)
        sound = (b > 1e-12 * jnp.sum(z**2)) & jnp.all(inverse > 0) & jnp.all(jnp.isfinite(inverse))
        return jax.tree.map(lambda new, old: jnp.where(sound, new, old), after, self)


class _Path(NamedTuple):
    key: Key[Array, ""]
    x: Float[Array, " d"]
    value: Float[Array, ""]
    gradient: Float[Array, " d"]
    memory: Memory
    steps: Int[Array, ""]
    ended: Bool[Array, ""]
    best: Normal
    bound: Float[Array, ""]  # the best evidence lower bound, -inf before there is any


class Pathfinder(eqx.Module):
    r"""Starts chains where quasi-Newton steps lead, `vt.sample(key, target, vt.mcmc.Pathfinder())`.

    From each start a path climbs the log density. At its l-th point the inverse Hessian $\Sigma_l$ that the last steps
    tell gives the normal law $N(x_l + \Sigma_l \nabla \log \pi(x_l), \Sigma_l)$; the one of all l with the largest
    evidence lower bound, estimated from a few draws, is kept. The chain starts at a draw of it; the scale of the
    kernel, if it is left open, at that of the law with the largest bound of all chains. Where a path finds no law the
    chain starts where the path did, and a warning says so.

    Choose it where starts are far out and gradients dear. The wrong choice where the mode is not where the mass is, as
    in a funnel; and R-hat says less of chains that start close together than of those that start anywhere.

    Raises:
        ValueError: counts that are not positive.

    Source: Zhang, Carpenter, Gelman and Vehtari (2022), Pathfinder: parallel quasi-Newton variational inference, JMLR
    23(306), algorithms 1 to 4; its diagonal: Gilbert and Lemarechal (1989), Math. Program. 45, 407-435.
    """

    start: PyTree = None  # as of `vt.sample`, where paths start; each at a random place of its own if left out
    max_steps: int = eqx.field(static=True, default=200, kw_only=True)
    memory: int = eqx.field(static=True, default=6, kw_only=True)  # steps
    draws: int = eqx.field(static=True, default=10, kw_only=True)  # for a lower bound

    def __check_init__(self) -> None:
        for name in ("max_steps", "memory", "draws"):
            check_positive_int(name, getattr(self, name))

    def found(
        self, log_density: LogDensity, key: Key[Array, ""], x: Float[Array, " d"]
    ) -> tuple[Float[Array, " d"], Normal, Float[Array, ""]]:
        """A draw of the best law, the law and its bound, -inf where there is none and the draw is x."""
        key, last = jax.random.split(key)
        none = jnp.zeros((self.memory, x.size), x.dtype)
        memory = Memory(none, none, jnp.ones_like(x))
        value, gradient = jax.value_and_grad(log_density)(x)
        law, bound = memory.normal(x, gradient), jnp.full((), -jnp.inf, x.dtype)
        lost = ~jnp.isfinite(value)
        begun = _Path(key, x, value, gradient, memory, jnp.zeros((), jnp.int32), lost, law, bound)
        path = lax.while_loop(
            lambda path: (path.steps < self.max_steps) & ~path.ended, lambda path: self._after(log_density, path), begun
        )
        drawn = path.best.draws(jax.random.normal(last, (1, x.size), x.dtype))[0][0]
        sound = jnp.isfinite(path.bound) & jnp.isfinite(log_density(drawn))
        return jnp.where(sound, drawn, x), path.best, jnp.where(sound, path.bound, -jnp.inf)

    def _after(self, log_density: LogDensity, path: _Path) -> _Path:
        key, own = jax.random.split(path.key)
        newton = path.memory.normal(path.x, path.gradient).mean - path.x
        length = jnp.where(path.steps == 0, jnp.minimum(1, 1 / jnp.linalg.norm(path.gradient)), 1)
        x, value, gradient, rose = climbed(log_density, path.x, path.value, path.gradient, newton, length)
        memory = path.memory.learned(x - path.x, path.gradient - gradient)
        law = memory.normal(x, gradient)
        draws, log_law = law.draws(jax.random.normal(own, (self.draws, x.size), x.dtype))
        bound = jnp.mean(jax.vmap(log_density)(draws) - log_law)
        better = rose & (bound > path.bound)  # a bound that is no number is not
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), (law, bound), (path.best, path.bound))
        ended = ~rose | (value - path.value <= _FLAT * jnp.abs(value))
        return _Path(key, x, value, gradient, memory, path.steps + 1, ended, *best)


def climbed(
    log_density: LogDensity,
    x: Float[Array, " d"],
    value: Float[Array, ""],
    gradient: Float[Array, " d"],
    direction: Float[Array, " d"],
    length: Float[Array, ""],
) -> tuple[Float[Array, " d"], Float[Array, ""], Float[Array, " d"], Bool[Array, ""]]:
    """A point along a line that fulfils the weak conditions of Wolfe, by bisection; and whether it is one.

    Source: Lewis and Overton (2013), Nonsmooth optimization via quasi-Newton methods, Math. Program. 141, 135-163.
    """
    slope = gradient @ direction

    def at(t: Float[Array, ""]) -> tuple[Float[Array, " d"], Float[Array, ""], Float[Array, " d"]]:
        there = x + t * direction
        return there, *jax.value_and_grad(log_density)(there)

    def judged(t: Float[Array, ""], found: Any) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
        high = ~(found[1] >= value + _RISE * t * slope) | ~jnp.all(jnp.isfinite(found[2]))
        return high, ~high & (found[2] @ direction > _BEND * slope)

    def more(carry: Any) -> Bool[Array, ""]:
        _, _, t, tries, found = carry
        high, steep = judged(t, found)
        return (tries < _TRIES) & (high | steep)

    def tried(carry: Any) -> Any:
        low, above, t, tries, found = carry
        high, _ = judged(t, found)
        low, above = jnp.where(high, low, t), jnp.where(high, t, above)
        t = jnp.where(jnp.isinf(above), 2 * low, 0.5 * (low + above))
        return low, above, t, tries + 1, at(t)

    zero = jnp.zeros((), x.dtype)
    length = jnp.asarray(length, x.dtype)
    begun = (zero, jnp.full((), jnp.inf, x.dtype), length, jnp.zeros((), jnp.int32), at(length))
    _, _, t, _, found = lax.while_loop(more, tried, begun)
    rose = ~judged(t, found)[0] & (slope > 0)
    x, value, gradient = jax.tree.map(lambda new, old: jnp.where(rose, new, old), found, (x, value, gradient))
    return x, value, gradient, rose


def led(
    finder: Pathfinder, target: Any, key: Key[Array, ""], positions: PyTree[Array]
) -> tuple[PyTree[Array], np.ndarray | None]:
    """Positions of chains that are led on from these, and the scale of the best law, None where there is none."""
    like = jax.tree.map(lambda x: x[0], positions)
    keys = jax.random.split(key, len(jax.tree.leaves(positions)[0]))
    found, laws, bounds = _led(finder, target, like, keys, positions)
    lost = int(np.sum(~np.isfinite(bounds)))
    if lost:
        words = f"{lost} of {len(keys)} paths found no normal law, and their chains start where the paths did"
        warnings.warn(f"Pathfinder: {words}", RuntimeWarning, stacklevel=4)
    if lost == len(keys):
        return found, None
    law = jax.tree.map(lambda x: x[int(np.argmax(bounds))], laws)
    dense = law.mean.size <= DENSE
    scale = np.asarray(jnp.linalg.cholesky(law.covariance) if dense else jnp.sqrt(law.variances))
    return found, scale if np.all(np.isfinite(scale)) else None


@eqx.filter_jit
def _led(finder: Pathfinder, target: Any, like: Any, keys: Key[Array, " chains"], positions: PyTree[Array]) -> Any:
    unravel = ravel_pytree(like)[1]
    flat = jax.vmap(lambda tree: ravel_pytree(tree)[0])(positions)
    found, laws, bounds = jax.vmap(lambda key, x: finder.found(Flat(target, like), key, x))(keys, flat)
    return jax.vmap(unravel)(found), laws, bounds
