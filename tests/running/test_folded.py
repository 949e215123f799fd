"""Means over chains that are not kept: those of the same chains kept, with error bars that cover, and doubts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import variate as vt
from variate.mcmc import HMC, RandomWalk, fold
from variate.programs import distribution_target
from variate.protocols import Steps
from variate.running import Folded, progress
from variate.running.folded import Moments
from variate.running.keeping import Means, thinned
from variate.running.until import Precise


def normal(x: jax.Array) -> jax.Array:
    return -0.5 * x @ x


def moments(x: jax.Array) -> dict[str, jax.Array]:
    return {"first": x, "second": x**2}


def test_they_are_the_means_of_the_same_chains(key: jax.Array) -> None:
    options: dict = {"kernel": HMC(num_steps=4), "num_samples": 150, "num_warmup": 100, "num_chains": 30}
    folded = fold(key, normal, moments, jnp.ones(2), **options)
    draws = vt.sample(jax.random.clone(key), normal, jnp.ones(2), **options)
    x = draws.values
    for found, values in ((folded.moments.mean["first"], x), (folded.moments.mean["second"], x**2)):
        np.testing.assert_allclose(found, [values[:, :75].mean(1), values[:, 75:].mean(1)], rtol=0, atol=1e-12)
    squares = [((half - half.mean(1, keepdims=True)) ** 2).sum(1) for half in (x[:, :75], x[:, 75:])]
    np.testing.assert_allclose(folded.moments.squares["first"], squares, rtol=1e-10)
    assert folded.kernel == "HMC"
    assert folded.expect().num_samples == 30 * 150
    assert np.isclose(np.mean([i.acceptance for i in folded.info]), draws.acceptance.mean())
    # Of a block nothing is left that grows with its steps, its chains or the dimension.
    assert max(np.size(leaf) for leaf in jax.tree.leaves(folded.info)) == 1


@pytest.mark.parametrize("blocks", [1, 2, 3, 7, 8, 9, 16, 17, 37])
def test_batches_are_joined_as_the_run_grows(blocks: int) -> None:
    """Their halves are those of all values, of which neither has less than two fifths where there are four blocks."""
    means, x = Means(None), np.random.default_rng(blocks).normal(size=(blocks, 5, 3, 2))
    sums = means.begin(lambda: jnp.zeros((5, 3, 2)))
    told = Steps(
        jnp.zeros((5, 3)), None, vt.mcmc.base.Info(*[jnp.zeros((5, 3))] * 2, jnp.zeros((5, 3), bool), jnp.ones((5, 3)))
    )
    for index, values in enumerate(x):
        sums, _ = means.add(sums, index, jnp.asarray(values), told)
    assert int(sums.count.sum()) == 5 * blocks
    halves = sums.halves()
    first, *second = halves.count
    assert blocks < 4 or 0.4 <= first / (5 * blocks) <= 0.5
    parts = np.split(x.reshape(-1, 3, 2), [first])[: 1 + len(second)]
    np.testing.assert_allclose(halves.mean, [part.mean(0) for part in parts], rtol=0, atol=1e-12)
    np.testing.assert_allclose(halves.squares, [part.var(0) * len(part) for part in parts], rtol=1e-10)


@pytest.mark.parametrize(
    ("until", "allowed"),
    [(vt.StdErr(0.01), 0.01), (vt.StdErr(0.01, relative_to="sd"), 0.02), (vt.ESS(10_000), 0.02)],
)
def test_it_goes_on_until_means_are_known(until: Any, allowed: float, key: jax.Array) -> None:
    """The standard error is what was asked for, and half as many steps would not have been enough.

    From a look to the next it falls by a twentieth, and of 200 chains by noise of 2%: a third is beyond 10 sd. The sd
    is known to 1% by 5,000 effective draws of squares, and five of these off but once in a million runs.
    """
    target = distribution_target(dist.Normal(1.0, 2.0))
    folded = fold(key, target, kernel=RandomWalk(4.0), until=until, num_warmup=100, num_chains=200)
    found = folded.expect()
    assert folded.ended is None
    assert found.converged
    assert 0.7 * allowed < found.stderr["x"] <= allowed
    (known,) = folded.known()
    assert float(known.sd[0]) == pytest.approx(2, rel=0.05)
    assert folded.ess()["x"] == pytest.approx(float(known.sd[0] / found.stderr["x"]) ** 2, rel=1e-6)
    assert abs(found.value["x"] - 1) < stats.t.isf(5e-7, 199) * found.stderr["x"]


def test_a_rule_that_is_never_met_ends_at_the_most(key: jax.Array) -> None:
    k1, k2 = jax.random.split(key)
    never = fold(k1, normal, None, jnp.ones(1), until=vt.StdErr(1e-6), num_samples=50, num_warmup=25)
    assert never.ended == "ended after 50 draws of each chain, before it was enough"
    assert not never.expect().converged
    still = fold(k2, normal, None, jnp.ones(1), kernel=RandomWalk(1e9), until=vt.ESS(1), num_samples=50, num_warmup=25)
    assert np.isnan(still.ess())
    assert still.ended is not None
    with pytest.raises(TypeError, match="until must be a rule"):
        fold(jax.random.clone(key), normal, None, jnp.ones(1), until=0.1)


REPLICATES, CHAINS = 400, 30
LEAST, MOST = stats.binom.ppf([1e-6, 1 - 1e-6], REPLICATES, 0.95)


def covered(key: jax.Array, *shares: float) -> np.ndarray:
    """How many replicates have the mean 1 in their 95% interval, with errors so many times as large: for each share."""
    target = distribution_target(dist.Normal(1.0, 2.0))
    many = fold(key, target, kernel=RandomWalk(4.0), num_samples=200, num_warmup=100, num_chains=REPLICATES * CHAINS)
    hits = np.zeros(len(shares), int)
    for i in range(REPLICATES):
        own = jax.tree.map(lambda x, i=i: x[:, i * CHAINS : (i + 1) * CHAINS], many.moments[1:])
        found = Folded(Moments(many.moments.count, *own), many.info).expect()
        low, high = (float(end["x"]) for end in found.interval(0.95))
        hits += abs((low + high) / 2 - 1) < np.array(shares) * (high - low) / 2
    return hits


@pytest.mark.slow
@pytest.mark.table
def test_intervals_cover(key: jax.Array) -> None:
    """In all but two of a million runs; those of errors that are a fifth too small do not."""
    right, short = covered(key, 1.0, 0.8)
    assert LEAST <= right <= MOST
    assert short < LEAST


def test_intervals_cover_where_the_rule_stops() -> None:
    """Of runs side by side, each a number; at a coverage of 93.5%, fewer of 10,000 are seen once in a million times.

    Intervals that are a fifth too short are found.
    """
    rule, runs = Precise(vt.StdErr(0.04, relative_to="sd")), 10_000
    looks = np.unique(np.ceil(4 * 1.1 ** np.arange(30)).astype(int))
    x = np.random.default_rng(0).normal(size=(looks[-1], CHAINS, runs))
    going, inside, short = np.ones(runs, bool), np.zeros(runs, bool), np.zeros(runs, bool)
    for n in looks:
        (known,) = Folded(Moments(np.array([n]), x[:n].mean(0)[None], x[:n].var(0)[None] * n), []).known()
        stop = going & rule.within(known)
        off = np.abs(known.mean) / (stats.t.ppf(0.975, CHAINS - 1) * known.stderr)
        inside, short = inside | (stop & (off < 1)), short | (stop & (off < 0.8))
        going &= ~stop
    assert not going.any()
    assert short.sum() < stats.binom.ppf(1e-6, runs, 0.935) <= inside.sum()


def test_nothing_is_found_against_chains_that_are_right(key: jax.Array) -> None:
    found = fold(key, normal, moments, jnp.ones(3), num_chains=200, num_samples=200)
    assert found.doubts() == []
    estimate = found.expect()
    assert estimate.converged
    assert estimate.degrees == 199
    assert np.all(np.abs(estimate.value["second"] - 1) < 5.1 * estimate.stderr["second"])  # Student's, at 1e-6


def mixture(x: jax.Array) -> jax.Array:
    return jnp.logaddexp(-0.5 * jnp.sum((x - 20) ** 2), -0.5 * jnp.sum((x + 20) ** 2))


def test_chains_that_stay_in_modes_are_told(key: jax.Array) -> None:
    found = fold(key, mixture, None, jnp.zeros(1), kernel=HMC(0.5, 4, 1.0), num_samples=100, num_warmup=25)
    assert found.doubts()[0].startswith("chains disagree on the means: R-hat is ")
    assert not found.expect().converged


@pytest.mark.slow
@pytest.mark.table
def test_what_is_left_of_the_starts_is_told(key: jax.Array) -> None:
    """R-hat is near one, but of 2,000 chains that began ten standard deviations off the mean shows it."""
    walk, far = RandomWalk(0.5), jnp.full(1, 10.0)
    found = fold(key, normal, None, far, kernel=walk, num_samples=2_000, num_warmup=1, num_chains=2_000)
    assert found.rhat().max() < 1.05
    assert "drifts: its halves are " in found.doubts()[0]


def test_a_chain_that_stands_still_or_diverges_is_told(key: jax.Array) -> None:
    k1, k2 = jax.random.split(key)
    still = fold(k1, normal, None, jnp.ones(1), kernel=RandomWalk(1e9), num_samples=50, num_warmup=25, num_chains=30)
    assert "stands still" in still.doubts()[0]
    wild = fold(k2, normal, None, jnp.ones(1), kernel=HMC(1e9, 1, 1.0), num_samples=50, num_warmup=25, num_chains=30)
    assert wild.doubts()[-1] == "1500 of 1500 steps were divergent"


@contextmanager
def interrupting(warm: int, kept: int) -> Iterator[Any]:
    def tell(reached: Any) -> None:
        if len(reached.kept) == 3:
            raise KeyboardInterrupt

    yield tell


def test_after_an_interrupt_it_goes_on_to_the_same_means(
    key: jax.Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(path: Path | None, **options: Any) -> Folded:
        options = {"num_samples": 200, "num_warmup": 100, "num_chains": 30, "checkpoint": path, **options}
        return fold(jax.random.clone(key), normal, moments, jnp.ones(2), **options)

    whole, path = run(None), tmp_path / "means.npz"
    with monkeypatch.context() as patch:
        patch.setattr(progress, "chains_silent", interrupting)
        stopped = run(path)
    assert stopped.ended == "interrupted"
    assert stopped.expect().num_samples == 30 * 75
    assert not stopped.expect().converged
    resumed = run(path)
    for one, other in zip(jax.tree.leaves(whole.moments), jax.tree.leaves(resumed.moments), strict=True):
        assert np.array_equal(one, other)
    longer = run(path, num_samples=300)  # for longer than was asked for at first
    for one, other in zip(
        jax.tree.leaves(longer.moments), jax.tree.leaves(run(None, num_samples=300).moments), strict=True
    ):
        assert np.array_equal(one, other)
    with pytest.raises(ValueError, match="with other draws kept"):
        fold(
            key,
            normal,
            lambda x: jax.tree.map(jnp.negative, moments(x)),
            jnp.ones(2),
            num_warmup=100,
            num_chains=30,
            checkpoint=path,
        )


def test_of_steps_between_those_kept_the_info_remains(key: jax.Array) -> None:
    k1, k2 = jax.random.split(key)
    draws = vt.sample(k1, normal, jnp.ones(2), kernel=HMC(0.3, 4, 1.0), num_samples=100, num_warmup=25, thin=5)
    assert draws.values.shape == (4, 100, 2)
    assert np.all(draws.evaluations == 5 * draws.warmup.evaluations[0, 0])
    info = draws.warmup
    assert info.acceptance.shape == (4, 25)
    x = jax.random.normal(k2, (6, 4, 2))
    told = vt.mcmc.base.Info(x[..., 0], x[..., 0] > 0, x[..., 1] > 1, jnp.ones((6, 4), int))
    found = thinned(Steps(x, None, told), 3)
    assert jnp.array_equal(found.position, x[jnp.array([2, 5])])
    assert found.gradient is None
    assert jnp.allclose(found.info.acceptance, x[..., 0].reshape(2, 3, 4).mean(1))
    assert jnp.array_equal(found.info.divergent, told.divergent.reshape(2, 3, 4).any(1))
    assert jnp.all(found.info.evaluations == 3)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"num_chains": 4}, ValueError, "num_chains must be at least 30, got 4"),
        ({"num_samples": 0}, ValueError, "num_samples must be a positive integer"),
        ({"f": 3.0}, TypeError, "f must be a function"),
    ],
)
def test_bad_input_is_named(options: dict, error: type, words: str, key: jax.Array) -> None:
    with pytest.raises(error, match=words):
        fold(key, normal, **{"f": None, "start": jnp.ones(1), **options})
    with pytest.raises(ValueError, match="thin must be a positive integer"):
        vt.sample(key, normal, jnp.ones(1), thin=0)
