"""Plans of linear updates on normal data, without a run: the law of every point on the way, by matrices."""

from typing import Any

import numpy as np
from jaxtyping import Float

from variate.diffusion import Process, Solver
from variate.diffusion.processes.base import exact_levels
from variate.diffusion.solvers.base import Linear, Terms, data


def laws(solver: Solver, process: Process, times: np.ndarray, mean: float, variance: float) -> Float[np.ndarray, "n 2"]:
    """The mean and the variance of a coordinate at each evaluation and at the end, from the exact law at the start.

    A run has a point, an anchor and a history of predictions in hand: all of them are linear in normal draws, so their
    joint law follows from the coefficients. The denoiser of N(mean, variance) is linear, too.
    """
    plan = solver.plan(process, times)
    assert isinstance(plan, Linear)
    size = 2 + plan.depth  # the point, the anchor, the history
    ends = exact_levels(process, times)
    m, c = np.zeros(size), np.zeros((size, size))
    m[:2], c[:2, :2] = ends.alpha[0] * mean, ends.alpha[0] ** 2 * variance + ends.sigma[0] ** 2
    found = []
    for i in range(len(plan.level.time)):
        found.append((m[0], c[0, 0]))
        alpha, sigma = plan.level.alpha[i], plan.level.sigma[i]
        pull = 1 / (alpha**2 * variance + sigma**2)
        slope = alpha * variance * pull if plan.kept is data else sigma * pull
        offset = (sigma**2 * pull if plan.kept is data else -alpha * sigma * pull) * mean
        ask = np.eye(size)  # the prediction becomes the newest of the history
        shift = np.zeros(size)
        if plan.depth:
            ask[2:] = np.eye(size)[1:-1]
            ask[2], shift[2] = slope * np.eye(size)[0], offset
        m, c = ask @ m + shift, ask @ c @ ask.T
        move, noise = np.eye(size), np.zeros(size)
        for row, terms in ((0, plan.x), (1, plan.anchor)):
            if terms is not None:
                move[row], noise[row] = _row(terms, i, size)
        m, c = move @ m, move @ c @ move.T + np.outer(noise, noise)
    found.append((m[0], c[0, 0]))
    return np.array(found)


def _row(terms: Terms, i: int, size: int) -> tuple[Float[np.ndarray, " size"], float]:
    def at(coefficient: Any) -> float:
        return 0.0 if coefficient is None else float(coefficient[i])

    return np.array([at(terms.x), at(terms.anchor), *map(at, terms.history)])[:size], at(terms.noise)
