"""DualFast: predictions of noise led away from the first one, against what is wrong in the later ones."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from variate.checks import check_number, check_takes, describe

from ..denoisers.base import Denoiser, with_noise
from ..processes.base import Level, Process
from .base import Coefficient, Linear, Solver, Stage, State, check_signal, check_solver


class DualFast(eqx.Module):
    r"""A solver with $\epsilon_t + c_t\, (\epsilon_t - \epsilon_T)$ for every prediction $\epsilon_t$ of the noise.

    $\epsilon_T$ is the first prediction of the draw, so nothing is asked more often. A heuristic for networks: the less
    noise there is, the more is wrong in what they predict, while the first prediction is hardly wrong, and what lies
    between the two is taken for a part of the error. So $c_t$ should grow as noise fades. With an exact model it does
    not lead where the flow does, however short the steps.

    Choose it for ten evaluations or fewer of a network, with a $c$ that was found by trying some, 0.1 at first.

    Raises:
        TypeError, ValueError: a solver that is none or not linear; a $c$ that is negative at a time, or neither a
            number nor a function; times that start where nothing is left of the data.

    Source: Yu, Luo, Wang and Zhao (2025), DualFast: dual-speedup framework for fast sampling of diffusion models,
    arXiv:2506.13058, with the first prediction for the earlier one, and for all that a solver looks back on.
    """

    solver: Solver  # whose stages are linear, `DPMSolverPP()` say
    strength: float | Callable[[float], float] = eqx.field(static=True)  # c, a number or a function of the time

    def __init__(self, solver: Solver | Any, strength: float | Any) -> None:
        check_solver("solver", solver)
        self.solver, self.strength = solver, strength
        if callable(strength):
            check_takes("strength", strength, (None,), "the time")
        else:
            self._at(0.0)

    def _at(self, time: float) -> float:
        c = check_number("strength", self.strength(time) if callable(self.strength) else self.strength)
        if c < 0:
            raise ValueError(f"strength must not be negative, got {c} at time {time}")
        return c

    def plan(self, process: Process, times: np.ndarray) -> "LedAway":
        check_signal(process, times)
        plan = self.solver.plan(process, times)
        if not isinstance(plan, Linear):
            raise TypeError(f"solver must have linear stages, got {describe(self.solver)}")
        asked = np.asarray(plan.level.time)
        return LedAway(plan.level, plan, np.array([self._at(float(t)) for t in asked]), np.eye(1, len(asked))[0])


class Held(NamedTuple):
    """The run of the solver, and the first prediction of the noise."""

    run: State
    first: Float[Array, "..."]

    @property
    def x(self) -> Float[Array, "..."]:
        return self.run.x


class LedAway(Stage):
    """One evaluation of a solver, with another prediction."""

    level: Level
    within: Linear
    strength: Coefficient
    begins: Coefficient  # 1 for the first evaluation, else 0

    def init(self, x: Float[Array, "..."]) -> Held:
        return Held(self.within.init(x), jnp.zeros_like(x))

    def step(self, key: Key[Array, ""], model: Denoiser, state: Held) -> Held:
        found = model.predict(state.x, self.level)
        first = jnp.where(self.begins > 0.5, found.noise, state.first)
        found = with_noise(found, found.noise + (found.noise - first) * self.strength, self.level)
        return Held(self.within.after(key, found, state.run), first)
