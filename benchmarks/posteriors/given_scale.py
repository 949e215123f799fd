"""Moments by quadrature over one scale, given which all else is Gaussian."""

from collections.abc import Callable, Sequence

import numpy as np

from .base import Moments


def moments(
    given: Callable[[float], tuple[np.ndarray, np.ndarray, float]],
    names: Sequence[str],
    scale: str,
    ends: tuple[float, float],
    read: Callable[[float], np.ndarray] | None = None,
    points: int = 2_001,
) -> dict[str, Moments]:
    r"""Of the numbers R(s) x and of s, where $\log p(x, s) = c(s) + h(s)'x - x' \Lambda(s) x / 2$.

    $x \mid s$ is Gaussian with mean $\Lambda^{-1} h$ and covariance $\Lambda^{-1}$, and
    $\log p(s) = c - \log|\Lambda| / 2 + h' \Lambda^{-1} h / 2$. What is left is a trapezoidal sum over log s, whose
    error falls faster than any power of its step as long as little is left at the ends.

    Args:
        given: of s, the precision Lambda, h and c.
        names: of the numbers R x.
        scale: the name of s.
        ends: of the scales that are summed over.
        read: R, the identity if left out.
        points: of the sum.
    """
    logarithms, means, variances, weights = np.linspace(*np.log(ends), points), [], [], []
    for s in np.exp(logarithms):
        precision, h, c = given(s)
        rows = np.eye(len(h)) if read is None else read(s)
        covariance = np.linalg.inv(precision)
        mean = rows @ covariance @ h
        means.append([*mean, s])
        variances.append([*np.diag(rows @ covariance @ rows.T), 0.0])
        weights.append(c - np.linalg.slogdet(precision)[1] / 2 + h @ covariance @ h / 2 + np.log(s))
    weights = np.exp(weights - np.max(weights))
    weights /= weights.sum()
    mean = weights @ np.array(means)
    spread = np.sqrt(weights @ (np.array(variances) + (np.array(means) - mean) ** 2))
    return {name: Moments(float(m), float(s)) for name, m, s in zip([*names, scale], mean, spread, strict=True)}


def regression(
    x: np.ndarray, y: np.ndarray, prior: np.ndarray, log_prior: Callable[[float], float], names: Sequence[str]
) -> dict[str, Moments]:
    """Of y ~ N(x beta, sigma), with beta Gaussian about 0 with a precision of `prior`, and a density of sigma."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    gram, fit = x.T @ x, np.linalg.lstsq(x, y, rcond=None)[0]
    left = y - x @ fit

    def given(s: float) -> tuple[np.ndarray, np.ndarray, float]:
        # In beta less the fit, so that no large numbers cancel.
        return gram / s**2 + prior, -prior @ fit, log_prior(s) - len(y) * np.log(s) - left @ left / (2 * s**2)

    typical = np.sqrt(left @ left / len(y))
    found = moments(given, names, "sigma", (typical / 8, 8 * typical))
    shift = dict(zip(names, fit, strict=True))
    return {name: each._replace(mean=float(each.mean + shift.get(name, 0.0))) for name, each in found.items()}
