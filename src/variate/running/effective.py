"""How many independent draws those of several chains are worth for a mean, and how well its error is known."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.fft import next_fast_len

_AT_ONCE = 2**22  # draws, of one number or of several

Draws = Float[np.ndarray, "chains draws *rest"]
Numbers = Float[np.ndarray, " *rest"]


def effective_draws(x: Draws) -> Numbers:
    r"""Of the mean of each number: $S / \tau$ of S draws, with $\tau = -1 + 2 \sum_k \min_{j \le k} P_j$.

    $P_k = \rho_{2k} + \rho_{2k+1}$ are autocorrelations of the halves of the chains, up to the first that is not
    positive, of which $\rho_{2k}$ counts once if it is. Chains that go there and back may have more than one effective
    draw for each draw; how many more no estimate can tell, so they are held below $S \log_{10} S$, as in Stan.

    Source: Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Rank-normalization, folding, and localization: an
    improved R-hat for assessing convergence of MCMC, Bayesian Analysis 16(2), 667-718, equations 9 to 12; Geyer (1992),
    Practical Markov chain Monte Carlo, Statistical Science 7(4), 473-483, section 3.3.
    """
    return _by_numbers(x, lambda halves: _effective(_covariances(halves).mean(0), halves.mean(1)))


def effective_in_a_half(x: Draws) -> Numbers:
    """Of one half of a chain by itself: as `effective_draws`, by correlations within halves alone."""
    return _by_numbers(x, lambda halves: _effective(_covariances(halves).mean(0), 0 * halves.mean(1)) / len(halves))


def degrees_of_freedom(x: Draws) -> Numbers:
    r"""Of the standard error of the mean of each number, for Student's t: $2 / \mathrm{Var}(\log \hat\sigma^2)$, about.

    $\hat\sigma^2$ is the variance of the draws over their effective number, and the variance of its logarithm is found
    by the jackknife, which leaves out one half of a chain after the other. A normal sample of n draws has n - 1.

    Source: Satterthwaite (1946), An approximate distribution of estimates of variance components, Biometrics Bulletin
    2(6), 110-114; Efron and Stein (1981), The jackknife estimate of variance, Annals of Statistics 9(3), 586-596.
    """
    return _by_numbers(x, _degrees)


def _degrees(halves: np.ndarray) -> np.ndarray:
    halves = halves - halves.mean((0, 1))  # or squares of what is far off take all digits
    pieces = _covariances(halves), halves.mean(1), (halves**2).mean(1)
    sums, others, logs = [x.sum(0) for x in pieces], len(halves) - 1, []
    for i in range(len(halves)):
        covariance, mean, square = ((total - x[i]) / others for total, x in zip(sums, pieces, strict=True))
        ess = _effective(covariance, np.delete(pieces[1], i, axis=0))
        logs.append(np.log((square - mean**2) / ess))
    return 2 / (others * np.var(logs, axis=0))


def _effective(covariance: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Of the mean covariances of halves of chains at every lag, and the means of the halves."""
    draws = len(covariance)
    within = covariance[0] * draws / (draws - 1)
    rho = 1 - (within - covariance) / (covariance[0] + means.var(0, ddof=1))
    rho[0] = 1
    last = (draws - 1) // 2 * 2
    even = rho[:last:2]
    pairs = (even + rho[1:last:2])[:-1]
    positive = np.logical_and.accumulate(pairs > 0, axis=0)
    tau = -1 + 2 * np.sum(np.minimum.accumulate(pairs, axis=0), axis=0, where=positive)
    tau += np.maximum(np.take_along_axis(even, positive.sum(0)[None], axis=0)[0], 0)
    total = len(means) * draws
    return total / np.maximum(tau, 1 / np.log10(total))


def _covariances(halves: np.ndarray) -> np.ndarray:
    """At every lag, of each half of a chain."""
    draws = halves.shape[1]
    length = next_fast_len(2 * draws, real=True)
    power = np.abs(np.fft.rfft(halves - halves.mean(1, keepdims=True), length, axis=1)) ** 2
    return np.fft.irfft(power, length, axis=1)[:, :draws] / draws


def _by_numbers(x: np.ndarray, measure: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """What is measured of the halves of chains, of a number of numbers at a time."""
    half = x.shape[1] // 2
    halves = np.concatenate([x[:, :half], x[:, x.shape[1] - half :]]).reshape(2 * len(x), half, -1)
    size = max(1, _AT_ONCE // max(halves[..., :1].size, 1))
    parts = [measure(halves[..., at : at + size]) for at in range(0, halves.shape[2], size)]
    return np.concatenate([np.empty(0), *parts]).reshape(x.shape[2:])
