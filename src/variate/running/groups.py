"""What is measured of chains in groups: walkers of an ensemble, or many short chains from one start."""

from typing import Any

import numpy as np
from scipy import stats

from .effective import effective_draws

_SIGMA = stats.norm.cdf([-1.0, 1.0])


def group_means(x: np.ndarray, walkers: int) -> np.ndarray:
    """At every draw, over so many chains in a row: of independent groups chains that do not depend on each other."""
    return x if walkers == 1 else x.reshape(-1, walkers, *x.shape[1:]).mean(1)


def effective_together(x: np.ndarray, prob: Any, walkers: int) -> np.ndarray:
    r"""$\sigma^2$ over the squared standard error of the mean: of ranks, or the least of what is below quantiles."""
    if prob is None:
        numbers = [normal_scores(x)]
    else:
        numbers = [(x <= np.quantile(x, q, axis=(0, 1))).astype(float) for q in np.atleast_1d(prob)]
    means = [group_means(number, walkers) for number in numbers]
    found = [n.var((0, 1)) * effective_draws(m) / m.var((0, 1)) for n, m in zip(numbers, means, strict=True)]
    return np.asarray(np.min(found, axis=0))


def nested_rhat(x: np.ndarray, groups: int) -> np.ndarray:
    r"""$\sqrt{1 + B / W}$ of the halves of all groups, the larger of that of ranks and of folded ranks.

    B is the variance of the means of groups, W the mean of the variances within: of draws of a chain and of the means
    of chains of a group.

    Source: Margossian, Hoffman, Sountsov, Riou-Durand, Vehtari and Gelman (2024), Nested R-hat: assessing the
    convergence of Markov chain Monte Carlo when running many short chains, Bayesian Analysis, equations 15 to 19.
    """
    numbers = x, np.abs(x - np.median(x, (0, 1)))
    return np.asarray(np.max([_nested(normal_scores(number), groups) for number in numbers], axis=0))


def _nested(x: np.ndarray, groups: int) -> np.ndarray | np.floating:
    half = x.shape[1] // 2
    halves = np.stack([x[:, :half], x[:, x.shape[1] - half :]])
    halves = halves.reshape(2 * groups, -1, half, *x.shape[2:])
    means = halves.mean(2)
    within = halves.var(2, ddof=1).mean(1)
    if means.shape[1] > 1:
        within = within + means.var(1, ddof=1)
    return np.sqrt(1 + means.mean(1).var(0, ddof=1) / within.mean(0))


def normal_scores(x: np.ndarray) -> np.ndarray:
    """Normal quantiles of the ranks of each number.

    Source: Blom (1958), Statistical estimates and transformed beta-variables.
    """
    ranks = stats.rankdata(x.reshape(x.shape[0] * x.shape[1], -1), axis=0)
    return stats.norm.ppf((ranks - 3 / 8) / (len(ranks) + 1 / 4)).reshape(x.shape)


def half_width(x: np.ndarray, q: float, ess: np.ndarray) -> np.ndarray:
    """Half of what is between the draws at one standard deviation of the probability below the q-quantile.

    Source: Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Bayesian Analysis 16(2), 667-718, section 4.
    """
    draws = np.sort(x.reshape(x.shape[0] * x.shape[1], -1), axis=0)
    low, high = (np.ravel(stats.beta.ppf(p, ess * q + 1, ess * (1 - q) + 1)) for p in _SIGMA)
    last, known = len(draws) - 1, np.isfinite(low)
    first = np.floor(np.where(known, low, 0) * last).astype(int)[None]
    second = np.ceil(np.where(known, high, 0) * last).astype(int)[None]
    width = np.take_along_axis(draws, second, 0) - np.take_along_axis(draws, first, 0)
    return np.where(known, width[0] / 2, np.nan).reshape(x.shape[2:])
