"""GENIE: two terms of Taylor's series of the flow, the second by a Jacobian-vector product."""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Key

from ..denoisers.base import Denoiser
from ..processes.base import Level, Process, exact_levels, exact_slopes
from .base import Coefficient, Stage, State, check_signal


class Genie(eqx.Module):
    r"""$y_t = y_s + h\, \epsilon_s + \frac12 h^2\, \frac{d\epsilon}{d\gamma}$.

    $y = x / \alpha$, $\gamma = \sigma / \alpha$ and $h = \gamma_t - \gamma_s$: in these variables the flow is $dy /
    d\gamma = \epsilon$, and $\frac{d\epsilon}{d\gamma}$ is the change along it, of the point and of the time. It is of
    order two, and keeps nothing from one step to the next. The derivative is a Jacobian-vector product, so a step costs
    about as much as two evaluations, though it is counted as one.

    The wrong choice for a model that is not smooth in time, or cannot be differentiated, and where a multistep solver
    is as accurate for half the cost.

    Raises:
        ValueError: times that start where nothing is left of the data.

    Source: Dockhorn, Vahdat and Kreis (2022), GENIE: higher-order denoising diffusion solvers, NeurIPS 35,
    section 3, with the derivative itself in place of a network's imitation of it.
    """

    def plan(self, process: Process, times: np.ndarray) -> "Taylor":
        check_signal(process, times)
        at, slope = exact_levels(process, times), exact_slopes(process, times[:-1])
        gamma, first = at.sigma / at.alpha, Level(*(column[:-1] for column in at))
        h = np.diff(gamma)
        speed = (slope.sigma * first.alpha - first.sigma * slope.alpha) / first.alpha**2  # of gamma in time
        change = Level(1 / speed, slope.alpha / speed, slope.sigma / speed)
        return Taylor(first, change, at.alpha[1:] / first.alpha, at.alpha[1:] * h, 0.5 * at.alpha[1:] * h**2)


class Taylor(Stage):
    """One step by the noise and its derivative along the flow."""

    level: Level
    change: Level  # of the level with gamma
    scale: Coefficient  # of the point
    first: Coefficient  # of the noise
    second: Coefficient  # of its derivative

    def init(self, x: Float[Array, "..."]) -> State:
        return State(x, None, ())

    def step(self, key: Key[Array, ""], model: Denoiser, state: State) -> State:
        noise, push = jax.linearize(lambda x, level: model.predict(x, level).noise, state.x, self.level)
        along = self.change.alpha / self.level.alpha * state.x + self.level.alpha * noise
        slope = push(along, self.change)
        return State(self.scale * state.x + self.first * noise + self.second * slope, None, ())
