"""Problems whose probability flow is known: what solvers are measured against."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.integrate import solve_ivp

import variate as vt
from variate.diffusion import EDM, Denoiser, Flow, GaussianMixture, Process, VariancePreserving, sample

PROCESSES: dict[str, Process] = {
    "variance preserving": VariancePreserving(),
    "EDM": EDM(),
    "flow": Flow(horizon=0.999),
}
POINTS = 32


@dataclass(frozen=True)
class Planned:
    """A solver that has a plan already."""

    made: Any

    def plan(self, process: Process, times: np.ndarray) -> Any:
        return self.made


def reached(process: Process) -> float:
    """The time at which orders are measured: where there is hardly any noise, errors of the steps cancel."""
    return process.time_of(np.array([0.5]))[0]


def mixture(process: Process) -> GaussianMixture:
    """Two normals that overlap, so that no draw changes its mode where a step is a little off."""
    covariances = [[[0.2, 0.1], [0.1, 0.3]], [[0.4, 0.0], [0.0, 0.1]]]
    return GaussianMixture(process, [0.4, 0.6], [[-0.5, 0.3], [0.6, -0.2]], covariances)


def ends(model: Denoiser, start: Float[Array, "n d"], first: float, last: float) -> np.ndarray:
    r"""Where the probability flow leads, by an adaptive method of order eight on $dy / d\rho = \epsilon$."""
    process = model.process
    at = [process.level(jnp.asarray(t)) for t in (first, last)]
    logs = [float(jnp.log(level.sigma / level.alpha)) for level in at]

    @jax.jit
    def speed(log_ratio: Float[Array, ""], flat: Float[Array, " nd"]) -> Float[Array, " nd"]:
        """Of y = x / alpha against the log of rho, for the equivalent process whose alpha is one."""
        level = vt.diffusion.Level(jnp.asarray(0.0), jnp.ones(()), jnp.exp(log_ratio))
        y = flat.reshape(start.shape)
        return (level.sigma * jax.vmap(lambda one: model.predict(one, level).noise)(y)).ravel()

    flat = np.asarray(start / at[0].alpha).ravel()
    found = solve_ivp(speed, logs, flat, method="DOP853", rtol=1e-12, atol=1e-12)
    assert found.success
    return found.y[:, -1].reshape(start.shape) * float(at[1].alpha)


@eqx.filter_jit
def _part(states: Any, model: Denoiser, plan: Any) -> Any:
    key = jax.random.key(0)  # of what follows the flow, nothing is random

    def body(states: Any, stage: Any) -> tuple[Any, None]:
        return jax.vmap(stage.step, (None, None, 0))(key, model, states), None

    return jax.lax.scan(body, states, plan)[0]


def led(
    solver: Any, model: Denoiser | Any, times: np.ndarray, start: Float[Array, "n d"], part: int = 32
) -> np.ndarray:
    """Where a solver leads; compiled once for all numbers of evaluations that `part` divides."""
    plan = solver.plan(model.process, times)
    states = jax.vmap(plan.init)(start)
    evaluations = len(plan.level.time)
    assert evaluations % part == 0
    for low in range(0, evaluations, part):
        states = _part(states, model, jax.tree.map(lambda leaf, low=low: leaf[low : low + part], plan))
    return np.asarray(states.x)


def extrapolated(errors: Sequence[float]) -> tuple[float, float]:
    """The order of errors at doubled numbers of steps, extrapolated to no step, and by how much two of those differ."""
    slopes = -np.diff(np.log2(errors))
    finer = 2 * slopes[1:] - slopes[:-1]  # a slope is off by about one over the number of steps
    return float(finer[-1]), float(abs(finer[-1] - finer[-2]))


def halves_draw_the_same_law(model: Any, solver: Any, times: Any, event: tuple[int, ...]) -> None:
    """Means and second moments of 2,000 draws in half precision within five standard errors of single precision's."""
    found = []
    for seed, dtype in enumerate((jnp.bfloat16, jnp.float32)):
        run = sample(jax.random.key(seed), model, solver, times, (2000, *event), dtype=dtype)
        assert run.values.dtype == dtype
        found.append(np.asarray(run.values, np.float64))
    for power in (1, 2):
        one, two = (x**power for x in found)
        error = np.sqrt((np.var(one, axis=0) + np.var(two, axis=0)) / 2000)
        np.testing.assert_array_less(np.abs(np.mean(one, axis=0) - np.mean(two, axis=0)), 5 * error)
