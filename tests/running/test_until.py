"""Chains go on until a rule is met and no further, whatever ends them keeps the draws, and intervals there cover."""

import dataclasses
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import variate as vt
from variate.estimates.rules import Rule
from variate.mcmc import RandomWalk
from variate.programs import distribution_target
from variate.running import ESS, RHat, Seconds
from variate.running.until import SoFar, rule_of

TARGET = distribution_target(dist.Normal(1.0, 2.0))
SLOW = RandomWalk(1.0)  # some 40 draws for one that counts
QUICK = RandomWalk(4.0)  # some 10


def run(key: jax.Array, until: Any, kernel: Any = SLOW, **options: Any) -> Any:
    return vt.sample(key, TARGET, kernel=kernel, until=until, num_warmup=100, **options)


def asked(draws: vt.running.Draws, until: Any) -> list[bool]:
    """Whether the rule was met at each of its looks: after blocks of 25 draws, whenever there are a tenth more."""
    looks = [1]
    for blocks in range(2, draws.acceptance.shape[1] // 25 + 1):
        if blocks >= 1.1 * looks[-1]:
            looks.append(blocks)
    assert 25 * looks[-1] == draws.acceptance.shape[1]
    alone = dataclasses.replace(draws, warmup=None)
    parts = [jax.tree.map(lambda x, n=n: x[:, : 25 * n], alone) for n in looks]
    return [rule_of(until).met(SoFar(part, 0.0)) for part in parts]


@pytest.mark.parametrize(
    "until", [vt.ESS(400), vt.StdErr(0.1), vt.StdErr(0.05, relative_to="sd"), vt.StdErr(relative=0.1)], ids=repr
)
def test_it_goes_on_until_it_is_enough_and_no_further(until: Any, key: jax.Array) -> None:
    """At the last look, and at none before."""
    draws = run(key, until)
    *before, last = asked(draws, until)
    assert last
    assert not any(before)
    assert draws.ended is None
    found = draws.expect()
    # False alarms: 1e-6, of the intervals that are reported.
    assert abs(found.value["x"] - 1) < stats.t.isf(5e-7, found.degrees) * found.stderr["x"]


def test_what_a_support_has_as_it_is_keeps_no_rule_waiting(key: jax.Array) -> None:
    with jax.numpy_dtype_promotion("standard"):
        triangle, rule = distribution_target(dist.LKJCholesky(2, 2.0)), vt.ESS(400) & RHat(1.02) & vt.StdErr(0.1)
    k1, k2 = jax.random.split(key)
    draws = vt.sample(k1, triangle, kernel=QUICK, until=rule, num_warmup=25, num_samples=2_000)
    assert draws.ended is None
    assert not any("stands still" in doubt for doubt in draws.doubts())
    folded = vt.mcmc.fold(k2, triangle, kernel=QUICK, until=vt.ESS(400), num_warmup=25, num_samples=2_000)
    assert folded.ended is None
    assert folded.rhat()["x"][0].tolist() == [1.0, 1.0]


class Never(Rule):
    def met(self, so_far: SoFar) -> bool:
        return False


class Interrupted(Rule):
    def met(self, so_far: SoFar) -> bool:
        if so_far.draws.acceptance.shape[1] >= 100:
            raise KeyboardInterrupt
        return False


def test_what_was_drawn_is_kept_where_it_ends_before_it_is_enough(key: jax.Array) -> None:
    k1, k2, k3 = jax.random.split(key, 3)
    interrupted, capped = run(k1, Interrupted()), run(k2, Never(), num_samples=60)
    assert interrupted.acceptance.shape == (4, 100)
    assert interrupted.ended == "interrupted"
    assert "interrupted" in str(interrupted.expect())
    assert capped.acceptance.shape == (4, 60)
    assert capped.ended == "ended after 60 draws of each chain, before it was enough"
    assert not capped.expect().converged
    assert run(k3, Seconds(1e-9)).acceptance.shape == (4, 25)


@pytest.mark.parametrize(
    ("rule", "met"),
    [
        (ESS(10) & Never(), False),
        (ESS(10) | Never(), True),
        (Never() | vt.StdErr(10.0), True),
        (vt.StdErr(10.0) & ESS(1e9), False),
        (RHat(1.5) & Seconds(1.0), True),
        (RHat(1.5) & Seconds(3.0), False),
        (RHat() & Never(), False),
    ],
)
def test_rules_combine(rule: Any, met: bool) -> None:
    values = np.random.default_rng(0).normal(size=(4, 200))
    nothing = np.zeros((4, 200))
    draws = vt.running.Draws({"x": values}, nothing, nothing.astype(bool), nothing.astype(int))
    assert rule_of(rule).met(SoFar(draws, 2.0)) == met


def test_steps_with_a_history_are_enough_by_the_error_of_independent_chains() -> None:
    values = np.random.default_rng(0).normal(size=(4, 200)) + np.array([-2.0, -1.0, 1.0, 2.0])[:, None]
    nothing = np.zeros((4, 200))
    draws = vt.running.Draws({"x": values}, nothing, nothing.astype(bool), nothing.astype(int), history=True)
    (known,) = draws.known()
    np.testing.assert_allclose(known.stderr, values.mean(1).std(ddof=1) / 2, rtol=1e-12)
    np.testing.assert_allclose(known.ess, (values.std() / known.stderr) ** 2, rtol=1e-12)


@pytest.mark.parametrize("make", [lambda: ESS(0), lambda: RHat(1.0), lambda: Seconds(-1.0)])
def test_rules_that_say_nothing_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        make()


def test_a_tolerance_in_standard_deviations_is_for_chains(key: jax.Array) -> None:
    with pytest.raises(ValueError, match=r"is for vt\.sample"):
        vt.expect(lambda key: jax.random.normal(key), until=vt.StdErr(0.1, relative_to="sd"))(key)
    with pytest.raises(ValueError, match='relative_to must be "sd"'):
        vt.StdErr(0.1, relative_to="mean")


@pytest.mark.slow
def test_intervals_cover_where_it_stops(key: jax.Array) -> None:
    # At a coverage of 93.5%, fewer of 500 are seen once in a million runs.
    hits = []
    for own in jax.random.split(key, 500):
        found = run(own, vt.StdErr(0.1, relative_to="sd"), QUICK).expect()
        hits.append(bool(abs(found.value["x"] - 1) < 1.96 * found.stderr["x"]))
    assert sum(hits) >= stats.binom.ppf(1e-6, 500, 0.935)
