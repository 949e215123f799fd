"""The length of paths, found from how far they carry all chains."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Bool, Float, Int

from variate.protocols import Move

_RATE, _KEPT, _KAPPA = 0.05, 0.95, 0.75
_HASTY = 64  # steps of a path that is followed before anything is known of the scale
_START = 2.0  # about the best for a normal law, in coordinates in which it is round


class PathLength(eqx.Module):
    r"""Ascent of $\frac14 E[(|y' - m|^2 - |y - m|^2)^2]$ in $\log T$, y the starts and y' the ends of paths.

    All in coordinates $S^{-1} x$, m their mean in this window so far. The slope of a path of length uT with the
    velocity v at its end is $uT\, (|y' - m|^2 - |y - m|^2)\, (y' - m) \cdot v$; the mean over chains, each with its
    acceptance as weight, is divided by the root of its mean square. The length to go on with is averaged as the step
    size is.

    Source: Hoffman, Radul and Sountsov (2021), An adaptive-MCMC scheme for setting trajectory lengths in Hamiltonian
    Monte Carlo, AISTATS, PMLR 130, section 3.
    """

    log_length: Float[Array, ""]
    log_averaged: Float[Array, ""]
    square: Float[Array, ""]  # of the slope, a mean with more weight on what is late
    center: Float[Array, " d"]  # m, as a position
    count: Float[Array, ""]  # of steps in this window
    windows: Int[Array, ""]  # before this one
    max_steps: int | Int[Array, ""]

    @staticmethod
    def begin(dimension: int, dtype: Any, max_steps: int | Int[Array, ""]) -> "PathLength":
        zero, start = jnp.zeros((), dtype), jnp.log(jnp.asarray(_START, dtype))
        center = jnp.zeros(dimension, dtype)
        return PathLength(start, start, zero, center, zero, jnp.zeros((), int), jnp.asarray(max_steps))

    def settings(self, learning: Bool[Array, ""]) -> dict[str, Any]:
        """Of the kernel, while it is learnt and thereafter."""
        steps = jnp.where(learning & (self.windows < 2), jnp.minimum(_HASTY, self.max_steps), self.max_steps)
        return {"length": jnp.exp(jnp.where(learning, self.log_length, self.log_averaged)), "max_steps": steps}

    def learned(self, kernel: Any, move: Move) -> "PathLength":
        """After one step more of all chains, which the kernel made."""
        slope = self._slope(kernel, move)
        count = self.count + 1
        square = _KEPT * self.square + (1 - _KEPT) * slope**2
        root = jnp.sqrt(square / (1 - _KEPT**count))
        log_length = self.log_length + _RATE * slope / jnp.where(root > 0, root, 1)
        log_length = jnp.clip(log_length, jnp.log(kernel.step_size), jnp.log(kernel.step_size * kernel.max_steps))
        late = count**-_KAPPA
        averaged = late * log_length + (1 - late) * self.log_averaged
        center = self.center + (jnp.mean(move.after.position, 0) - self.center) / count
        return PathLength(log_length, averaged, square, center, count, self.windows, self.max_steps)

    def renewed(self) -> "PathLength":
        """At the end of a window, where the scale is another: begun anew.

        Where chains are still on their way, paths grow so long that no slope tells of it.
        """
        begun = PathLength.begin(self.center.size, self.center.dtype, self.max_steps)
        return dataclasses.replace(begun, windows=self.windows + 1)

    def _slope(self, kernel: Any, move: Move) -> Float[Array, ""]:
        center = jnp.where(self.count > 0, self.center, jnp.mean(move.before.position, 0))
        each = slopes(kernel.scale, kernel.length, center, move)
        known = jnp.isfinite(each)
        weights = jnp.where(known, move.info.acceptance, 0)
        total = jnp.sum(weights)
        return jnp.sum(weights * jnp.where(known, each, 0)) / jnp.where(total > 0, total, 1)


def slopes(scale: Any, length: Float[Array, ""], center: Float[Array, " d"], move: Move) -> Float[Array, " chains"]:
    r"""Of $\frac14 (|y' - m|^2 - |y - m|^2)^2$ in $\log T$, for each chain."""
    start, end = (_round(scale, x - center[None]) for x in (move.before.position, move.after.end))
    gain = jnp.sum(end**2, 1) - jnp.sum(start**2, 1)
    return move.after.share * length * gain * jnp.sum(end * move.after.velocity, 1)


def _round(scale: Any, x: Float[Array, "chains d"]) -> Float[Array, "chains d"]:
    """S^-1 x of each."""
    if jnp.ndim(scale) == 2:
        return solve_triangular(jnp.asarray(scale), x.T, lower=True).T
    return jax.vmap(lambda row: row / scale)(x)
