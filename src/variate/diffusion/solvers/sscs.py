"""Symmetric splitting of the reverse diffusion of augmented processes: all but the score is solved exactly."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from variate.checks import check_positive_int

from ..processes.augmented import (
    AugmentedProcess,
    check_augmented,
    check_variables,
    exact_moments,
    exact_transitions,
)
from ..processes.base import Level
from .base import Coefficient, Stage, State


class SSCS(eqx.Module):
    r"""Half a step of $dz = -(D - Q)\, S^{-1} z\, dt + \sqrt{2 D}\, dw$, a step of the score, and half a step again.

    The diffusion that leads back, $dz = ((D + Q)\, S^{-1} z + 2 D\, s(z, t))\, dt + \sqrt{2 D}\, dw$ with the score s,
    is that one, which leaves the normal law of covariance S as it is and is solved exactly, and
    $dz = 2 D\, (s(z, t) + S^{-1} z)\, dt$, which is all that the data add: by Euler's method at the time where the step
    begins, or with `order` 2 by the midpoint rule at the time in its middle, for two evaluations a step. Where the data
    are what noise leads to, each step is exact, whatever its length.

    Choose it where noise on the way is to forgive a network its errors; `GDDIM` needs fewer evaluations of an exact
    model. What the data add is stiff near time 0, the more so the narrower their modes are: steps must be short there,
    in proportion to the root of the time say. The wrong choice for a few dozen of them, of order 2 above all. A draw is
    of the shape that `GDDIM` has.

    Raises:
        ValueError: an order that is not 1 or 2; draws of other variables.
        TypeError: a process that is not augmented.

    Source: Dockhorn, Vahdat and Kreis (2022), Score-based generative modeling with critically-damped Langevin
    diffusion, ICLR, where it is the symmetric splitting CLD sampler, of order 1; the time of the score is that of their
    program. Order 2 is what a symmetric splitting has whose parts are both solved to it.
    """

    order: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        check_positive_int("order", self.order, at_most=2)

    def plan(self, process: AugmentedProcess | Any, times: np.ndarray) -> "Split":
        check_augmented(process)
        steps = -np.diff(times)
        asked = times[:-1] if self.order == 1 else times[:-1] - 0.5 * steps
        matrix, added = exact_transitions(process, 0.5 * steps, reversed_in_time=True)
        mean, covariance = exact_moments(process, asked)
        root, still = np.linalg.cholesky(added), np.zeros_like(added)
        level = Level(asked, mean, np.linalg.cholesky(covariance))
        twice = 2 * np.asarray(process.friction, np.float64)
        length = steps[:, None, None]
        pull = length * (twice @ np.linalg.inv(np.asarray(process.stationary, np.float64)))
        push = length * (twice @ np.linalg.inv(level.sigma).swapaxes(1, 2))
        if self.order == 1:
            return Split(level, matrix, root, pull, push, matrix, root, np.zeros(len(steps)))
        stays = still + np.eye(len(twice))
        first = Split(level, matrix, root, 0.5 * pull, 0.5 * push, stays, still, np.zeros(len(steps)))
        second = Split(level, stays, still, pull, push, matrix, root, np.ones(len(steps)))
        return jax.tree.map(lambda *two: np.stack(two, axis=1).reshape(-1, *two[0].shape[1:]), first, second)

    def check_model(self, model: Any, event: tuple[int, ...]) -> None:
        check_variables(model.process, event)


class Split(Stage):
    """What is solved exactly, an evaluation and what the score adds, and what is solved exactly again."""

    level: Level
    before: Coefficient  # of the variables
    before_root: Coefficient  # of the covariance of what is put in
    pull: Coefficient  # of the variables, by what the data add
    push: Coefficient  # of the predicted noise, likewise
    after: Coefficient
    after_root: Coefficient
    again: Coefficient  # 1 where that is added to where the last evaluation was, else 0

    def init(self, x: Float[Array, "k ..."]) -> State:
        return State(x, None, (x,))

    def step(self, key: Key[Array, ""], model: Any, state: State) -> State:
        fresh = jax.random.normal(key, (2, *state.x.shape), state.x.dtype)
        x = jnp.tensordot(self.before, state.x, 1) + jnp.tensordot(self.before_root, fresh[0], 1)
        added = jnp.tensordot(self.pull, x, 1) - jnp.tensordot(self.push, model.predict(x, self.level).noise, 1)
        moved = jnp.where(self.again > 0.5, state.history[0], x) + added
        end = jnp.tensordot(self.after, moved, 1) + jnp.tensordot(self.after_root, fresh[1], 1)
        return State(end, None, (x,))
