"""Processes: the moments are those of the equation as the papers write it, and the coefficients those of moments."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from variate.diffusion import (
    DEIS,
    EDM,
    CosineVP,
    DPMSolver,
    DPMSolverPP,
    Flow,
    GaussianMixture,
    Genie,
    GeometricVE,
    Heun,
    Interpolant,
    LearnedVP,
    MeanReverting,
    Process,
    UniPC,
    VariancePreserving,
    edm,
    sample,
    uniform,
    uniform_log_snr,
)
from variate.diffusion.processes.base import exact_levels

NODES, WEIGHTS = np.polynomial.legendre.leggauss(80)  # exact to rounding for rates that are analytic


@dataclass(frozen=True)
class Row:
    """A process, and its equation dx = f x dt + g dw as its source writes it."""

    process: Process
    drift: Callable[[Any], Any]  # f
    rate: Callable[[Any], Any]  # the square of g
    first: tuple[float, float] = (1.0, 0.0)  # what there is of data and noise just after time 0
    last: float = 0.0  # what is left of the data at the horizon, over the noise


def beta(t: Any) -> Any:
    return 0.1 + 19.9 * t


def cosine_beta(t: Any) -> Any:
    return np.pi / 1.008 * np.tan(np.pi / 2 * (t + 0.008) / 1.008)


LEARNED = LearnedVP(jax.random.key(3), -8.0, 4.0, width=5)
GAMMA = jax.vmap(jax.value_and_grad(LEARNED.gamma))


def learned_beta(t: Any) -> Any:
    gamma, slope = GAMMA(jnp.asarray(t))
    return np.asarray(slope * jax.nn.sigmoid(gamma))


LAST = np.sin(0.5 * np.pi * 0.0054 / 1.008) / np.cos(0.5 * np.pi * 0.008 / 1.008)
TRIGONOMETRIC = Interpolant(lambda t: jnp.cos(0.5 * jnp.pi * t), lambda t: jnp.sin(0.5 * jnp.pi * t))
ROWS = {
    "variance preserving": Row(
        VariancePreserving(), lambda t: -beta(t) / 2, beta, last=np.exp(-5.025) / np.sqrt(1 - np.exp(-10.05))
    ),
    "cosine": Row(CosineVP(), lambda t: -cosine_beta(t) / 2, cosine_beta, last=LAST / np.sqrt(1 - LAST**2)),
    "EDM": Row(EDM(), lambda t: 0 * t, lambda t: 2 * t, last=1 / 80),
    "geometric": Row(
        GeometricVE(),
        lambda t: 0 * t,
        lambda t: 2 * np.log(5000) * (0.01 * 5000**t) ** 2,
        first=(1.0, 0.01),
        last=1 / 50,
    ),
    "flow": Row(Flow(), lambda t: -1 / (1 - t), lambda t: 2 * t / (1 - t)),
    "trigonometric": Row(
        TRIGONOMETRIC, lambda t: -np.pi / 2 * np.tan(np.pi * t / 2), lambda t: np.pi * np.tan(np.pi * t / 2)
    ),
    "mean reverting": Row(
        MeanReverting(0.2, VariancePreserving()),
        lambda t: -beta(t) / 2,
        lambda t: 0.2**2 * beta(t),
        last=5 * np.exp(-5.025) / np.sqrt(1 - np.exp(-10.05)),
    ),
    "learned": Row(
        LEARNED,
        lambda t: -learned_beta(t) / 2,
        learned_beta,
        (np.sqrt(1 / (1 + np.exp(-8.0))), np.sqrt(1 / (1 + np.exp(8.0)))),
        last=np.exp(-2.0),
    ),
}


def integrated(drift: Callable[[Any], Any], rate: Callable[[Any], Any], s: float, t: float) -> tuple[float, float]:
    """The factor and the variance that the equation puts between two times, by quadrature of quadratures."""
    times = s + (t - s) * 0.5 * (1 + NODES)
    left = t - times  # of each time to the last one
    inner = times[:, None] + left[:, None] * 0.5 * (1 + NODES)
    rest = 0.5 * left * (np.reshape(drift(inner.ravel()), inner.shape) @ WEIGHTS)
    factor = np.exp(0.5 * (t - s) * (drift(times) @ WEIGHTS))
    return float(factor), float(0.5 * (t - s) * ((rate(times) * np.exp(2 * rest)) @ WEIGHTS))


def follows_its_equation(row: Row) -> None:
    process = row.process
    for share in (0.1, 0.6, 0.9):
        t = share * process.horizon
        level = exact_levels(process, t)
        factor, variance = integrated(row.drift, row.rate, 0.0, t)
        np.testing.assert_allclose(level.alpha, factor * row.first[0], rtol=1e-9)
        np.testing.assert_allclose(level.sigma, np.sqrt(variance + (factor * row.first[1]) ** 2), rtol=1e-9)


@pytest.mark.parametrize("name", ROWS)
def test_the_moments_are_those_of_the_equation(name: str) -> None:
    follows_its_equation(ROWS[name])


class Other(Process):
    """A process with one thing in it changed: the mutant."""

    process: Process
    change: Callable[[Any, Any], tuple[Any, Any]]

    @property
    def horizon(self) -> float:
        return self.process.horizon

    @property
    def cutoff(self) -> float:
        return self.process.cutoff

    def alpha(self, t: Any) -> Any:
        return self.change(self.process.alpha(t), self.process.sigma(t))[0]

    def sigma(self, t: Any) -> Any:
        return self.change(self.process.alpha(t), self.process.sigma(t))[1]


MUTANTS: dict[str, Process] = {
    "variance preserving": VariancePreserving(beta_max=20.1),
    "cosine": Other(CosineVP(), lambda a, s: (a**2, jnp.sqrt(1 - a**4))),  # the square taken for the signal
    "EDM": Other(EDM(), lambda a, s: (a, jnp.sqrt(s))),  # the variance taken for the deviation
    "geometric": Other(GeometricVE(), lambda a, s: (a, jnp.sqrt(jnp.maximum(s**2 - 0.01**2, 0)))),  # no jump
    "flow": Other(Flow(), lambda a, s: (a, jnp.sqrt(1 - a**2))),
    "trigonometric": Interpolant(lambda t: jnp.cos(0.5 * jnp.pi * t), lambda t: t),
    "mean reverting": Other(MeanReverting(0.2, VariancePreserving()), lambda a, s: (a, s / 0.2)),
    "learned": Other(LEARNED, lambda a, s: (a**2, s**2)),  # sigmoids without their roots
}


@pytest.mark.parametrize("name", ROWS)
def test_a_mutant_does_not_follow_it(name: str) -> None:
    row = ROWS[name]
    with pytest.raises(AssertionError):
        follows_its_equation(Row(MUTANTS[name], row.drift, row.rate, row.first))


@pytest.mark.parametrize("name", ROWS)
def test_noise_takes_over(name: str) -> None:
    row, process = ROWS[name], ROWS[name].process
    times = np.linspace(0, process.horizon, 200)
    level = exact_levels(process, times)
    assert level.alpha[0] == 1
    assert level.sigma[0] == 0
    with np.errstate(divide="ignore"):
        logs = np.log(level.alpha) - np.log(level.sigma)
    assert np.all(np.diff(logs) < 0)
    np.testing.assert_allclose(level.alpha[-1] / level.sigma[-1], row.last, rtol=1e-9, atol=1e-15)
    assert 0 < process.cutoff < process.horizon


def agrees_with_itself(process: Process) -> None:
    """`drift` and `diffusion`, integrated between two times, give `transition`; `time_of` is an inverse."""
    s, t = 0.2 * process.horizon, 0.7 * process.horizon
    found = process.transition(jnp.asarray(s), jnp.asarray(t))
    rates = (
        lambda u: np.asarray(process.drift(jnp.asarray(u))),
        lambda u: np.asarray(process.diffusion(jnp.asarray(u))) ** 2,
    )
    factor, variance = integrated(*rates, s, t)
    np.testing.assert_allclose(found, (factor, np.sqrt(variance)), rtol=1e-9)
    np.testing.assert_allclose(process.time_of(process.half_log_snr(jnp.asarray([s, t]))), [s, t], rtol=1e-12)


@pytest.mark.parametrize("name", ["variance preserving", "EDM", "flow", "mean reverting"])
def test_coefficients_are_those_of_the_moments(name: str) -> None:
    agrees_with_itself(ROWS[name].process)


class Drifted(VariancePreserving):
    def drift(self, t: Any) -> Any:
        return self.slopes(t).alpha


class Undamped(VariancePreserving):
    def diffusion(self, t: Any) -> Any:
        return jnp.sqrt(2 * self.sigma(t) * self.slopes(t).sigma)


class Jumping(VariancePreserving):
    def transition(self, s: Any, t: Any) -> Any:
        return self.alpha(t) / self.alpha(s), jnp.sqrt(self.sigma(t) ** 2 - self.sigma(s) ** 2)


@pytest.mark.parametrize("mutant", [Drifted(), Undamped(), Jumping()])
def test_mutants_of_them_are_not(mutant: Process) -> None:
    with pytest.raises(AssertionError):
        agrees_with_itself(mutant)


@pytest.mark.parametrize(
    "process", [VariancePreserving(), CosineVP(), MeanReverting(0.5), EDM(), Flow(), GeometricVE()]
)
def test_there_are_rates_at_the_data_too(process: Process) -> None:
    """There the slope of the noise is infinite; and times may be plain numbers."""
    rate = process.diffusion(0.0)
    near = process.diffusion(jnp.asarray(1e-7))
    assert rate == 0 if isinstance(process, GeometricVE) else np.isclose(rate, near, rtol=1e-3, atol=1e-3)
    assert np.isfinite(process.drift(0))
    for name in ("drift", "diffusion", "half_log_snr"):
        at = 0.9 * min(process.horizon, 1.0)
        np.testing.assert_allclose(getattr(process, name)(at), getattr(process, name)(jnp.asarray(at)))
    np.testing.assert_allclose(process.transition(0, 0.5), process.transition(jnp.asarray(0.0), jnp.asarray(0.5)))
    with pytest.raises(ValueError, match="s and t must be times with s <= t, got"):
        process.transition(0.5, 0.2)


class Own(Process):
    """A process of a user's."""

    horizon: float = 1.0
    cutoff: float = 1e-3
    more: float = 0.0

    def alpha(self, t: Any) -> Any:
        return 1 - 0.9 * t + self.more

    def sigma(self, t: Any) -> Any:
        return t * jnp.ones_like(t)


def test_what_rounding_leaves_of_the_signal_is_none() -> None:
    for process in (TRIGONOMETRIC, CosineVP(horizon=1.0)):
        assert exact_levels(process, 1.0).alpha == 0
        model, times = GaussianMixture(process, [1.0], [[0.0]], [1.0]), uniform(process, 4)
        for solver in (DPMSolver(), DEIS(), Heun(), Genie(), UniPC(of_noise=True)):
            with pytest.raises(ValueError, match="times must start where some of the data is left"):
                sample(jax.random.key(0), model, solver, times, (1, 1))
        for schedule in (uniform_log_snr, edm):
            with pytest.raises(ValueError, match=r"some data are left, start=0\.999 say"):
                schedule(process, 4)
        assert np.all(sample(jax.random.key(0), model, DPMSolverPP(), times, (2, 1)).finite)


def test_what_is_learnt_has_a_gradient() -> None:
    slopes = jax.grad(lambda process: process.half_log_snr(jnp.asarray(0.3)))(LEARNED)
    assert all(np.all(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(slopes)[2:5])


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "levels that start wrong": (lambda: Interpolant(lambda t: 2 - t, lambda t: t), ValueError, "alpha.0. must be 1"),
    "noise that comes back": (
        lambda: Interpolant(lambda t: 1 - t / 2, lambda t: t * (1.2 - t)),
        ValueError,
        "alpha / sigma must fall with time, and does not at",
    ),
    "levels below zero": (lambda: Interpolant(lambda t: 1 - t, lambda t: t, 2.0), ValueError, "must be positive"),
    "one level for all times": (lambda: Interpolant(lambda t: 1.0, lambda t: t), ValueError, "must be functions from"),
    "levels of a user's that start wrong": (lambda: Own(more=0.1), ValueError, "alpha.0. must be 1"),
    "a time below zero": (lambda: VariancePreserving(horizon=-1.0), ValueError, "horizon must be a positive number"),
    "times that end before they start": (lambda: EDM(horizon=0.001), ValueError, "cutoff must be between 0 and the h"),
    "a time without data": (lambda: Flow(horizon=2.0), ValueError, "horizon must be at most 1"),
    "a number": (lambda: Interpolant(0.5, lambda t: t), TypeError, "data must be a function of a time"),
    "levels the wrong way": (lambda: GeometricVE(50.0, 0.01), ValueError, "sigma_min must be less than sigma_max"),
    "a time past the last": (lambda: CosineVP(horizon=1.5), ValueError, "horizon must be between 0 and 1"),
    "another process": (lambda: MeanReverting(0.2, EDM()), ValueError, "process must be variance-preserving"),
    "no key": (lambda: LearnedVP(0), TypeError, "the first argument must be the key"),
    "gammas that fall": (lambda: LearnedVP(jax.random.key(0), 5.0, -13.0), ValueError, "gamma_min must be less"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name: str) -> None:
    make, error, words = BAD[name]
    with pytest.raises(error, match=words):
        make()
