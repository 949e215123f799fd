"""Over 4,000 keys the intervals of values and gradients cover the truth as often as they say."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from gradients import finite_programs, sampled_programs
from gradients.sampled import over_normal
from gradients.sampled_checks import ALPHA
from jax import Array
from jax.scipy.special import gammaln
from scipy import stats

import variate as vt
from variate.gradients import Coupled, Enumerate, LeaveOneOut, Marginalize, MeasureValued, Score, blocks

pytestmark = pytest.mark.slow

N_KEYS, AT_ONCE = 4_000, 500
# A right interval leaves this band by chance with probability 1.4e-5.
LOW, HIGH = 0.935, 0.965


class Case(NamedTuple):
    """A program, its argument and expectation, and how many samples make its means normal enough for Student."""

    program: Callable[..., Any]
    at: Array
    expectation: Callable[..., Any]
    num_samples: int
    rules: dict[str, Any] | None = None


def from_tables(name: str, num_samples: int, rules: dict[str, Any] | None = None) -> Case:
    row = sampled_programs.PROGRAMS.get(name) or finite_programs.PROGRAMS[name]
    return Case(row.program, row.args[0], row.expectation, num_samples, rules)


def wave(key: Array, t: Array) -> Array:
    z = vt.draw(key, dist.Normal(t[0], jnp.exp(t[1])), name="z")
    return jnp.sin(2 * z) + z


def wave_mean(t: Array) -> Array:
    return jnp.exp(-2 * jnp.exp(2 * t[1])) * jnp.sin(2 * t[0]) + t[0]


def coin_at_zero(noise: float) -> Callable[[Array, Array], Array]:
    """All samples' scores are of one size here: the less noise, the more of the variance is leave-one-out's own."""

    def program(key: Array, t: Array) -> Array:
        k1, k2 = jax.random.split(key)
        b = vt.draw(k1, dist.Bernoulli(logits=t), name="b")
        other = noise * vt.draw(k2, dist.Normal(0.0, 1.0))
        return jnp.where(b == 1, 1 + other, other)  # as a term of its own the noise would not be charged

    return program


def counted(key: Array, t: Array) -> Array:
    return jnp.cos(vt.draw(key, dist.Poisson(jnp.exp(t)), name="n").astype(float))


def counted_mean(t: Array) -> Array:
    return jnp.exp(jnp.exp(t) * (jnp.cos(1.0) - 1)) * jnp.cos(jnp.exp(t) * jnp.sin(1.0))


def gamma(key: Array, t: Array) -> Array:
    return jnp.sin(vt.draw(key, dist.Gamma(t[0], t[1])))


def gamma_mean(t: Array) -> Array:
    return (1 + t[1] ** -2) ** (-t[0] / 2) * jnp.sin(t[0] * jnp.arctan(1 / t[1]))


def gated(key: Array, t: Array) -> Array:
    k1, k2 = jax.random.split(key)
    z = vt.draw(k1, dist.Normal(t, 1.0))
    return jnp.cos(z) * vt.draw(k2, dist.Bernoulli(logits=z), name="b").astype(float)


def gated_mean(t: Array) -> Array:
    return over_normal(lambda z: jnp.cos(z) * jax.nn.sigmoid(z), t, jnp.ones(()))


def mixed(key: Array, t: Array) -> Array:
    """A pathwise draw below and above a scored one."""
    k1, k2, k3 = jax.random.split(key, 3)
    x = vt.draw(k1, dist.Normal(t[0], 1.0))
    n = vt.draw(k2, dist.Poisson(jnp.exp(t[1] + 0.1 * x))).astype(float)
    return jnp.sin(vt.draw(k3, dist.Normal(x + 0.2 * n, 0.5)))


def mixed_mean(t: Array) -> Array:
    def given(x: Array) -> Array:
        rate = jnp.exp(t[1] + 0.1 * x)
        return jnp.exp(rate * (jnp.cos(0.2) - 1) - 0.125) * jnp.sin(x + rate * jnp.sin(0.2))

    return over_normal(given, t[0], jnp.ones(()))


def beside(key: Array, t: Array) -> Array:
    """A coin that is gone through in every outcome, tossed by what a scored draw came to."""
    k1, k2 = jax.random.split(key)
    n = vt.draw(k1, dist.Poisson(jnp.exp(t)), name="n").astype(float)
    return jnp.cos(n) * (1 + vt.draw(k2, dist.Bernoulli(logits=t - 0.3 * n), name="b").astype(float))


def beside_mean(t: Array) -> Array:
    n = jnp.arange(60.0)
    return jnp.sum(jnp.exp(n * t - jnp.exp(t) - gammaln(n + 1)) * jnp.cos(n) * (1 + jax.nn.sigmoid(t - 0.3 * n)))


def counts(key: Array, t: Array) -> Array:
    return jnp.cos(jnp.sum(vt.draw(key, dist.Poisson(jnp.exp(t)), name="n").astype(float)))


def counts_mean(t: Array) -> Array:
    return counted_mean(jnp.log(jnp.sum(jnp.exp(t))))


LOO = Score(LeaveOneOut())
PAIR = jnp.array([0.4, -0.7])
CASES = {
    "pathwise": Case(wave, PAIR, wave_mean, 128),
    "linked coins, leave one out": from_tables("linked coins", 256, dict.fromkeys("abc", LOO)),
    "a coin at a logit of zero": Case(coin_at_zero(0.4), jnp.zeros(()), jax.nn.sigmoid, 16, {"b": LOO}),
    "poisson": Case(counted, jnp.array(0.7), counted_mean, 512),
    "gamma": Case(gamma, jnp.array([1.7, 2.0]), gamma_mean, 512),
    "scan": from_tables("20 linked coins in a scan", 128),
    "vector parameter": from_tables("a vector of coins", 256, dict.fromkeys("bc", LOO)),
    "pathwise and score": Case(mixed, PAIR, mixed_mean, 256),
    "coupled": Case(counted, jnp.array(0.7), counted_mean, 256, {"n": Coupled()}),
    "coupled, one replay of three": Case(
        counts, jnp.array([-1.0, 0.2, -0.5]), counts_mean, 256, {"n": Coupled(replays=1)}
    ),
    "marginalized beside a scored draw": Case(beside, jnp.array(0.7), beside_mean, 512, {"n": LOO, "b": Marginalize()}),
    "measure-valued": Case(wave, PAIR, wave_mean, 256, {"z": MeasureValued()}),
    "enumerated": Case(gated, jnp.array(0.3), gated_mean, 128, {"b": Enumerate()}),
}


class Bars(NamedTuple):
    """For each number (the value first, then the gradient): how often it is covered, and a z-score of its variance."""

    coverage: np.ndarray
    variance: np.ndarray  # of stated less true, which is normal for a right error bar
    ratio: np.ndarray  # stated to true


def bars(case: Case, key: Array) -> Bars:
    # A fresh function, so that nothing compiled before a mutant was put in is used again.
    program = lambda key, t: case.program(key, t)  # noqa: E731
    estimate = vt.value_and_grad(program, num_samples=case.num_samples, rules=case.rules)

    def one(key: Array) -> tuple[Array, Array, Array]:
        value, gradient = estimate(key, case.at)
        ends = [(*each.interval(0.95), each.value, each.stderr) for each in (value, gradient)]
        return tuple(jnp.concatenate([jnp.ravel(end[i]) for end in ends]) for i in range(4))

    def block(keys: Array) -> tuple[Array, Array, Array]:
        return jax.vmap(one)(keys)

    keys = jax.random.split(jax.random.clone(key), (N_KEYS // AT_ONCE, AT_ONCE))
    low, high, mean, error = (np.concatenate(x) for x in jax.jit(lambda keys: jax.lax.map(block, keys))(keys))
    truth = np.concatenate([np.ravel(f(case.at)) for f in (case.expectation, jax.grad(case.expectation))])
    spread = (mean - np.mean(mean, axis=0)) ** 2 * N_KEYS / (N_KEYS - 1)
    excess = error**2 - spread
    return Bars(
        np.mean((low <= truth) & (truth <= high), axis=0),
        np.mean(excess, axis=0) / np.std(excess, axis=0) * np.sqrt(N_KEYS),
        np.mean(error**2, axis=0) / np.mean(spread, axis=0),
    )


def honest(found: Bars) -> bool:
    """Whether the intervals cover and the stated variances are right; if they are, false with 1e-5 or so a number."""
    covered = np.all((found.coverage > LOW) & (found.coverage < HIGH))
    return bool(covered and np.all(np.abs(found.variance) < stats.norm.isf(ALPHA / 2 / found.variance.size)))


@pytest.mark.wide
@pytest.mark.parametrize("name", CASES)
def test_error_bars_are_honest(name: str, key: Array) -> None:
    found = bars(CASES[name], key)
    assert honest(found), found


def uncorrelated(derivation: Any, found: Any, size: int) -> list[Array]:
    return [jnp.zeros_like(gradient[0]) for gradient in found.gradients]


def too_short(self: vt.Estimate, level: float = 0.95) -> tuple:
    width = stats.norm.ppf((1 + level) / 2) / np.sqrt(2)
    return (
        jax.tree.map(lambda x, e: x - width * e, self.value, self.stderr),
        jax.tree.map(lambda x, e: x + width * e, self.value, self.stderr),
    )


def same_sample_twice(key: Array, data: Array) -> Array:
    return FOLD_IN(key, data // 2)


FOLD_IN = jax.random.fold_in
LITTLE_NOISE = Case(coin_at_zero(0.1), jnp.zeros(()), jax.nn.sigmoid, 64, {"b": LOO})
MUTANTS: dict[str, tuple[Any, str, Any, Case]] = {
    "leave-one-out taken for independent": (blocks, "correlation_of", uncorrelated, LITTLE_NOISE),
    "every sample twice": (jax.random, "fold_in", same_sample_twice, CASES["pathwise"]),
    "an interval too short": (vt.Estimate, "interval", too_short, CASES["pathwise"]),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str, monkeypatch: pytest.MonkeyPatch, key: Array) -> None:
    target, attribute, mutant, case = MUTANTS[name]
    monkeypatch.setattr(target, attribute, mutant)
    assert not honest(bars(case, key))
