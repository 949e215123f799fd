"""Effective draws are ArviZ's, and intervals know how little is known of their standard errors."""

import numpy as np
import pytest
from arviz_stats.base.array import BaseArray
from scipy import special, stats

from variate.running.effective import degrees_of_freedom, effective_draws

REPEATS, LEVEL = 20_000, 0.95
NEVER = 1e-6


def regressed(coefficient: float, chains: int, draws: int, repeats: int = REPEATS) -> np.ndarray:
    """Chains whose every draw is so much of the one before and normal noise, from their stationary law."""
    noise = np.random.default_rng(draws).normal(size=(chains, draws, repeats))
    noise[:, 0] /= (1 - coefficient**2) ** 0.5
    for t in range(1, draws):
        noise[:, t] += coefficient * noise[:, t - 1]
    return noise


@pytest.mark.parametrize(
    ("chains", "draws", "coefficient"),
    [(4, 250, 0.9), (4, 251, -0.5), (3, 100, 0.0), (1, 60, 0.5), (30, 37, 0.7), (4, 8, 0.3)],
)
def test_effective_draws_are_those_of_arviz(chains: int, draws: int, coefficient: float) -> None:
    x = regressed(coefficient, chains, draws, 20).reshape(chains, draws, 4, 5)
    theirs = BaseArray().ess(x, chain_axis=0, draw_axis=1, method="mean")
    np.testing.assert_allclose(effective_draws(x), theirs, rtol=1e-9)


def test_numbers_are_measured_alike_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    x = regressed(0.5, 4, 40, 7)
    whole = effective_draws(x), degrees_of_freedom(x)
    monkeypatch.setattr("variate.running.effective._AT_ONCE", 400)
    np.testing.assert_allclose((effective_draws(x), degrees_of_freedom(x)), whole, rtol=1e-9)


@pytest.mark.parametrize(("coefficient", "draws"), [(0.0, 50), (0.5, 60), (0.8, 100)])
def test_short_chains_cover_by_student_and_not_by_the_normal(coefficient: float, draws: int) -> None:
    """That they cover less than 94.5% would be seen, as it is where the error is believed to be known."""
    x = regressed(coefficient, 4, draws)
    off = np.abs(x.mean((0, 1))) / (x.std((0, 1)) / np.sqrt(effective_draws(x)))
    student = int(np.sum(off < special.stdtrit(np.maximum(degrees_of_freedom(x), 1), (1 + LEVEL) / 2)))
    normal = int(np.sum(off < special.ndtri((1 + LEVEL) / 2)))
    assert stats.binomtest(student, REPEATS, LEVEL - 0.005, "less").pvalue > NEVER
    assert stats.binomtest(normal, REPEATS, LEVEL - 0.005, "less").pvalue < NEVER
