"""What others need for the integrands of `expectations.py`: SciPy, a loop by hand, chaospy; SALib for indices."""

import math
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import chaospy
import jax
import numpy as np
import numpyro.distributions as dist
import SALib.analyze.sobol
import SALib.sample.sobol
from integrands import Integrand
from scipy import integrate, stats
from scipy.stats import qmc

import variate as vt
from variate.estimates import sensitivity

REPLICATES = 16
MOST_POINTS = 2**19  # of one of the replicates
MOST_NODES, SECONDS = 300_000, 8.0
STAYS = 2  # sizes after, at which the error has to be below as well


class Taken(NamedTuple):
    """Runs until a stated error was small enough, none where it never was; by how many of these the truth is missed."""

    runs: int | None
    seconds: float
    off: float | None


def qmc_quad(integrand: Integrand, relative: float, seed: int) -> Taken:
    """SciPy's, its points doubled until the error that it states is small enough."""
    points, runs, start, d = 64, 0, time.perf_counter(), integrand.dimension
    while points <= MOST_POINTS:
        options = {"n_estimates": REPLICATES, "n_points": points, "qrng": qmc.Sobol(d, rng=1000 * seed + points)}
        f = lambda x: integrand.on_cube(np.atleast_2d(x.T))  # noqa: E731
        found = integrate.qmc_quad(f, np.zeros(d), np.ones(d), **options)
        runs += REPLICATES * points
        if found.standard_error < relative * abs(found.integral):
            off = float(abs(found.integral - integrand.truth) / found.standard_error)
            return Taken(runs, time.perf_counter() - start, off)
        points *= 2
    return Taken(None, time.perf_counter() - start, None)


def by_hand(integrand: Integrand, relative: float, seed: int) -> Taken:
    """Scrambles of SciPy's Sobol' points that go on, until Student's 95% interval is as short as 1.96 tolerances.

    No point is thrown away, and that it looks several times is in no error bar.
    """
    engines = [qmc.Sobol(integrand.dimension, rng=np.random.default_rng([seed, i])) for i in range(REPLICATES)]
    sums, points, start = np.zeros(REPLICATES), 0, time.perf_counter()
    quantile = stats.t.ppf(0.975, REPLICATES - 1) / stats.norm.ppf(0.975)
    while points < MOST_POINTS:
        new = max(points, 64)
        sums += [integrand.on_cube(engine.random(new)).sum() for engine in engines]
        points += new
        means = sums / points
        stderr = quantile * means.std(ddof=1) / math.sqrt(REPLICATES)
        if 0 < stderr < relative * abs(means.mean()):
            off = float(abs(means.mean() - integrand.truth) / stderr)
            return Taken(REPLICATES * points, time.perf_counter() - start, off)
    return Taken(None, time.perf_counter() - start, None)


def quadrature(integrand: Integrand, relative: float) -> tuple[Taken, str]:
    """The fewest nodes of chaospy's Gauss rules from which on the known truth is met.

    Grids for up to three inputs, Smolyak's sparse grids for more; it has no error of its own that would tell.
    """
    joint, rule = chaospy.J(*map(_law, integrand.laws)), "gaussian"
    sparse = integrand.dimension > 3

    def nodes(order: int) -> tuple[np.ndarray, np.ndarray]:
        return chaospy.generate_quadrature(order, joint, rule=rule, sparse=sparse)

    found = _met(integrand, relative, nodes, range(1, 400))
    return found, "sparse grid" if sparse else "grid"


def low_discrepancy(integrand: Integrand, relative: float) -> tuple[Taken, str]:
    """The same of chaospy's Sobol' points, which are not randomised."""
    joint = chaospy.J(*map(_law, integrand.laws))

    def points(n: int) -> tuple[np.ndarray, np.ndarray]:
        return np.atleast_2d(joint.sample(n, rule="sobol")), np.full(n, 1 / n)

    return _met(integrand, relative, points, [2**k for k in range(4, 19)]), ""


def _met(integrand: Integrand, relative: float, nodes: Callable[[int], Any], sizes: Any) -> Taken:
    start, since, runs = time.perf_counter(), 0, None
    for size in sizes:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x, weights = nodes(size)
        if len(weights) > MOST_NODES or time.perf_counter() - start > SECONDS:
            break
        off = abs(float(np.sum(weights * integrand.by_hand(x.T))) / integrand.truth - 1)
        since, runs = (since + 1, runs or len(weights)) if off < relative else (0, None)
        if since > STAYS:
            return Taken(runs, time.perf_counter() - start, None)
    return Taken(None, time.perf_counter() - start, None)


def _parts(law: Any) -> tuple[str, tuple[float, float]]:
    """The name and the two parameters of one of SciPy's laws, frozen."""
    name = law.dist.name
    if name == "lognorm":
        return name, (math.log(law.median()), law.args[0])
    if name not in ("uniform", "norm"):
        raise ValueError(f"no rule for {name}")
    return name, law.support() if name == "uniform" else (law.mean(), law.std())


def _law(law: Any) -> Any:
    """Chaospy's."""
    name, parts = _parts(law)
    return {"uniform": chaospy.Uniform, "norm": chaospy.Normal, "lognorm": chaospy.LogNormal}[name](*parts)


def _ours_of(law: Any) -> Any:
    name, parts = _parts(law)
    return {"uniform": dist.Uniform, "norm": dist.Normal, "lognorm": dist.LogNormal}[name](*parts)


class Indices(NamedTuple):
    """Sobol' indices, first ones and totals: root mean square of their errors, and how many stated intervals cover."""

    program: str
    what: str
    evaluations: int
    error: float
    covered: float
    ok: bool | None = None

    def cells(self) -> list[str]:
        return [self.program, self.what, f"{self.evaluations:,}", f"{self.error:.2g}", f"{100 * self.covered:.1f}%"]


INDICES = ("function", "method", "evaluations", "error", "95% intervals that cover")
SALIB = "SALib: sobol"


def indices(name: str, integrand: Integrand, f: Callable[[list[Any]], Any], pairs: list[int], seeds: int) -> list[Any]:
    """Ours and SALib's, of so many pairs of runs; the truth is SALib's way with 2^17 pairs, the mean of 8 scrambles."""
    d, found = integrand.dimension, []
    truth = np.mean([_salib(integrand, 2**17, 900 + i, 2)[0] for i in range(8)], axis=0)
    for n in pairs:
        run = sensitivity(_program(integrand, f), num_samples=n, block_size=2048)
        ways = {"variate: sensitivity": lambda seed, run=run: _ours(run(jax.random.key(seed)))}
        ways[SALIB] = lambda seed, n=n: _salib(integrand, n, seed)
        for what, way in ways.items():
            estimates = [way(seed) for seed in range(seeds)]
            misses = np.array([value - truth for value, _ in estimates])
            covered = np.abs(misses) <= np.array([reach for _, reach in estimates])
            error = float(np.sqrt(np.mean(misses**2)))
            found.append(Indices(name, what, n * (d + 2), error, float(np.mean(covered))))
    return found


def _program(integrand: Integrand, f: Callable[[list[Any]], Any]) -> Callable[[jax.Array], Any]:
    """With a name for each input."""

    def program(key: jax.Array) -> Any:
        keys = jax.random.split(key, integrand.dimension)
        return f([vt.draw(keys[i], _ours_of(law), name=f"x{i}") for i, law in enumerate(integrand.laws)])

    return program


def _ours(found: vt.Estimate) -> tuple[np.ndarray, np.ndarray]:
    low, high = found.interval(0.95)
    flat = lambda tree: np.array([float(x) for kind in ("first", "total") for x in tree[kind].values()])  # noqa: E731
    return flat(found.value), (flat(high) - flat(low)) / 2


def _salib(integrand: Integrand, n: int, seed: int, resamples: int = 100) -> tuple[np.ndarray, np.ndarray]:
    d = integrand.dimension
    problem = {"num_vars": d, "names": [f"x{i}" for i in range(d)], "bounds": [[0.0, 1.0]] * d}
    points = SALib.sample.sobol.sample(problem, n, calc_second_order=False, seed=seed)
    options = {"calc_second_order": False, "num_resamples": resamples, "seed": seed}
    found = SALib.analyze.sobol.analyze(problem, integrand.on_cube(points), **options)
    return np.append(found["S1"], found["ST"]), np.append(found["S1_conf"], found["ST_conf"])
