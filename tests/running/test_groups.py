"""Error bars, effective draws and R-hat of chains that depend on each other, and of many short ones."""

import numpy as np
import pytest
from scipy import stats

from variate.running import Draws
from variate.running.measures import effective, quantile_error, standard_error

CHAINS, WALKERS, STEPS = 4, 8, 400


def dependent(runs: int, shared: float = 0.5, slow: float = 0.5) -> np.ndarray:
    """Ensembles of normal walkers, half of whose variance is one number for all walkers of an ensemble; runs come last.

    The standard error of the mean is sqrt((shared + (1 - shared) / walkers) (1 + slow) / (1 - slow) / (chains steps)).
    """
    noise = np.random.default_rng(0)
    x = np.empty((STEPS, CHAINS, WALKERS, runs))
    for now in range(STEPS):
        new = shared**0.5 * noise.normal(size=(CHAINS, 1, runs))
        new = new + (1 - shared) ** 0.5 * noise.normal(size=(CHAINS, WALKERS, runs))
        x[now] = new if now == 0 else slow * x[now - 1] + (1 - slow**2) ** 0.5 * new
    return x.reshape(STEPS, CHAINS * WALKERS, runs).swapaxes(0, 1)


def draws_of(values: np.ndarray, walkers: int = WALKERS) -> Draws:
    of = values.shape[:2]
    return Draws({"x": values}, np.ones(of), np.zeros(of, bool), np.ones(of, int), walkers=walkers)


def test_error_bars_are_those_of_ensembles_and_not_of_walkers() -> None:
    """400 runs: covering at 93% at least passes but once in a million, at 80% never; ESS is known to a tenth."""
    x = dependent(400)
    least = stats.binom.ppf(1e-6, 400, 0.93)
    for walkers, is_right in ((WALKERS, True), (1, False)):
        covered = np.sum(np.abs(x.mean((0, 1))) < 1.96 * standard_error(x, walkers))
        assert (covered >= least) == is_right
    off = np.abs(np.quantile(x, 0.7, axis=(0, 1)) - stats.norm.ppf(0.7))
    assert np.sum(off < 1.96 * quantile_error(x, 0.7, WALKERS)) >= least
    ess = CHAINS * STEPS / 3 / (0.5 + 0.5 / WALKERS)
    assert abs(np.median(effective(x, "bulk", walkers=WALKERS)) / ess - 1) < 0.1
    assert np.median(effective(x, "quantile", 0.7, WALKERS)) > ess
    one = draws_of(x[..., 0])
    assert one.expect().stderr["x"] == standard_error(x[..., 0], WALKERS)
    assert one.quantile(0.7).stderr["x"] == quantile_error(x[..., 0], 0.7, WALKERS)
    assert one.ess()["x"] == effective(x[..., 0], "bulk", walkers=WALKERS)


def test_one_walker_of_many_that_is_stuck_is_in_the_verdict() -> None:
    values = dependent(1, slow=0.3)[..., 0]
    assert draws_of(values).doubts() == []
    for trap, words in [
        (lambda x: np.full(x.shape, 0.3), "a walker stands still in x"),
        (lambda x: x + 1.0, "walker 3 of ensemble 1 is not where the others are in x"),
        (lambda x: 0.01 * x, "walker 3 of ensemble 1 is not where the others are in x"),
        (lambda x: np.where(np.arange(STEPS) // 60 == 2, x[0], x), "walker 3 of ensemble 1 stands still for 60 of"),
    ]:
        held = values.copy()
        held[11] = trap(held[11])
        assert any(doubt.startswith(words) for doubt in draws_of(held).doubts())
        assert not draws_of(held).expect().converged
    apart = values + np.repeat(np.arange(CHAINS), WALKERS)[:, None]
    assert draws_of(apart).doubts()[0].startswith("ensembles disagree on x: R-hat is")
    slow = dependent(1, shared=0.0, slow=0.9)[..., 0]
    assert draws_of(slow).doubts()[0].startswith("only ")


def test_nested_rhat_is_the_ratio_of_the_paper_and_tells_of_starts() -> None:
    """16 groups of 100 chains of 10 draws: near 1 where starts are forgotten, although each chain is short."""
    noise = np.random.default_rng(1)
    x = np.exp(noise.normal(size=(6, 20)))

    def of_paper(numbers: np.ndarray) -> float:
        scores = stats.norm.ppf((stats.rankdata(numbers).reshape(6, 20) - 3 / 8) / 120.25)
        # Both halves of three groups of two chains: each is a superchain.
        groups = [scores[2 * k : 2 * k + 2, half] for k in range(3) for half in (slice(10), slice(10, 20))]
        within = np.mean([group.var(1, ddof=1).mean() + group.mean(1).var(ddof=1) for group in groups])
        return float(np.sqrt(1 + np.var([group.mean() for group in groups], ddof=1) / within))

    expected = max(of_paper(x), of_paper(np.abs(x - np.median(x))))
    np.testing.assert_allclose(draws_of(x, 1).rhat(groups=3)["x"], expected, rtol=1e-12)
    short = noise.normal(size=(1_600, 10))
    for now in range(1, 10):
        short[:, now] = 0.9 * short[:, now - 1] + 0.19**0.5 * short[:, now]
    assert draws_of(short, 1).rhat(groups=16)["x"] < 1.01
    assert draws_of(short, 1).rhat()["x"] > 1.5
    assert draws_of(short + np.repeat(noise.normal(size=16), 100)[:, None], 1).rhat(groups=16)["x"] > 1.2
    for groups, words in ((1, "groups must be at least 2"), (7, "groups must divide the 1600 chains, got 7")):
        with pytest.raises(ValueError, match=words):
            draws_of(short, 1).rhat(groups=groups)
