"""Stopping rules of every kind combine with every other, nested too, for expectations and for chains."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import variate as vt
from variate.estimates import Betting, Estimate, Sobol, StdErr, Within
from variate.estimates.rules import Both, Either
from variate.running import ESS, Draws, RHat, Seconds
from variate.running.until import SoFar, rule_of

# Of an estimate of 1 with a standard error of 0.01, and of draws that are independent: whether each is met.
TOLERANCES = [(StdErr(0.1), True), (StdErr(relative=1e-3), False)]
NUMBERS = np.random.default_rng(0).normal(size=(4, 200))
CHAINS = [*TOLERANCES, (ESS(10), True), (ESS(1e9), False), (RHat(1.5), True), (Seconds(3.0), False)]


def draws() -> Draws:
    nothing = np.zeros(NUMBERS.shape)
    return Draws({"x": NUMBERS}, nothing, nothing.astype(bool), nothing.astype(int))


@pytest.mark.parametrize(("one", "other"), list(itertools.product(CHAINS, CHAINS)))
def test_every_two_rules_of_chains_combine(one: tuple[Any, bool], other: tuple[Any, bool]) -> None:
    so_far = SoFar(draws(), 2.0)
    (first, met), (second, also) = one, other
    assert rule_of(first & second).met(so_far) == (met and also)
    assert rule_of(first | second).met(so_far) == (met or also)
    assert rule_of((first | second) & second).met(so_far) == also
    assert rule_of(first | (first & second)).met(so_far) == met


@pytest.mark.parametrize(("one", "other"), list(itertools.product(TOLERANCES, TOLERANCES)))
def test_every_two_tolerances_of_expectations_combine(one: tuple[Any, bool], other: tuple[Any, bool]) -> None:
    estimate = Estimate(jnp.ones(()), jnp.asarray(0.01), 10_000)
    (first, met), (second, also) = one, other
    assert bool((first & second).assess(estimate).converged) == (met and also)
    assert bool((first | second).assess(estimate).converged) == (met or also)
    assert bool(((first & second) | second).assess(estimate).converged) == also


def test_the_error_bar_of_two_is_the_longer(key: jax.Array) -> None:
    estimate = Estimate(jnp.ones(()), jnp.asarray(0.01), 10_000)
    rules = StdErr(0.1, level=0.5), StdErr(0.1, expected_samples=10**6)
    alone = [float(rule.assess(estimate).stderr) for rule in rules]
    for both in (rules[0] & rules[1], rules[1] | rules[0]):
        assert float(both.assess(estimate).stderr) == max(alone)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"method": ()}, id="plain"),
        pytest.param({"method": Sobol()}, id="Sobol", marks=[pytest.mark.slow, pytest.mark.table]),
        pytest.param({}, id="chosen", marks=[pytest.mark.slow, pytest.mark.table]),
    ],
)
def test_an_expectation_ends_when_both_or_one_are_met(options: dict[str, Any], key: jax.Array) -> None:
    def run(until: Any) -> Estimate:
        return vt.expect(lambda key: vt.draw(key, dist.Normal(0.0, 1.0)), until=until, **options)(jax.random.clone(key))

    tight, loose = run(StdErr(0.03)), run(StdErr(0.1))
    assert int(run(StdErr(0.03) & StdErr(0.1)).num_samples) == int(tight.num_samples)
    assert int(run(StdErr(0.03) | StdErr(0.1)).num_samples) == int(loose.num_samples)


def test_bounds_combine_and_what_numbers_cannot_tell_ends_it(key: jax.Array) -> None:
    def coin(key: jax.Array) -> jax.Array:
        return jax.random.bernoulli(key, 0.3).astype(float)

    k1, k2 = jax.random.split(key)
    found = vt.expect(coin, interval=Betting(0, 1), until=Within(0.1) & Within(0.05))(k1)
    low, high = found.interval(0.95)
    assert high - low <= 0.1
    fine = vt.expect(lambda key: 1.0 + 1e-12 * jax.random.normal(key), until=StdErr(1e-17) & StdErr(0.1), method=())(k2)
    assert "finer" in str(fine.ended)


REFUSED = {
    "a number": (lambda: StdErr(0.1) & 5, "goes with another by &"),
    "a class": (lambda: ESS(10) | ESS, "goes with another by |"),
    "from the left": (lambda: None | ESS(10), "goes with another by |"),
    "a rule of chains": (lambda: vt.expect(jax.random.normal, until=StdErr(0.1) & ESS(10)), "must be a stopping rule"),
    "a rule of bounds": (lambda: rule_of(StdErr(0.1) | Within(0.1)), "must be a rule"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_rule_is_refused(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(TypeError, match=words.replace("|", r"\|")):
        make()


def test_rules_are_equal_by_what_they_ask() -> None:
    assert StdErr(0.1) & ESS(10) == Both(StdErr(0.1), ESS(10))
    assert hash(ESS(10) | ESS(20)) == hash(Either(ESS(10), ESS(20)))
