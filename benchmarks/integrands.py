"""Expectations with known values: Genz's families, options, engineering models, an evidence, an inventory."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from scipy import integrate, stats
from scipy.stats import qmc

import variate as vt


class Integrand(NamedTuple):
    """A program, its expectation, and the same by hand: in NumPy, of independent inputs [n, d] with SciPy's laws."""

    program: Callable[[jax.Array], jax.Array]
    truth: float
    by_hand: Callable[[np.ndarray], np.ndarray]
    laws: list[Any]

    @property
    def dimension(self) -> int:
        return len(self.laws)

    def on_cube(self, u: np.ndarray) -> np.ndarray:
        """Of points [n, d] of the unit cube, the ends of which some quantiles do not have."""
        u = np.clip(u, 1e-12, 1 - 1e-12)
        return self.by_hand(np.stack([law.ppf(x) for law, x in zip(self.laws, u.T, strict=True)], axis=1))


# Genz (1984), Testing multidimensional integration routines: sums of the difficulties, spread evenly over dimensions.
DIFFICULTY = {
    "oscillatory": 9.0,
    "product peak": 7.25,
    "corner peak": 1.85,
    "gaussian": 7.03,
    "continuous": 20.4,
    "discontinuous": 4.3,
}
W = 0.4
NORMAL = stats.norm()


def genz(family: str, d: int) -> Integrand:
    c = DIFFICULTY[family] / d

    def f(x, xp):
        axis = {"axis": -1}
        if family == "oscillatory":
            return 1.5 + xp.cos(2 * math.pi * W + c * xp.sum(x, **axis))
        if family == "product peak":
            return xp.prod(1 / (c**-2 + (x - W) ** 2) / c**2, **axis)
        if family == "corner peak":
            return (1 + c * xp.sum(x, **axis)) ** -(d + 1.0)
        if family == "gaussian":
            return xp.exp(-(c**2) * xp.sum((x - W) ** 2, **axis))
        if family == "continuous":
            return xp.exp(-c * xp.sum(xp.abs(x - W), **axis))
        inside = (x[..., 0] < W) & (x[..., 1] < W)
        return xp.where(inside, xp.exp(c * xp.sum(x, **axis)), 0.0)

    def program(key):
        return f(vt.draw(key, dist.Uniform(jnp.zeros(d), 1.0), name="x"), jnp)

    return Integrand(program, _genz_truth(family, d, c), lambda x: f(x, np), [stats.uniform()] * d)


def _genz_truth(family: str, d: int, c: float) -> float:
    if family == "oscillatory":
        return 1.5 + float(np.real(np.exp(2j * math.pi * W) * ((np.exp(1j * c) - 1) / (1j * c)) ** d))
    if family == "product peak":
        return (c * (math.atan(c * (1 - W)) + math.atan(c * W)) / c**2) ** d
    if family == "corner peak":
        terms = [(-1) ** k * math.comb(d, k) / (1 + k * c) for k in range(d + 1)]
        return math.fsum(terms) / (math.factorial(d) * c**d)
    if family == "gaussian":
        return (math.sqrt(math.pi) / (2 * c) * (math.erf(c * (1 - W)) + math.erf(c * W))) ** d
    if family == "continuous":
        return ((2 - math.exp(-c * W) - math.exp(-c * (1 - W))) / c) ** d
    return (math.expm1(c * W) / c) ** 2 * (math.expm1(c) / c) ** (d - 2)


def call(months: int) -> Integrand:
    """On the geometric mean of monthly prices, which is lognormal; of one month that is Black and Scholes' option."""
    sigma, strike, years = 0.3, 105.0, months / 12
    step = sigma * math.sqrt(years / months)
    weights = np.arange(months, 0, -1) / months * step
    drift = -(sigma**2) * years / months / 2 * (months + 1) / 2
    spread = math.sqrt(float(np.sum(weights**2)))
    forward = 100 * math.exp(drift + spread**2 / 2)
    d1 = (math.log(forward / strike) + spread**2 / 2) / spread
    truth = forward * stats.norm.cdf(d1) - strike * stats.norm.cdf(d1 - spread)

    def payoff(z, xp):
        return xp.maximum(100 * xp.exp(drift + xp.sum(z * xp.asarray(weights), axis=-1)) - strike, 0.0)

    def program(key):
        return payoff(vt.draw(key, dist.Normal(jnp.zeros(months), 1.0), name="z"), jnp)

    return Integrand(program, float(truth), lambda z: payoff(z, np), [NORMAL] * months)


def ishigami() -> Integrand:
    """Ishigami and Homma (1990), with a = 7 and b = 0.1; its mean is a / 2."""

    def f(x, xp):
        return xp.sin(x[..., 0]) + 7 * xp.sin(x[..., 1]) ** 2 + 0.1 * x[..., 2] ** 4 * xp.sin(x[..., 0])

    def program(key):
        return f(vt.draw(key, dist.Uniform(-math.pi * jnp.ones(3), math.pi), name="x"), jnp)

    return Integrand(program, 3.5, lambda x: f(x, np), [stats.uniform(-math.pi, 2 * math.pi)] * 3)


def flow(rw, r, tu, hu, tl, hl, length, kw, xp):
    log = xp.log(r / rw)
    return 2 * math.pi * tu * (hu - hl) / (log * (1 + 2 * length * tu / (log * rw**2 * kw) + tu / tl))


BOUNDS = [(63070, 115600), (990, 1110), (63.1, 116), (700, 820), (1120, 1680), (9855, 12045)]


def borehole() -> Integrand:
    """Water through a borehole, inputs as of Morris, Mitchell and Ylvisaker (1993).

    The reference value is SciPy's Sobol' points' with SciPy's quantiles: 32 scrambles of 2^17, to some 1e-8.
    """

    laws = [stats.norm(0.10, 0.0161812), stats.lognorm(1.0056, scale=math.exp(7.71))]
    laws += [stats.uniform(low, high - low) for low, high in BOUNDS]
    found = Integrand(_borehole, 0.0, lambda x: flow(*x.T, np), laws)
    means = [found.on_cube(qmc.Sobol(8, rng=i).random(2**17)).mean() for i in range(32)]
    return found._replace(truth=float(np.mean(means)))


def _borehole(key):
    keys = jax.random.split(key, 3)
    rw = vt.draw(keys[0], dist.Normal(0.10, 0.0161812), name="rw")
    r = vt.draw(keys[1], dist.LogNormal(7.71, 1.0056), name="r")
    low, high = (jnp.asarray([bound[i] for bound in BOUNDS], float) for i in (0, 1))
    rest = vt.draw(keys[2], dist.Uniform(low, high), name="rest")
    return flow(rw, r, *rest, jnp)


def four_branches() -> Integrand:
    """The failure probability of a series system of four branches (Waarts 2000), by quadrature over one axis."""

    def failing(t):
        return 2 * stats.norm.sf(3 + 0.2 * t**2) * stats.norm.pdf(t)

    truth = integrate.quad(failing, -3, 3, epsabs=1e-14)[0] + 2 * stats.norm.sf(3)

    def fails(x, xp):
        s, t = (x[..., 0] + x[..., 1]) / 2**0.5, (x[..., 0] - x[..., 1]) / 2**0.5
        return (xp.abs(s) > 3 + 0.2 * t**2) | (xp.abs(t) > 3)

    def program(key):
        return fails(vt.draw(key, dist.Normal(jnp.zeros(2), 1.0), name="x"), jnp)

    return Integrand(program, float(truth), lambda x: fails(x, np).astype(float), [NORMAL] * 2)


def evidence() -> Integrand:
    """Of a mixture of two normal likelihoods in the plane under a normal prior."""
    parts = [(0.7, np.array([2.0, 1.0]), 0.5), (0.3, np.array([-2.0, 0.5]), 0.8)]
    truth = sum(w * stats.multivariate_normal.pdf(m, np.zeros(2), (9 + s**2) * np.eye(2)) for w, m, s in parts)

    def likelihood(x, xp):
        squares = [(w, xp.sum((x - xp.asarray(m)) ** 2, axis=-1), s) for w, m, s in parts]
        return sum(w / (2 * math.pi * s**2) * xp.exp(-square / (2 * s**2)) for w, square, s in squares)

    def program(key):
        return likelihood(vt.draw(key, dist.Normal(jnp.zeros(2), 3.0), name="x"), jnp)

    return Integrand(program, float(truth), lambda x: likelihood(x, np), [stats.norm(0, 3)] * 2)


def inventory() -> Integrand:
    """The cost of a shelf of nine over three days, demand Poisson of 4, lost sales 5 each, holding 1."""
    mass = stats.poisson(4.0).pmf(np.arange(60))
    stock, truth = np.zeros(10), 0.0
    stock[9] = 1.0
    for _ in range(3):
        after = np.zeros(10)
        for level, probability in enumerate(stock):
            for demand, chance in enumerate(mass):
                left, lost = max(level - demand, 0), max(demand - level, 0)
                truth += probability * chance * (5 * lost + left)
                after[min(left + 4, 9)] += probability * chance
        stock = after

    def program(key):
        def day(carry, key):
            level, cost = carry
            demand = vt.draw(key, dist.Poisson(4.0), name="demand")
            left, lost = jnp.maximum(level - demand, 0), jnp.maximum(demand - level, 0)
            return (jnp.minimum(left + 4, 9).astype(level.dtype), cost + 5.0 * lost + left), None

        start = jnp.asarray(9), jnp.zeros(())
        return jax.lax.scan(day, start, jax.random.split(key, 3))[0][1]

    def by_hand(demands):
        level, cost = np.full(len(demands), 9), np.zeros(len(demands))
        for demand in demands.T:
            left = np.maximum(level - demand, 0)
            level, cost = np.minimum(left + 4, 9), cost + 5 * np.maximum(demand - level, 0) + left
        return cost

    return Integrand(program, float(truth), by_hand, [stats.poisson(4.0)] * 3)


def integrands() -> dict[str, Integrand]:
    shapes = [(family, d) for family in DIFFICULTY for d in (2, 8)]
    shapes += [(family, 32) for family in ("oscillatory", "gaussian", "product peak")]
    return {
        **{f"Genz {family}, {d} dimensions": genz(family, d) for family, d in shapes},
        "call on a price": call(1),
        "call on a mean of 12 prices": call(12),
        "Ishigami": ishigami(),
        "borehole": borehole(),
        "failure of four branches": four_branches(),
        "evidence of a mixture": evidence(),
        "inventory": inventory(),
    }
