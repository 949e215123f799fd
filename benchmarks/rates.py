"""How errors fall with runs, and how costs rise with accuracy: orders that are fitted, beside those of theory.

python benchmarks/rates.py            # a minute; rewrites benchmarks/results/rates.*
python benchmarks/rates.py --quick    # that everything runs
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import reports
from jax import Array
from rich.console import Console
from scipy import stats

import variate as vt
from variate.estimates import Lattice, Sobol, multilevel

COLUMNS = ("what", "against", "order", "95%", "theory", "ok")
DIMENSION = 4
TRUTH = float(1 - np.exp(-1)) ** DIMENSION  # of `smooth`
NOISE = 4.0
Order = tuple[float, float, float]  # and the ends of its interval


class Rate(NamedTuple):
    """A fitted order, with the ends of its 95% interval and those between which theory has it."""

    program: str
    against: str
    order: float
    low: float
    high: float
    theory: tuple[float, float]

    @property
    def ok(self) -> bool:
        """Whether the interval meets what theory says."""
        return bool(self.low <= self.theory[1] and self.high >= self.theory[0])

    def cells(self) -> list[str]:
        low, high = self.theory
        theory = f"{low:g}" if low == high else f"{low:.4g} to {high:g}"
        interval = f"{self.low:.3f} to {self.high:.3f}"
        return [self.program, self.against, f"{self.order:.3f}", interval, theory, "yes" if self.ok else "NO"]


def smooth(key: Array) -> Array:
    return jnp.exp(-jnp.sum(vt.draw(key, dist.Uniform(jnp.zeros(DIMENSION), 1.0).to_event(1), name="u")))


def path(key: Array, level: int) -> tuple[Array, Array]:
    """dX = X dt + s dW from 1 until time 1 by 2^level steps of Euler, and by half as many.

    Noise that is added has the strong order 1: variances fall like 4^-level, costs rise like 2^level.
    """
    n = 2**level
    noise = NOISE / n**0.5 * vt.draw(key, dist.Normal(jnp.zeros(n), 1.0).to_event(1), name="noise")

    def end(steps: Array) -> Array:
        growth = (1 + 1 / steps.size) ** jnp.arange(steps.size, -1.0, -1.0)
        return growth[0] + growth[1:] @ steps

    return end(noise), end(noise.reshape(-1, 2).sum(axis=1)) if level else jnp.zeros(())


def fitted(x: np.ndarray, y: np.ndarray) -> Order:
    """The slope of log y in log x and its interval; y has a column of independent repetitions for each x."""
    logs = np.broadcast_to(np.log(x), y.shape).ravel()
    found: Any = stats.linregress(logs, np.log(y).ravel())
    half = float(stats.t.ppf(0.975, y.size - 2)) * found.stderr
    return float(found.slope), float(found.slope - half), float(found.slope + half)


def order_of_errors(
    f: Callable[..., Array], truth: float, method: Any, sizes: list[int], key: Array, groups: int = 20
) -> Order:
    """Of root mean squares of the errors of ten keys against runs."""
    columns = []
    for n, own in zip(sizes, jax.random.split(key, len(sizes)), strict=True):
        run = vt.expect(f, method=method, num_samples=n, block_size=n)
        found = jax.jit(lambda keys, run=run: jax.lax.map(lambda one: run(one).value, keys))(
            jax.random.split(own, 10 * groups)
        )
        columns.append(np.sqrt(np.mean((np.asarray(found) - truth).reshape(groups, 10) ** 2, axis=1)))
    return fitted(np.array(sizes), np.array(columns).T)


def least_steps(rmse: float, last: int) -> float:
    """By levels, up to the last: the square of the sum of the root of each V C, over half of rmse² (Giles 2008)."""

    def growth(n: int) -> np.ndarray:
        return (1 + 1 / n) ** np.arange(n - 1, -1.0, -1.0)

    total = NOISE
    for n in 2 ** np.arange(1, last + 1):
        difference = growth(n) - np.repeat(growth(n // 2), 2)
        total += math.sqrt(NOISE**2 / n * np.sum(difference**2) * n)
    return 2 * total**2 / rmse**2


def orders_of_costs(rmses: list[float], key: Array, groups: int = 10) -> dict[str, Order]:
    """Of steps against accuracy, by levels, the least there may be, and were all paths of the last level."""
    shape = (groups, len(rmses))
    levels, least, last = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    keys = jax.random.split(key, shape)
    for j, rmse in enumerate(rmses):
        run = multilevel(path, rmse=rmse, costs=lambda level: 2.0**level, max_level=14)
        for i in range(groups):
            found = run(keys[i, j])
            assert found.costs is not None
            levels[i, j] = np.sum(np.asarray(found.runs) * np.asarray(found.costs))
            least[i, j] = least_steps(rmse, len(found.runs) - 1)
            last[i, j] = 2 * NOISE**2 * (np.exp(2) - 1) / 2 / rmse**2 * float(found.costs[-1])
    x = np.array(rmses)
    return {"by levels": fitted(x, levels), "least": fitted(x, least), "at the last level": fitted(x, last)}


def rows(quick: bool) -> list[Rate]:
    first, second, third, fourth = jax.random.split(jax.random.key(0), 4)
    sizes = [2**k for k in range(8, 10 if quick else 15)]
    methods = (((), first, (-0.5, -0.5)), (Sobol(), second, (-1.5, -1.0)), (Lattice(), third, (-1.5, -1.0)))
    found = [
        Rate(type(method).__name__ if method else "independent", "runs", *order, theory)
        for method, key, theory in methods
        for order in [order_of_errors(smooth, TRUTH, method, sizes, key)]
    ]
    costs = orders_of_costs([0.08, 0.04] if quick else [0.04, 0.02, 0.01, 0.005], fourth, 2 if quick else 10)
    # -2 in the limit; above it each further level adds to the sum, which is known.
    theories = {"by levels": (costs["least"][0], -2.0), "at the last level": (-3.0, -3.0)}
    return found + [Rate(f"paths {name}", "accuracy", *costs[name], theories[name]) for name in theories]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    jax.config.update("jax_enable_x64", True)
    found = rows(quick)
    Console(width=140).print(reports.table(found, COLUMNS))
    if not quick:
        words = (
            f"Slopes of logarithms: of the root mean square error of a smooth function of {DIMENSION} uniform numbers, "
            "and of the steps that paths of a stochastic differential equation take to an accuracy."
        )
        section = reports.Section("Orders", COLUMNS, found)
        reports.write_sections([section], Path(__file__).parent / "results" / "rates", "Rates", words)


if __name__ == "__main__":
    main()
