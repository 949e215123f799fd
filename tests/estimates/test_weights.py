"""Weights: self-normalised, mixed, smoothed, learnt; and error bars that are withheld where they would mean nothing."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from jax.random import clone
from scipy import stats
from weighing import HALF, SQUARE, TAIL, at, bounded, square, tail, uniform

import variate as vt
from variate.estimates import (
    AdaptiveMultiple,
    Importance,
    Mixture,
    ParetoSmoothed,
    PopulationMonteCarlo,
    Scores,
    Sobol,
    Weighted,
    adapt,
    sampling,
)
from variate.estimates.base import Methods
from variate.estimates.weights.pareto import fitted, smoothed, tail_index, tail_length

METHODS: dict[str, tuple[Callable[..., Any], float, Any]] = {
    "self-normalised": (square, SQUARE, Importance({"z": at(0.3, 1.4)}, self_normalized=True)),
    "self-normalised with Sobol": (square, SQUARE, (Sobol(32), Importance({"z": at(0.3, 1.4)}, self_normalized=True))),
    "smoothed": (square, SQUARE, Importance({"z": at(0.3, 1.4)}, self_normalized=True, smoothed=True)),
    "a proposal of half the support": (uniform, 0.5, Importance({"u": HALF})),
    "that with Sobol": (uniform, 0.5, (Sobol(32), Importance({"u": HALF}))),
    "that self-normalised": (uniform, 0.5, Importance({"u": HALF}, self_normalized=True)),
    "a proposal far from a part": (bounded, 0.5, Importance({"z": at(3.0)})),
    "mixture": (tail, TAIL, Mixture({"z": [at(3.7), at(-1.0)]}, shares={"z": [3, 1]})),
    "regressed mixture": (square, SQUARE, Mixture({"z": [at(1.0), at(-1.0)]}, regressed=True)),
    "mixture with Sobol": (tail, TAIL, (Sobol(32), Mixture({"z": [at(3.7)]}))),
    "mixture with scores": (square, SQUARE, (Scores(), Mixture({"z": [at(1.0), at(-1.0)]}))),
}


@pytest.mark.wide
@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_error_bars_cover(name: str, key: Array) -> None:
    """Of 95% intervals, over 4,000 keys: between 93.5 and 96.5%, where a right one fails with probability 1e-5."""
    f, truth, method = METHODS[name]
    run = vt.expect(f, method=method, num_samples=1024, block_size=1024)

    def covers(key: Array) -> Array:
        low, high = run(key).interval()
        return (low < truth) & (high > truth)

    rate = jax.jit(lambda keys: jnp.mean(jax.lax.map(covers, keys, batch_size=50)))(jax.random.split(key, 4000))
    assert 0.935 < rate < 0.965


def test_a_mixture_weighs_by_all_of_its_components(key: Array) -> None:
    """A z-test at 1e-6, and no weight above 1 over the share of the draw's own distribution."""
    method = Mixture({"z": [at(3.7), at(-1.0)]}, own=0.2)
    found = vt.expect(tail, method=method, num_samples=2**14, block_size=2**12)(key)
    assert abs(found.value - TAIL) < stats.norm.isf(5e-7) * found.stderr
    mixed = method.proposals(_program(tail))["z"](at(0.0))
    x = jnp.linspace(-8, 8, 101)
    ratio = jax.vmap(lambda x: at(0.0).log_prob(x) - mixed.log_prob(x))(x)
    assert jnp.max(jnp.exp(ratio)) <= 1 / 0.2 + 1e-9
    shares = [0.4, 0.4, 0.2]
    wanted = sum(s * stats.norm(m).pdf(np.asarray(x)) for s, m in zip(shares, (3.7, -1.0, 0.0), strict=True))
    np.testing.assert_allclose(jnp.exp(jax.vmap(mixed.log_prob)(x)), wanted, rtol=1e-10)


def _program(f: Callable[..., Any]) -> Any:
    from variate.programs.staging import stage

    return stage(f, jax.random.key(0))[0]


def test_a_weight_by_one_component_alone_is_caught(key: Array) -> None:
    """As if the draws of a mixture of two were all from its first: the mean weight is then not 1."""

    class Wrong(Mixture):
        def proposals(self, program: Any) -> Any:
            right = super().proposals(program)["z"]

            class Mixed:
                def __init__(self, own: Any) -> None:
                    self.right = right(own)

                def sample(self, key: Array) -> Any:
                    return self.right.sample(key)

                def log_prob(self, x: Array) -> Array:
                    return self.right.components[0].log_prob(x)

            return {"z": Mixed}

    found = vt.expect(square, method=Wrong({"z": [at(0.5, 2.0), at(-1.0)]}), num_samples=2**14, block_size=2**12)(key)
    assert jnp.isnan(found.stderr)
    assert not found.converged


def rows(key: Array, n: int, k: float) -> Weighted:
    """Weights with a Pareto tail of index k."""
    first, second = jax.random.split(key)
    return Weighted(jax.random.normal(first, (n,)), -k * jnp.log(jax.random.uniform(second, (n,))))


def test_smoothing_merges_exactly(key: Array) -> None:
    made = rows(key, 3000, 0.5)
    whole = ParetoSmoothed.of_rows(made).read()
    parts = [ParetoSmoothed.of_rows(jax.tree.map(lambda x, a=a, b=b: x[a:b], made)) for a, b in ((0, 40), (40, 3000))]
    empty = ParetoSmoothed.empty(Weighted(jnp.zeros(()), jnp.zeros(())))
    for folded in (empty.merge(parts[0]).merge(parts[1]), parts[1].merge(parts[0])):
        np.testing.assert_allclose(folded.read().value, whole.value, rtol=1e-10)
        np.testing.assert_allclose(folded.read().stderr, whole.stderr, rtol=1e-9)


@pytest.mark.parametrize("k", [0.2, 0.6, 1.2])
def test_the_tail_index_of_a_pareto_tail_is_found(k: float, key: Array) -> None:
    """Of 400 excesses: within five of its errors, (1 + k) / 20."""
    x = jnp.sort(dist.Pareto(1.0, 1 / k).sample(key, (20_000,)))[::-1]
    found = tail_index(x[:401], jnp.asarray(400))
    assert abs(found - k) < 5 * (1 + k) / 20


def test_no_tail_is_fitted_where_there_is_none() -> None:
    assert jnp.isnan(fitted(jnp.zeros(20), jnp.asarray(20)).k)


def test_smoothed_weights_are_in_order_and_none_is_above_the_largest(key: Array) -> None:
    logs = jnp.sort(rows(key, 2000, 0.8).log_weight)[::-1]
    count = tail_length(2000, 400)
    found, k = smoothed(logs[:401], count)
    assert jnp.all(jnp.diff(found[: int(count)]) <= 0)
    assert jnp.max(found) <= logs[0]
    np.testing.assert_array_equal(found[int(count) :], logs[int(count) : 401])
    assert 0.4 < k < 1.2


def of(law: dist.Distribution) -> Callable[..., Any]:
    return lambda key: vt.draw(key, law, name="x")


HEAVY = {
    "Cauchy": of(dist.Cauchy(0.0, 1.0)),
    "Student 1.5": of(dist.StudentT(1.5, 0.0, 1.0)),
    "Pareto 1.2": of(dist.Pareto(1.0, 1.2)),
}
LIGHT = {
    "normal": of(dist.Normal(0.0, 1.0)),
    "exponential": of(dist.Exponential(1.0)),
    "coin": of(dist.Bernoulli(0.01)),
    "lognormal": of(dist.LogNormal(0.0, 1.0)),
    "Student 5": of(dist.StudentT(5.0, 0.0, 1.0)),
}


@pytest.mark.parametrize("name", HEAVY)
def test_an_infinite_variance_has_no_error_bar(name: str, key: Array) -> None:
    found = vt.expect(HEAVY[name], num_samples=2**16, block_size=2**12)(key)
    assert jnp.isnan(found.stderr)
    assert not found.converged
    assert found.tail > 0.5
    assert "where the variance is infinite" in str(found)


@pytest.mark.slow
@pytest.mark.wide
@pytest.mark.parametrize("name", LIGHT)
def test_a_finite_variance_seldom_loses_its_error_bar(name: str, key: Array) -> None:
    """At most 1% of 500 runs: 13 and more of a true 1% have a probability of 0.1%, and it is far less."""
    run = vt.expect(LIGHT[name], num_samples=2**12, block_size=2**12)
    errors = jax.jit(lambda keys: jax.lax.map(lambda key: run(key).stderr, keys))(jax.random.split(key, 500))
    assert np.sum(np.isnan(errors)) <= 12


def test_an_event_that_was_met_once_has_no_error_bar(key: Array) -> None:
    run = vt.expect(of(dist.Bernoulli(2**-11)), num_samples=2**12, block_size=2**12)
    found = [run(k) for k in jax.random.split(key, 40)]
    met = [round(float(each.value) * 2**12) for each in found]
    assert {1, 2} < set(met)  # a binomial misses one of them with the probability 1e-5
    assert [bool(jnp.isnan(each.stderr)) for each in found] == [times == 1 for times in met]
    assert all(each.converged != (times == 1) for each, times in zip(found, met, strict=True))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_peak_that_was_met_once_has_no_error_bar(dtype: Any, key: Array) -> None:
    """The likelihood of much data, averaged over a prior of five dimensions.

    Two draws may share the variance: in one run of ten, say, and then of 20 fewer than 8 are found once in 10⁸.
    """

    def peak(key: Array) -> Array:
        return jnp.exp(-300 * jnp.sum((vt.draw(key, dist.Normal(jnp.zeros(5, dtype), 1.0).to_event(1)) - 0.5) ** 2))

    run = vt.expect(peak, num_samples=4_000)
    found = [each for each in map(run, jax.random.split(key, 20)) if jnp.isinf(each.tail)]
    assert len(found) >= 8
    for each in found:
        assert jnp.isnan(each.stderr)
        assert "no error bar, for most of the variance is that of one run" in str(each)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", [AdaptiveMultiple(), PopulationMonteCarlo()], ids=["AMIS", "PMC"])
def test_a_learnt_proposal_is_unbiased_and_saves_variance(scheme: Any, key: Array) -> None:
    """P(z₁ + z₂ > 4.5) of normal draws: a z-test at 1e-6, and at least 20 times less variance than plain sampling's."""

    def both(key: Array) -> Array:
        return vt.draw(key, dist.Normal(jnp.zeros(2), 1.0).to_event(1), name="z").sum() > 4.5

    truth = stats.norm.sf(4.5 / np.sqrt(2))
    first, second = jax.random.split(key)
    method = adapt(both, "z", scheme=scheme)(first)
    found = vt.expect(both, method=method, num_samples=2**14, block_size=2**12)(second)
    assert abs(found.value - truth) < stats.norm.isf(5e-7) * found.stderr
    assert truth * (1 - truth) / 2**14 > 20 * found.stderr**2


def test_a_proposal_is_learnt_on_the_support_of_a_draw(key: Array) -> None:
    def late(key: Array) -> Array:
        return vt.draw(key, dist.Exponential(jnp.asarray(1.0)), name="t") > 8

    first, second = jax.random.split(key)
    found = vt.expect(late, method=adapt(late, "t")(first), num_samples=2**13, block_size=2**12)(second)
    assert abs(found.value - np.exp(-8)) < stats.norm.isf(5e-7) * found.stderr
    assert found.stderr < 0.2 * np.exp(-8)


def test_own_and_proposed_draws_are_both_made_of_evenly_spread_points() -> None:
    """An eighth of a grid is a grid again, and so is the rest; beside them the other uniforms stay as they are."""
    n = 1_024
    grid = (np.arange(n) + 0.5) / n
    own, made = jax.vmap(lambda u: sampling.shared_out(u, 1, 1 / 8))(jnp.stack([np.full(n, 0.25), grid], axis=1))
    for of, count in ((own, n // 8), (~own, n - n // 8)):
        np.testing.assert_allclose(made[of, 1], (np.arange(count) + 0.5) / count, rtol=1e-12)
    np.testing.assert_array_equal(made[:, 0], 0.25)
    low, high = (sampling.shared_out(jnp.asarray([u], jnp.float32), 0, 0.1)[1] for u in (2**-24, 1 - 2**-24))
    assert 0 < low[0] < high[0] < 1


class Opaque(NamedTuple):
    """A law whose quantiles are not known."""

    loc: Array

    def sample(self, key: Array) -> Array:
        return at(self.loc).sample(key)

    def log_prob(self, x: Array) -> Array:
        return at(self.loc).log_prob(x)


@pytest.mark.parametrize("proposal", [at(1.0), Opaque(jnp.ones(()))], ids=["known", "opaque"])
def test_the_choice_of_own_draws_has_a_uniform_of_its_own_only_where_it_must(proposal: Any) -> None:
    def two(key: Array) -> Array:
        first, second = jax.random.split(key)
        return vt.draw(first, at(0.0), name="y") + vt.draw(second, at(0.0), name="z")

    key, methods = jax.random.key(0), Methods(Sobol(), None, Importance({"z": proposal}))
    found = sampling.sampler(methods, *_opened(two, key), checked=False).labels
    assert found[0] == "y"
    assert len(found) == 2
    assert (found[1] == "z") == isinstance(proposal, dist.Normal)


def _opened(f: Callable[..., Any], key: Array) -> tuple[Any, ...]:
    opened = sampling.opened(f, key, ())
    return opened.static, 1_024, clone(key), opened.numbers
