"""The adaptation of a kernel while chains warm up: its step size in every step, its scale at the ends of windows."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from variate.compiling import sooner
from variate.mcmc import parallel_tempering
from variate.protocols import Move, Steps

from . import scale
from .step_size import DualAveraging

_FEWEST = 2  # positions of which there is a scale
# Of 1,000 steps of the last window 3 to 16 diverged on bananas, of y ~ N(x^2, 0.25 to 1) with x ~ N(1, 2). With half of
# the rejections 12 of 15 runs were more than 4 errors off; with a quarter, beyond 4 divergent steps, 1 of 15.
_STEEP = 4e-3
_HASTY = 6  # doublings of a path that is followed before anything is known of the scale


class Tuned(eqx.Module):
    """A kernel and what has been learned of its settings."""

    template: Any
    step: DualAveraging | None
    scale: Float[Array, "..."] | None
    doublings: Any
    betas: Float[Array, " levels"] | None
    wanted: Any  # acceptance
    own: Any  # what the kernel's own `learner(dimension, dtype)` knows: `settings`, `learned`, `renewed`
    learning: Bool[Array, ""]

    def kernel(self, log_density: Any) -> Any:
        found: dict[str, Any] = {"log_density": log_density}
        if self.step is not None:
            found["step_size"] = jnp.where(self.learning, self.step.step_size, self.step.averaged)
        if self.scale is not None:
            found["scale"] = self.scale
        if self.doublings is not None:
            found["max_doublings"] = self.doublings
        if self.betas is not None:
            found["betas"] = self.betas
        if self.own is not None:
            found |= self.own.settings(self.learning)
        return dataclasses.replace(self.template, **found)

    def learned(self, move: Move) -> "Tuned":
        """After a step of all chains."""
        step = own = None
        if self.step is not None:
            acceptance = jnp.mean(jnp.asarray(move.info.acceptance, self.step.center.dtype))
            step = self.step.learned(acceptance, self.wanted)
        if self.own is not None:
            own = self.own.learned(self.kernel(self.template.log_density), move)
        found = jax.tree.map(lambda new, old: jnp.where(self.learning, new, old), (step, own), (self.step, self.own))
        return dataclasses.replace(self, step=found[0], own=found[1])


class Warmup:
    r"""What a kernel leaves as `None`, its `step_size` and its `scale`, found from the steps of all chains together.

    Windows of 1, 1, 2, 4, ... blocks end with a new scale, from the draws and, where there are any, the gradients of
    the window. The step size is found by dual averaging throughout, begun anew after each window, and for an eighth of
    all blocks in the end. There half of the rejections are allowed where the last window had divergent steps, which
    smaller steps avoid, and a quarter where these were more than 4 in 1,000. Up to 200 coordinates the scale is a lower
    triangle. The first window begins with the scale `begun`, or with ones if it is left out.
    """

    def __init__(self, kernel: Any, dimension: int, blocks: int, dtype: Any, begun: Any = None):
        self.template, self.blocks, self.dtype = kernel, blocks, dtype
        self.dimension, self.dense = dimension, dimension <= scale.DENSE
        self.ends, self.begun = _ends(blocks), begun

    def begin(self) -> Tuned:
        found = {f.name: getattr(self.template, f.name) for f in dataclasses.fields(self.template)}
        step = scale = None
        if "step_size" in found and found["step_size"] is None:
            step = DualAveraging.around(jnp.asarray(self.dimension**-0.25, self.dtype))
        if "scale" in found and found["scale"] is None:
            round_one = np.eye(self.dimension) if self.dense else np.ones(self.dimension)
            scale = jnp.asarray(round_one if self.begun is None else self.begun, self.dtype)
        doublings = found.get("max_doublings")
        if doublings is not None:
            doublings = jnp.asarray(min(_HASTY, doublings) if self.ends else doublings)
        betas = None
        if "betas" in found and found["betas"] is None:
            betas = jnp.asarray(parallel_tempering.evenly(self.template.levels), self.dtype)
        wanted = None if step is None else jnp.asarray(self.template.acceptance, self.dtype)
        learner = getattr(self.template, "learner", None)
        own = None if learner is None else learner(self.dimension, self.dtype)
        return Tuned(self.template, step, scale, doublings, betas, wanted, own, jnp.asarray(self.blocks > 0))

    def proceed(self, tuned: Tuned, block: int, steps: Sequence[Steps]) -> Tuned:
        """After a block of the warm-up, of which the steps of all are known."""
        if block + 1 == self.blocks:
            return dataclasses.replace(tuned, learning=jnp.asarray(False))
        if block + 1 not in self.ends:
            return tuned
        window = steps[max((end for end in self.ends if end < block + 1), default=0) : block + 1]
        if tuned.scale is not None:
            tuned = dataclasses.replace(tuned, scale=jnp.asarray(self._scale(window, tuned.scale), self.dtype))
        if tuned.step is not None:
            lost = np.mean([s.info.divergent for s in window]) if block + 1 == self.ends[-1] else 0.0
            step, wanted = _again(tuned.step, tuned.wanted, 0.25 if lost > _STEEP else 0.5 if lost else 1.0)
            tuned = dataclasses.replace(tuned, step=step, wanted=wanted)
        if tuned.betas is not None:
            refused = np.mean([np.mean(s.info.refused, (0, 1)) for s in window], 0)
            betas = parallel_tempering.respaced(np.asarray(tuned.betas), refused)
            tuned = dataclasses.replace(tuned, betas=jnp.asarray(betas, self.dtype))
        if tuned.doublings is not None and block + 1 >= self.ends[:2][-1]:
            tuned = dataclasses.replace(tuned, doublings=jnp.asarray(self.template.max_doublings))
        if tuned.own is not None:
            tuned = dataclasses.replace(tuned, own=tuned.own.renewed())
        return tuned

    def _scale(self, window: Sequence[Steps], before: Float[Array, "..."]) -> Any:
        parts = [(s.position,) if s.gradient is None else (s.position, s.gradient) for s in window]
        found = [np.concatenate(rows) for rows in zip(*[self._rows(*part) for part in parts], strict=True)]
        # Positions that overflow, and edges at which the gradient does, are of no scale.
        finite = np.all([np.isfinite(rows).all(1) for rows in found], axis=0)
        if np.sum(finite) < _FEWEST:
            return before
        return (scale.of_draws, scale.of_gradients)[len(found) - 1](*[x[finite] for x in found], dense=self.dense)

    def _rows(self, *found: Any) -> list[np.ndarray]:
        return [np.asarray(x, float).reshape(-1, self.dimension) for x in found]


# As one function: one by one, its operations took a fifth of a second to compile.
@sooner(once=True)
def _again(step: DualAveraging, wanted: Array, share: float | Array) -> tuple[DualAveraging, Array]:
    """From the step size that was found, with so much of the rejections."""
    # Rounded as wherever else it is asked for: XLA would leave out the exponential of which a logarithm is taken.
    averaged = jax.lax.optimization_barrier(step.averaged)
    return DualAveraging.around(averaged), 1 - (1 - wanted) * share


def _ends(blocks: int) -> list[int]:
    """After which blocks a window ends: windows of 1, 1, 2, 4, ..., and what is left over joins the last."""
    last, ends, size, at = blocks - max(1, blocks // 8), [], 1, 0
    while at + size <= last:
        at += size
        ends.append(at)
        size = max(at, 1)
    return [*ends[:-1], last] if ends else []
