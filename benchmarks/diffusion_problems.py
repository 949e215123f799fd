"""Models whose probability flow can be solved to the end: what samplers of diffusion models are measured on."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import variate as vt
from variate.demo import digit_denoiser
from variate.diffusion import (
    EDM,
    ClassifierFreeGuidance,
    DataSet,
    Denoiser,
    GaussianMixture,
    Process,
    Rescaled,
    VariancePreserving,
    edm,
    uniform,
    uniform_log_snr,
)

# Steps of the flow that ends are measured by, and the noise below which data are constant: against ten times the steps
# the ends are within 1e-5, by rms, for all the problems here and scales up to 7.5.
FINE, FLOOR = 800, 1e-4
PROCESS = VariancePreserving()
FLOORS = (0.003, 0.01, 0.03)  # times at which schedules end before they go to zero


def grids(steps: int) -> Iterator[tuple[str, np.ndarray]]:
    """Schedules of so many steps, the last of which leads to no noise."""
    for floor in FLOORS:
        yield f"log SNR to {floor:g}", np.append(uniform_log_snr(PROCESS, steps - 1, end=floor), 0.0)
        yield f"EDM to {floor:g}", edm(PROCESS, steps, end=floor)
    yield "uniform", uniform(PROCESS, steps, end=0.0)


class Problem(NamedTuple):
    """What is drawn from, on any process; `unconditional` is what guidance leads away from."""

    model: Callable[[Process], Denoiser]
    unconditional: Callable[[Process], Denoiser]
    shape: tuple[int, ...]

    def guided(self, process: Process, scale: float) -> Denoiser:
        if scale == 1.0:
            return self.model(process)
        return ClassifierFreeGuidance(self.model(process), self.unconditional(process), scale)

    def ends(self, scale: float, start: np.ndarray, ratio: float) -> np.ndarray:
        """Where the flow leads from points x / alpha at a ratio of noise to data."""
        process = EDM(horizon=ratio)
        times = np.append(uniform_log_snr(process, FINE, end=FLOOR), 0.0)
        run = vt.diffusion.sample(
            jax.random.key(0),
            self.guided(process, scale),
            vt.diffusion.DPMSolverPP(3),
            times,
            start.shape,
            start=jnp.asarray(start),
            dtype=jnp.float64,
        )
        return np.asarray(run.values)


def mixture_of_25() -> Problem:
    """A grid in two dimensions; the condition is its right half."""
    means = np.stack(np.meshgrid(range(-2, 3), range(-2, 3)), -1).reshape(25, 2) * 0.7
    right = means[:, 0] > 0

    def some(chosen: np.ndarray) -> Callable[[Process], Denoiser]:
        count = int(chosen.sum())
        return lambda process: GaussianMixture(process, np.ones(count), means[chosen], np.full(count, 0.01))

    return Problem(some(right), some(np.full(25, True)), (2,))


def mixture_of_10() -> Problem:
    """Full covariances in 32 dimensions; the condition is five of the components."""
    rng = np.random.default_rng(0)
    half = rng.normal(size=(10, 32, 32)) / np.sqrt(32)
    covariances = 0.1 * half @ np.swapaxes(half, 1, 2) + 0.01 * np.eye(32)
    means, weights = rng.normal(size=(10, 32)), rng.dirichlet(np.full(10, 5.0))

    def some(count: int) -> Callable[[Process], Denoiser]:
        return lambda process: GaussianMixture(process, weights[:count], means[:count], covariances[:count])

    return Problem(some(5), some(10), (32,))


def digits() -> Problem:
    """The images themselves, as a law; the condition is that they are threes."""
    images, labels = digit_denoiser.digits()
    threes = np.asarray(labels) == 3
    return Problem(
        lambda process: DataSet(process, images[threes], block=256),
        lambda process: DataSet(process, images, block=256),
        (64,),
    )


def network() -> Problem:
    """The network that is shipped; the condition is that it draws threes."""
    weights = digit_denoiser.saved()

    def labelled(label: int) -> Callable[[Process], Denoiser]:
        return lambda process: Rescaled(process, digit_denoiser.denoiser(weights, label))

    return Problem(labelled(3), labelled(digit_denoiser.DIGITS), (64,))


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "25 normals, 2-D": mixture_of_25,
    "10 normals, 32-D": mixture_of_10,
    "digits, 64-D": digits,
    "digits' network": network,
}
