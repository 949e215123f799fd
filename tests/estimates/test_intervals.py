"""Intervals from bounds: as their formulas say, at least as often right as they say, whenever one looks."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from jax.random import clone
from scipy import special, stats

import variate as vt
from variate.estimates import Betting, ClopperPearson, EmpiricalBernstein, Hoeffding, Interval, Sobol, Within
from variate.estimates.intervals import empirical_bernstein
from variate.estimates.intervals.base import Bounded

KINDS = {kind.__name__: kind for kind in (Hoeffding, EmpiricalBernstein, Betting)}
KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


add = jax.jit(Bounded.add_rows)


def folded(interval: Interval, planned: int | None, rows: Any, cuts: tuple[int, ...]) -> Bounded:
    """The fold of rows that come in blocks."""
    fold = Bounded.of(interval, planned, jnp.zeros(()))
    for block in np.split(np.asarray(rows), cuts):
        fold = add(fold, jnp.asarray(block))
    return fold


def numpy_betting(x: np.ndarray, planned: int | None, level: float, resolution: int) -> tuple[float, float]:
    """Waudby-Smith and Ramdas (2024), theorem 3 with eq. 26, a draw at a time."""
    grid = np.linspace(0, 1, resolution + 1)
    up, down, mean, variance = np.ones(grid.size), np.ones(grid.size), 0.5, 0.25
    squares = 0.25
    for i, one in enumerate(x, 1):
        time = planned or i * np.log(i + 1)
        bet = np.sqrt(2 * np.log(2 / (1 - level)) / (variance * time))
        up = up * (1 + np.minimum(bet, 0.75 / np.maximum(grid, 1e-9)) * (one - grid))
        down = down * (1 - np.minimum(bet, 0.75 / np.maximum(1 - grid, 1e-9)) * (one - grid))
        mean = (0.5 + x[:i].sum()) / (i + 1)
        squares += (one - mean) ** 2
        variance = squares / (i + 1)
    possible = grid[np.maximum(up, down) < 2 / (1 - level)]
    return possible.min() - 1 / resolution, possible.max() + 1 / resolution


@pytest.mark.parametrize("planned", [40, None])
def test_bets_are_those_of_the_paper(planned: int | None, key: Array) -> None:
    x = jax.random.beta(key, 2.0, 5.0, (40,))
    ends = folded(Betting(0, 1, resolution=200), planned, x, (20,)).read().interval(0.9)
    expected = numpy_betting(np.asarray(x), planned, 0.95, 200)
    # Bets are those that are best at 95%, whatever the level asked for.
    assert ends[0] >= expected[0] - 1e-12
    assert ends[1] <= expected[1] + 1e-12
    np.testing.assert_allclose(folded(Betting(0, 1, resolution=200), planned, x, (20,)).read().interval(), expected)


def test_fixed_numbers_of_draws_by_formula(key: Array) -> None:
    x = np.asarray(jax.random.uniform(key, (60,), minval=-1.0, maxval=3.0))
    radius = 4 * np.sqrt(np.log(2 / 0.1) / 120)
    low, high = folded(Hoeffding(-1, 3), 60, x, (13,)).read().interval(0.9)
    np.testing.assert_allclose([low, high], [max(x.mean() - radius, -1), min(x.mean() + radius, 3)], rtol=1e-10)
    log = np.log(4 / 0.1)
    radius = np.sqrt(2 * x.var(ddof=1) * log / 60) + 7 * 4 * log / (3 * 59)
    low, high = folded(EmpiricalBernstein(-1, 3), 60, x, (13,)).read().interval(0.9)
    np.testing.assert_allclose([low, high], [max(x.mean() - radius, -1), min(x.mean() + radius, 3)], rtol=1e-10)


def test_the_mixture_of_supermartingales_is_at_its_threshold(key: Array) -> None:
    """A draw at a time, in NumPy: at the ends of the interval the mixture is 2/α."""
    x = np.asarray(jax.random.beta(key, 1.0, 9.0, (500,)))
    guesses = (0.5 + np.concatenate([[0], np.cumsum(x)[:-1]])) / np.arange(1, 501)
    surprise = np.sum((x - guesses) ** 2)
    low, high = folded(EmpiricalBernstein(0, 1), None, x, (100, 300)).read().interval()
    rates, shares = empirical_bernstein._RATES, empirical_bernstein._SHARES
    for s in (x.sum() - 500 * float(low), 500 * float(high) - x.sum()):
        mixture = np.sum(shares * np.exp(rates * s + (np.log1p(-rates) + rates) * surprise)) / shares.sum()
        np.testing.assert_allclose(mixture, 2 / 0.05, rtol=1e-9)


def test_a_bettor_wins_nothing_at_the_mean() -> None:
    """Exactly: the expected capital after two tosses of a coin is 1, in both directions."""
    for p in (0.1, 0.5, 0.93):
        place = round(p * 100)
        capitals = []
        for first in (0.0, 1.0):
            for second in (0.0, 1.0):
                unit = folded(Betting(0, 1, resolution=100), None, [first, second], ()).unit
                chance = (p if first else 1 - p) * (p if second else 1 - p)
                capitals.append([chance * np.exp(unit.above[0, place]), chance * np.exp(unit.below[0, place])])
        np.testing.assert_allclose(np.sum(capitals, axis=0), 1, rtol=1e-12)


@KIND
def test_folds_merge(kind: Any, key: Array) -> None:
    """Means exactly; an interval of merged sets holds, and is about as long as that of one set."""
    x = jax.random.beta(key, 2.0, 5.0, (2000,))
    whole = folded(kind(0, 1), None, x, (700,)).read()
    parts = [folded(kind(0, 1), None, part, ()) for part in (x[:700], x[700:])]
    merged, back = parts[0].merge(parts[1]).read(), parts[1].merge(parts[0]).read()
    np.testing.assert_allclose(merged.value, whole.value, rtol=1e-12)
    np.testing.assert_allclose(merged.interval(), back.interval(), rtol=1e-9)
    length = lambda found: float(found.interval()[1] - found.interval()[0])  # noqa: E731
    assert length(merged) < 1.5 * length(whole)


def test_clopper_pearson_is_scipys() -> None:
    cases, levels = np.array([(0, 7), (3, 50), (50, 50), (999, 10_000)]), (0.5, 0.95, 0.999999)

    def intervals(hits: Array, count: Array) -> list[tuple[Array, Array]]:
        draws = jnp.where(jnp.arange(10_000) < hits, 3.0, -1.0)
        fold = Bounded.of(ClopperPearson(-1, 3), 10_000, draws[0]).add_rows(draws, count).read()
        return [fold.interval(level) for level in levels]

    for level, (low, high) in zip(levels, jax.jit(jax.vmap(intervals))(*cases.T), strict=True):
        exact = [stats.binomtest(*case).proportion_ci(level) for case in cases.tolist()]
        np.testing.assert_allclose(low, [4 * each.low - 1 for each in exact], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(high, [4 * each.high - 1 for each in exact], rtol=1e-9, atol=1e-12)


def toss(key: Array) -> Array:
    return vt.draw(key, dist.Bernoulli(0.03))


@pytest.mark.wide
@KIND
@pytest.mark.slow
@pytest.mark.parametrize("planned", [True, False], ids=["once", "at every power of two"])
def test_they_cover(kind: Any, planned: bool, key: Array) -> None:
    """At least 95% of 1,000 keys, where each misses less often than it may.

    At any time: the interval has to hold at 16, 32, ..., 1,024 draws, all of them.
    """
    n = 1024
    laws = [
        (lambda key: jax.random.bernoulli(key, 0.03, (n,)).astype(float), 0.03),
        (lambda key: jax.random.beta(key, 8.0, 2.0, (n,)), 0.8),
    ]
    interval = Betting(0, 1, resolution=100) if kind is Betting else kind(0, 1)
    cuts = [0, n] if planned else [0, *(2**k for k in range(4, 11))]

    def covers(x: Array, mean: Array) -> Array:
        fold = Bounded.of(interval, n if planned else None, x[0])
        inside = jnp.ones((), bool)
        for start, stop in itertools.pairwise(cuts):
            fold = fold.add_rows(x[start:stop])
            low, high = fold.read().interval()
            inside &= (low <= mean) & (mean <= high)
        return inside

    many = jax.jit(lambda draws, mean: jnp.mean(jax.lax.map(lambda x: covers(x, mean), draws, batch_size=50)))
    for draw, mean in laws:
        assert many(jax.vmap(draw)(jax.random.split(clone(key), 1000)), jnp.asarray(mean)) >= 0.95


def test_betting_is_shortest_for_a_given_number(key: Array) -> None:
    lengths = {}
    for name, kind in KINDS.items():
        low, high = vt.expect(toss, interval=kind(0, 1), num_samples=500)(clone(key)).interval()
        lengths[name] = float(high - low)
    assert lengths["Betting"] < 0.8 * lengths["EmpiricalBernstein"] < 0.8 * lengths["Hoeffding"]


@KIND
def test_it_stops_within_a_tolerance(kind: Any, key: Array) -> None:
    found = vt.expect(toss, interval=kind(0, 1), until=Within(0.05))(key)
    low, high = found.interval()
    assert found.converged
    assert float(found.value - low) <= 0.05 >= float(high - found.value)
    assert low <= 0.03 <= high


def test_all_coordinates_at_once(key: Array) -> None:
    """Bonferroni's level, for intervals from bounds and others, under `vmap` too."""
    run = vt.expect(lambda key: jax.random.uniform(key, (4,)), interval=EmpiricalBernstein(0, 1), num_samples=300)
    keys = jax.random.split(clone(key), 2)
    one = run(clone(keys)[1])
    np.testing.assert_allclose(one.interval(simultaneous=True), one.interval(1 - 0.05 / 4), rtol=1e-12)
    many = jax.vmap(run)(keys)
    np.testing.assert_allclose(many.interval(simultaneous=True)[0][1], one.interval(simultaneous=True)[0], rtol=1e-10)
    plain = vt.expect(lambda key: jax.random.uniform(key, (4,)), num_samples=300)(clone(key))
    np.testing.assert_allclose(plain.interval(simultaneous=True), plain.interval(1 - 0.05 / 4), rtol=1e-12)
    rules = [vt.StdErr(0.1, simultaneous=True), vt.StdErr(0.1, level=1 - 0.05 / 4)]
    lengths = [float(jnp.asarray(rule.assess(plain).stderr)[0]) for rule in rules]
    # Either stderr is told at its own level's quantile.
    ratio = special.ndtri(1 - 0.05 / 8) / special.ndtri(0.975)
    np.testing.assert_allclose(lengths[0], lengths[1] * ratio, rtol=1e-10)


def test_it_is_said(key: Array) -> None:
    found = vt.expect(toss, interval=Hoeffding(0, 1), num_samples=100)(clone(key))
    low, high = found.interval()
    assert f"95% interval {float(low):.4g} to {float(high):.4g} by Hoeffding" in str(found)
    found = vt.expect(lambda key: jax.random.uniform(key, (3,)), interval=Hoeffding(0, 1), num_samples=100)(key)
    assert "95% interval of ±0.136 at most by Hoeffding" in str(found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interval": Hoeffding(0, 1), "until": vt.StdErr(0.1)}, "ends by Within"),
        ({"until": Within(0.1)}, "needs an interval that rests on bounds"),
        ({"interval": Hoeffding(0, 1), "method": Sobol(), "num_samples": 64}, "those of independent runs"),
        ({"interval": ClopperPearson(), "num_samples": 64}, "64 of 64 results were not 0 or 1"),
        ({"interval": ClopperPearson(), "until": Within(0.1)}, "fixed in advance"),
        ({"interval": Hoeffding(0, 0.1), "num_samples": 64}, r"of 64 results were not between 0 and 0\.1"),
    ],
)
def test_what_cannot_be_is_said(options: dict[str, Any], message: str, key: Array) -> None:
    with pytest.raises(ValueError, match=message):
        vt.expect(lambda key: vt.draw(key, dist.Uniform(0.0, 1.0)), **options)(key)


def test_wrong_kinds_are_named(key: Array) -> None:
    with pytest.raises(TypeError, match="interval"):
        vt.expect(lambda key: jax.random.uniform(key), interval=0.95)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="low must be below high, got low=1 and high=0"):
        Betting(1, 0)
    with pytest.raises(ValueError, match="high must be a finite number, got inf"):
        Hoeffding(0, float("inf"))
    with pytest.raises(ValueError, match="absolute must be a positive number"):
        Within(0.0)


def test_draws_out_of_bounds_withhold_the_interval_inside_of_jit(key: Array) -> None:
    found = jax.jit(vt.expect(lambda key: jax.random.uniform(key) * 2, interval=Hoeffding(0, 1), num_samples=64))(key)
    assert not found.converged
    assert np.all(np.isnan(found.interval()))
