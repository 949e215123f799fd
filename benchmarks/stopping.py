"""Whether intervals cover where chains stop by themselves, and how many draws too many that took.

python benchmarks/stopping.py            # half an hour; rewrites benchmarks/results/stopping.*
python benchmarks/stopping.py --quick    # that everything runs
"""

import argparse
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
from scipy import linalg, special, stats

import variate as vt

jax.config.update("jax_enable_x64", True)
KEYS, TOLERANCE = 500, 0.05
LEAST, MOST = 0.935, 1.3  # of the intervals, of the draws
COLUMNS = ("target", "covered", "95%", "worst mean", "covered", "95%", "draws", "error", "overshoot", "95%", "ok")

WORDS = f"""`vt.sample(key, target, until=vt.StdErr({TOLERANCE}, relative_to="sd"))` with {KEYS} keys on each of five
targets whose means are known, four chains by the default kernel. `covered` is the share of 95% intervals, at the moment
of stopping, that have the true mean in them: first of all coordinates, and then of the coordinate of which the fewest
have. `error` is the root mean square of what the means are off by, in standard deviations of the target, of the
coordinate where it is largest. Errors fall like one over the root of the draws, so the draws that were needed are those
at which it would have been {TOLERANCE}, and `overshoot` is how many times as many there were. ok: the intervals of all
coordinates and of the worst cover {100 * LEAST:g}% and the overshoot is no more than {MOST}, within what {KEYS} keys
can tell (a normal, a binomial and a chi-squared interval, each at 95%, of the worst coordinate with the level divided
by the number of coordinates)."""


class Target(NamedTuple):
    """A target with the mean and the standard deviation of every number of a draw."""

    target: Any
    start: Any
    read: Callable[[Any], Array]
    mean: Array
    sd: Array


def normal(size: int, correlation: float) -> Target:
    covariance = linalg.toeplitz(correlation ** np.arange(size))
    precision, mean = jnp.asarray(linalg.inv(covariance)), jnp.arange(size) / size
    density = lambda x: -0.5 * (x - mean) @ precision @ (x - mean)  # noqa: E731
    return Target(density, jnp.zeros(size), lambda x: x, mean, jnp.ones(size))


def of_model(model: Callable[[Array], Any], read: Callable[[Any], Array], mean: Any, sd: Any) -> Target:
    return Target(vt.condition(model), None, read, jnp.atleast_1d(jnp.asarray(mean)), jnp.atleast_1d(jnp.asarray(sd)))


def student(key: Array) -> None:
    vt.draw(key, dist.StudentT(5.0).expand([3]).to_event(1), name="x")


def shares(key: Array) -> None:
    vt.draw(key, dist.Dirichlet(SHARES), name="x")


def logarithms(shapes: np.ndarray) -> Target:
    """Of gamma variables, which are skewed to the left."""
    mean, sd = (jnp.asarray(special.polygamma(n, shapes)) ** power for n, power in ((0, 1.0), (1, 0.5)))
    return Target(lambda u: jnp.sum(shapes * u - jnp.exp(u)), jnp.zeros(shapes.size), lambda u: u, mean, sd)


SHARES = jnp.array([0.7, 1.5, 4.0])
TARGETS: dict[str, Callable[[], Target]] = {
    "10 normals": lambda: normal(10, 0.0),
    "20 normals, correlated by 0.95": lambda: normal(20, 0.95),
    "3 Student's t of 5 degrees": lambda: of_model(student, lambda d: d["x"], np.zeros(3), np.full(3, (5 / 3) ** 0.5)),
    "shares of a Dirichlet": lambda: of_model(
        shares,
        lambda d: d["x"],
        SHARES / 6.2,
        jnp.sqrt(SHARES / 6.2 * (1 - SHARES / 6.2) / 7.2),
    ),
    "logarithms of gammas": lambda: logarithms(np.array([0.5, 2.0])),
}


class Row(NamedTuple):
    program: str
    covered: tuple[float, float, float]  # and the ends of an interval, as of those below
    coordinate: int
    worst: tuple[float, float, float]
    draws: float
    error: float
    overshoot: tuple[float, float, float]

    @property
    def ok(self) -> bool:
        return self.covered[2] >= LEAST and self.worst[2] >= LEAST and self.overshoot[1] <= MOST

    def cells(self) -> list[str]:
        overshoot, least, most = self.overshoot
        ok = "yes" if self.ok else "NO"
        cells = [*_shares(*self.covered), str(self.coordinate), *_shares(*self.worst), f"{self.draws:,.0f}"]
        return [self.program, *cells, f"{self.error:.4f}", f"{overshoot:.2f}", f"{least:.2f}–{most:.2f}", ok]


def _shares(share: float, low: float, high: float) -> tuple[str, str]:
    return f"{100 * share:.1f}%", f"{100 * low:.1f}–{100 * high:.1f}%"


def row(name: str, make: Callable[[], Target], keys: Array) -> Row:
    case, values, inside, draws = make(), [], [], []
    for key in keys:
        run = vt.sample(key, case.target, case.start, until=vt.StdErr(TOLERANCE, relative_to="sd"))
        found = run.expect(case.read)
        low, high = found.interval()
        values.append(np.asarray(found.value))
        inside.append(np.asarray((low < case.mean) & (case.mean < high)))
        draws.append(run.acceptance.size)
    off, hits, n, level = np.stack(values) - np.asarray(case.mean), np.stack(inside), len(keys), 0.95
    alpha = (1 - level) / off.shape[1]
    share, each = hits.mean(), hits.mean(1)  # of all, of each key's
    half = stats.norm.ppf((1 + level) / 2) * each.std() / n**0.5
    worst = int(np.argmin(hits.sum(0)))
    of_worst: Any = stats.binomtest(int(hits[:, worst].sum()), n).proportion_ci(1 - alpha, "exact")
    squares = np.mean((off / np.asarray(case.sd)) ** 2, axis=0)
    square = float(squares.max())
    low, high = (TOLERANCE**2 * q / (n * square) for q in stats.chi2.ppf([alpha / 2, 1 - alpha / 2], n))
    return Row(
        name,
        (float(share), float(share - half), float(share + half)),
        worst,
        (float(hits[:, worst].mean()), of_worst.low, of_worst.high),
        float(np.mean(draws)),
        square**0.5,
        (TOLERANCE**2 / square, float(low), float(high)),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few keys; writes nothing")
    quick, rows, console = parser.parse_args().quick, [], Console(width=150)
    for number, (name, make) in enumerate(TARGETS.items()):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), number), 20 if quick else KEYS)
        rows.append(row(name, make, keys))
        console.print(*rows[-1].cells(), sep="  ")
    console.print(reports.table(rows, COLUMNS))
    if not quick:
        section = reports.Section("Five targets", COLUMNS, rows)
        path = Path(__file__).parent / "results" / "stopping"
        reports.write_sections([section], path, "Where chains stop", WORDS)
    return int(not quick and not all(row.ok for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
