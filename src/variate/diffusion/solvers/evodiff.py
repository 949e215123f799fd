"""EVODiff: a predictor and its corrector, blended by coefficients that each step finds from its own predictions."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ..denoisers.base import Denoiser
from ..processes.base import Level, Process
from .base import Coefficient, Stage
from .exponential import DPMSolverPP


class EVODiff(eqx.Module):
    r"""$x_t = e + \zeta\, (l + \eta\, (u - l))$, with an $\eta$ and a $\zeta$ of each step and each draw.

    $e$ is the step of order one by the data $d_s$ predicted at s; $l$ is what `DPMSolverPP` of order two adds to it,
    $w\, (d_s - d_q)$ with q the time before s; and $u$ is what the corrector of `UniPC` of order one adds, $\frac12
    \alpha_t (1 - e^{-h})\, (d_t - d_s)$. The model is asked at $e + l$, and that prediction is kept, so a step takes
    one evaluation. The first step and the last are not blended.

    $\eta^* = -\frac{(u - l) \cdot l}{\lVert u - l \rVert^2}$ makes $l + \eta\, (u - l)$ shortest, in place of the least
    conditional variance, and $\eta = 1 / (1 + e^{-|\eta^*|})$. How far the point that was asked at is from the blend,
    along $d_s - d_q$, is $\zeta^* = \frac{\eta w}{\alpha_t (1 - e^{-h})} \frac{l \cdot (u - l)}{\lVert l \rVert^2}$,
    and $\zeta = 2 / (1 + e^{|\zeta^*|})$, which is one where the two agree. It is of order two.

    The source's factors differ: its $\zeta$ does not tend to one in short steps, which leaves order one, and its
    program scales the differences of predictions and takes the products of each channel of an image.

    Choose it for five to ten evaluations of a network. The wrong choice where updates must be linear, for `fit` say.

    Source: Li, Chen and Zeng (2025), EVODiff: entropy-aware variance optimized diffusion inference, NeurIPS, for
    $\eta^*$, $\zeta^*$ and $\eta$.
    """

    def plan(self, process: Process, times: np.ndarray) -> "Blended":
        base = DPMSolverPP().plan(process, times)
        first, older = (_filled(base, weight) for weight in (*base.x.history, None)[:2])
        total = first + older
        before = [np.append(0.0, column[:-1]) for column in (total, older)]  # the step that leads to each evaluation
        blends = before[1] != 0
        half = np.where(blends, 0.5 * before[0], 0.0)
        share = np.divide(-before[1], before[0], out=np.zeros_like(half), where=blends)
        return Blended(base.level, _filled(base, base.x.x), total, -older, half, share)


def _filled(base: Stage, column: Coefficient | None) -> np.ndarray:
    return np.zeros(len(base.level.time)) if column is None else np.asarray(column)


class Asked(NamedTuple):
    """Where a run is within a step."""

    x: Float[Array, "..."]  # e + l, where the model is asked
    euler: Float[Array, "..."]  # e
    data: Float[Array, "..."]  # the last prediction


class Blended(Stage):
    """One evaluation: the end of the step that led to it, and the start of the next one."""

    level: Level
    carry: Coefficient  # of the point
    total: Coefficient  # of the data, in the step of order one
    slope: Coefficient  # w of the next step
    half: Coefficient  # of the data's difference in u, zero where the step before is not blended
    share: Coefficient  # w of the step before, over what the data count for there

    def init(self, x: Float[Array, "..."]) -> Asked:
        return Asked(x, x, jnp.zeros_like(x))

    def step(self, key: Key[Array, ""], model: Denoiser, state: Asked) -> Asked:
        data = model.predict(state.x, self.level).data
        change, lower = data - state.data, state.x - state.euler
        bend = change * self.half - lower  # u - l
        eta = jax.nn.sigmoid(jnp.abs(_along(lower, bend)))
        zeta = 2 * jax.nn.sigmoid(-jnp.abs(eta * _along(bend, lower) * self.share))
        blend = jnp.where(self.half == 0, lower, zeta * (lower + eta * bend))
        euler = (state.euler + blend) * self.carry + data * self.total
        return Asked(euler + change * self.slope, euler, data)


def _along(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, ""]:
    """How much of b is in a; nothing where b is nothing."""
    square = jnp.sum(b**2)
    return jnp.where(square == 0, 0.0, jnp.sum(a * b) / jnp.where(square == 0, 1.0, square))
