"""EVODiff does what its formulas say, written once more in the variables of the source."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.laws import Altered
from diffusion.problems import PROCESSES, mixture

from variate.diffusion import Denoiser, EVODiff, GaussianMixture, VariancePreserving, edm, sample, uniform
from variate.diffusion.processes.base import exact_levels

TIMES = uniform(PROCESSES["variance preserving"], 16)
START = np.array([1.3, -0.4])


def by_formulas(model: Denoiser, times: np.ndarray, x: np.ndarray, zeta_of: Any) -> np.ndarray:
    r"""On $x / \sigma$ against $\alpha / \sigma$, by slopes of the predictions: B and P of the source."""
    at = exact_levels(model.process, times)
    lam, rest = np.log(at.alpha / at.sigma), at.alpha / at.sigma
    found, last = [np.asarray(model.data(jnp.asarray(x), times[0]))], len(times) - 2
    for i in range(last + 1):
        h = rest[i + 1] - rest[i]
        euler = x / at.sigma[i] + h * found[-1]
        if i in (0, last):
            asked = x = at.sigma[i + 1] * euler
            if i == 0:
                found.append(np.asarray(model.data(jnp.asarray(asked), times[1])))
            continue
        r = (lam[i] - lam[i - 1]) / (lam[i + 1] - lam[i])
        difference = found[-1] - found[-2]
        behind = difference / (r * h)
        asked = at.sigma[i + 1] * (euler + 0.5 * h**2 * behind)
        new = np.asarray(model.data(jnp.asarray(asked), times[i + 1]))
        turn = (new - found[-1]) / h - behind
        eta = 1 / (1 + np.exp(-abs(turn @ behind / (turn @ turn))))
        slope = behind + eta * turn
        missed = asked - at.sigma[i + 1] * (euler + 0.5 * h**2 * slope)
        star = -(difference @ missed) / (at.sigma[i + 1] * h * difference @ difference)
        x = at.sigma[i + 1] * (euler + 0.5 * h**2 * zeta_of(star) * slope)
        found.append(new)
    return x


def zeta(star: float) -> float:
    return 2 / (1 + np.exp(abs(star)))


def test_the_coefficients_are_those_of_the_formulas() -> None:
    model = mixture(PROCESSES["variance preserving"])

    def ends(solver: Any) -> np.ndarray:
        start = jnp.asarray(START)[None]
        return np.asarray(sample(jax.random.key(0), model, solver, TIMES, (1, 2), start=start).values[0])

    expected = by_formulas(model, TIMES, START, zeta)
    np.testing.assert_allclose(ends(EVODiff()), expected, rtol=1e-9)
    other = Altered(EVODiff(), lambda plan: plan.share, lambda share: 2 * share)
    assert np.max(np.abs(ends(other) - expected)) > 1e-6
    assert np.max(np.abs(by_formulas(model, TIMES, START, lambda star: 1.0) - expected)) > 1e-6


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_a_point_is_reached(steps: int) -> None:
    """Predictions of a point mass are all the same, and leave nothing to blend."""
    process = VariancePreserving()
    model = GaussianMixture(process, [1.0], [[0.7, -0.2]], [0.0])
    draws = sample(jax.random.key(1), model, EVODiff(), edm(process, steps), (2, 2))
    np.testing.assert_allclose(draws.values, np.broadcast_to([0.7, -0.2], (2, 2)), rtol=1e-12)
