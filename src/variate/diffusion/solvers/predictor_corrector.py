"""A predictor that leads from time to time, and steps of Langevin's at each of them that correct what it got wrong."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from variate.checks import check_positive, check_positive_int, describe

from ..denoisers.base import Denoiser
from ..processes.base import Level, Process, exact_levels
from .base import Coefficient, Linear, Solver, Stage, State, check_solver


class PredictorCorrector(eqx.Module):
    r"""After each step of a solver m steps $x \leftarrow x + \delta s + \sqrt{2 \delta}\, z$ with the score $s$ there.

    Langevin's steps leave the law of each time as it is, up to an error of order $\delta$, and lead to it what is off.
    Their length is $\delta = 2 a (r \lVert z \rVert / \lVert s \rVert)^2$, so that what the score moves is $r$
    times what the noise does; $a$ is how much of the variance the process keeps over the step. Of each draw by itself:
    with a hundred coordinates or more the two norms hardly vary.

    The wrong choice for few coordinates, where a score may be next to nothing and the step is then without bound; and
    for few evaluations. A correction is one evaluation, and there is none where no noise is left.

    Raises:
        TypeError, ValueError: a predictor that is none, or takes several evaluations a step.

    Source: Song, Sohl-Dickstein, Kingma, Kumar, Ermon and Poole (2021), Score-based generative modeling through
    stochastic differential equations, ICLR, algorithms 4 and 5, with the norms of one draw for those of a batch.
    """

    predictor: Solver  # that takes one evaluation a step, `Ancestral()` say
    corrections: int = eqx.field(static=True, default=1)  # m, of each step
    ratio: float = eqx.field(static=True, default=0.16)  # r, of signal to noise

    def __check_init__(self) -> None:
        check_solver("predictor", self.predictor)
        check_positive_int("corrections", self.corrections)
        check_positive("ratio", self.ratio)

    def plan(self, process: Process, times: np.ndarray) -> "Corrected":
        plan = self.predictor.plan(process, times)
        if not isinstance(plan, Linear) or len(plan.level.time) != len(times) - 1:
            raise TypeError(f"predictor must take one evaluation a step, got {describe(self.predictor)}")
        at = exact_levels(process, times)
        rows, corrects = [], []  # of each evaluation: the step it belongs to, and whether it corrects
        for step, left in enumerate(at.sigma[1:]):
            corrections = self.corrections if left > 0 else 0
            rows += [step] * (1 + corrections)
            corrects += [0] + [1] * corrections
        rows, corrects = np.asarray(rows), np.asarray(corrects, np.float64)
        level = Level(*(column[rows + corrects.astype(int)] for column in at))
        size = 2 * (self.ratio * at.alpha[rows] / at.alpha[rows + 1]) ** 2
        return Corrected(level, jax.tree.map(lambda leaf: leaf[rows], plan), corrects, size)


class Corrected(Stage):
    """One evaluation, for a step of the predictor's or for one of Langevin's."""

    level: Level
    predicts: Linear
    corrects: Coefficient  # 1 for Langevin's, 0 for the predictor's
    size: Coefficient  # what the square of the ratio of norms is worth

    def init(self, x: Float[Array, "..."]) -> State:
        return self.predicts.init(x)

    def step(self, key: Key[Array, ""], model: Denoiser, state: State) -> State:
        def correct(key: Key[Array, ""], state: State) -> State:
            score = -model.predict(state.x, self.level).noise / self.level.sigma
            z = jax.random.normal(key, state.x.shape, state.x.dtype)
            delta = self.size * jnp.sum(z**2) / jnp.sum(score**2)
            return state._replace(x=state.x + delta * score + jnp.sqrt(2 * delta) * z)

        def predict(key: Key[Array, ""], state: State) -> State:
            return self.predicts.step(key, model, state)

        return jax.lax.cond(self.corrects > 0.5, correct, predict, key, state)
