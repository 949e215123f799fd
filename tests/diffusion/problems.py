"""Problems whose probability flow is known: what solvers are measured against."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.integrate import solve_ivp

import variate as vt
from variate.diffusion import EDM, Denoiser, Flow, GaussianMixture, Prediction, Process, VariancePreserving

PROCESSES: dict[str, Process] = {
    "variance preserving": VariancePreserving(),
    "EDM": EDM(),
    "flow": Flow(horizon=0.999),
}
POINTS = 32


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


def led(solver: Any, model: Denoiser, times: np.ndarray, start: Float[Array, "n d"], part: int = 32) -> np.ndarray:
    """Where a solver leads; compiled once for all numbers of evaluations that `part` divides."""
    plan = solver.plan(model.process, times)
    states = jax.vmap(plan.init)(start)
    evaluations = len(plan.level.time)
    assert evaluations % part == 0
    for low in range(0, evaluations, part):
        states = _part(states, model, jax.tree.map(lambda leaf, low=low: leaf[low : low + part], plan))
    return np.asarray(states.x)


def moments(solver: Any, process: Process, times: np.ndarray, mean: float, std: float) -> tuple[float, float]:
    """Mean and variance of what a linear solver draws of normal data: with their exact model, both are sums."""
    plan = solver.plan(process, times)
    count, level = len(plan.level.time), plan.level
    one, start, *noises = np.eye(count + 2)  # everything is a combination of these
    x, anchor, history = start, start, [np.zeros(count + 2)] * plan.depth

    def combined(terms: Any, i: int, z: np.ndarray) -> np.ndarray:
        pairs = [(terms.x, x), *zip(terms.history, history, strict=True), (terms.anchor, anchor), (terms.noise, z)]
        return sum((a[i] * value for a, value in pairs if a is not None), np.zeros(count + 2))

    for i in range(count):
        alpha, sigma = level.alpha[i], level.sigma[i]
        pulled = (x - alpha * mean * one) / ((alpha * std) ** 2 + sigma**2)
        found = plan.kept(Prediction(mean * one + alpha * std**2 * pulled, sigma * pulled))
        history = [found, *history][: plan.depth]
        after = combined(plan.x, i, noises[i])
        anchor = anchor if plan.anchor is None else combined(plan.anchor, i, noises[i])
        x = after
    begun = (level.alpha[0] * std) ** 2 + level.sigma[0] ** 2
    return float(x[0] + x[1] * level.alpha[0] * mean), float(x[1] ** 2 * begun + np.sum(x[2:] ** 2))


def extrapolated(errors: Sequence[float]) -> tuple[float, float]:
    """The order of errors at doubled numbers of steps, extrapolated to no step, and by how much two of those differ."""
    slopes = -np.diff(np.log2(errors))
    finer = 2 * slopes[1:] - slopes[:-1]  # a slope is off by about one over the number of steps
    return float(finer[-1]), float(abs(finer[-1] - finer[-2]))
