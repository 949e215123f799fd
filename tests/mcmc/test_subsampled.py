"""Kernels that look at a few items leave the whole sum invariant, or say that they do not; mutants are seen."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernels.law import LIMIT, worst
from kernels.subsampled import CENTER, CHAINS, ITEMS, LAWS, REFUSED, SUM, bounds, item, log_density, tunamh
from scipy import stats

import variate as vt
from variate.mcmc import SGLD, DelayedAcceptance, RandomWalk, Sum, TunaMH
from variate.mcmc.subsampled.control import Control
from variate.mcmc.subsampled.sum import Parts
from variate.protocols import Kernel, Target
from variate.running.measures import standard_error

NUMBERS = jnp.asarray(np.random.default_rng(1).normal(1.0, 2.0, 50))
MEAN = jnp.sum(NUMBERS) / 51  # of its posterior, the prior standard normal


def normal(x: jax.Array, y: jax.Array) -> jax.Array:
    return -0.5 * (y - x[0]) ** 2


def mean_model(data: jax.Array = NUMBERS) -> Sum:
    return Sum(lambda x: -0.5 * x[0] ** 2, normal, data, jnp.zeros(1))


def test_a_sum_is_a_target_of_its_own_data(key: jax.Array) -> None:
    assert isinstance(SUM, Target)
    x = jax.random.normal(key, (3,))
    assert jnp.allclose(SUM.log_density(x), log_density(x), rtol=1e-12)
    target = mean_model()
    assert target.size == 50
    gradient = jax.grad(lambda data: mean_model(data).log_density(jnp.ones(1)))(NUMBERS)
    assert jnp.allclose(gradient, 1 - NUMBERS)
    with pytest.raises(ValueError, match="position must have the shapes of start"):
        target.log_density(jnp.zeros(2))
    with pytest.raises(TypeError, match="item must return one real number"):
        Sum(lambda x: x[0], lambda x, y: y * x, NUMBERS, jnp.zeros(2))


@pytest.mark.parametrize("order", [0, 1, 2])
def test_polynomials_and_the_rest_are_the_sum_and_the_rest_is_bounded(order: int, key: jax.Array) -> None:
    parts = Parts.of(SUM)
    control = Control.about(parts, CENTER, order)
    x, y = jax.random.normal(key, (2, 3))
    rest, rounding = control.rest(parts, jnp.arange(50), x, y)
    whole = jnp.sum(jax.vmap(item, (None, 0))(y, ITEMS) - jax.vmap(item, (None, 0))(x, ITEMS))
    assert jnp.abs(control.between(x, y) + jnp.sum(rest) - whole) < 1e-12
    assert jnp.all(jnp.abs(rest) <= bounds(order) * control.reach(x, y))
    assert jnp.all(rounding < 1e-14)
    if order:
        # Close to the center the rest shrinks with one power more than the order.
        near, _ = control.rest(parts, jnp.arange(50), CENTER, CENTER + 1e-3)
        nearer, _ = control.rest(parts, jnp.arange(50), CENTER, CENTER + 1e-4)
        assert jnp.allclose(jnp.linalg.norm(near) / jnp.linalg.norm(nearer), 10.0 ** (order + 1), rtol=0.02)


@pytest.mark.wide
@pytest.mark.parametrize("name", LAWS)
def test_the_sum_is_left_as_it_is_and_steps_are_reversible(name: str, key: jax.Array) -> None:
    assert worst(LAWS[name].kernel, key, LAWS[name], CHAINS) < LIMIT


@pytest.mark.parametrize(("name", "mutant"), [(name, mutant) for name in LAWS for mutant in LAWS[name].rules])
def test_a_wrong_rule_is_seen(name: str, mutant: str, key: jax.Array, monkeypatch: pytest.MonkeyPatch) -> None:
    law = LAWS[name]
    monkeypatch.setattr(law.module, law.rule, law.rules[mutant])
    assert worst(law.kernel, key, law, CHAINS) > LIMIT


@pytest.mark.parametrize(("name", "mutant"), [(name, mutant) for name in LAWS for mutant in LAWS[name].kernels])
def test_a_wrong_kernel_is_seen(name: str, mutant: str, key: jax.Array) -> None:
    assert worst(LAWS[name].kernels[mutant], key, LAWS[name], CHAINS) > LIMIT


def test_no_minibatch_is_cut_short(key: jax.Array) -> None:
    """In chunks of one item, one more is looked at than there are, a Poisson number of mean lambda."""
    kernel = TunaMH(jnp.ones(50), chunk=1, chi=1e-3, log_density=mean_model())
    state = kernel.init(key, jnp.zeros(1))
    reached = 50 * 0.4
    rate = 1e-3 * reached**2 + reached
    keys = jax.random.split(jax.random.clone(key), 4_000)

    def looked(key: jax.Array) -> jax.Array:
        return kernel._batch(key, Parts.of(kernel.log_density), state, jnp.full(1, 0.4)).chunks

    chunks = jax.jit(jax.vmap(looked))(keys)
    assert abs(float(jnp.mean(chunks)) - 1 - rate) < LIMIT * (rate / 4_000) ** 0.5


@pytest.mark.parametrize("factor", [0.1, 0.0])
def test_a_bound_that_is_violated_is_seen(factor: float, key: jax.Array) -> None:
    sound = tunamh(0)
    wrong = TunaMH(factor * sound.bounds, step_size=0.6, scale=1.0, chunk=8, log_density=SUM)
    for kernel, seen in ((sound, False), (wrong, True)):
        draws = vt.sample(jax.random.clone(key), SUM, kernel=kernel, num_samples=50, num_warmup=25)
        assert bool(draws.divergent.mean() > 0.1) is seen
        assert any("diverged" in doubt for doubt in draws.doubts()) is seen


def test_a_mean_is_found_by_a_few_of_its_items_a_step(key: jax.Array) -> None:
    data, chunk, step = jnp.asarray(np.random.default_rng(2).normal(1.0, 2.0, 1_000)), 8, 2.0
    mean, sd = jnp.sum(data) / 1_001, 1_001**-0.5
    kernel = TunaMH(jnp.ones(1_000), mean[None], 1, chunk=chunk, step_size=step, scale=sd)
    draws = vt.sample(key, mean_model(data), kernel=kernel)
    found = draws.expect(lambda x: {"mean": x[0], "square": (x[0] - mean) ** 2})
    for name, true in (("mean", mean), ("square", 1 / 1_001)):
        assert abs(found.value[name] - true) < LIMIT * found.stderr[name]
    assert not draws.divergent.any()
    # So many chunks have the first arrival after time 1, of lambda arrivals before it; of a draw and a normal step.
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    z, w = nodes, weights / weights.sum()
    reach = 1_000 * sd**2 * step * np.abs(z) * np.maximum(np.abs(z[:, None]), np.abs(z[:, None] + step * z))
    full = np.arange(1, 1_000)
    chunks = 1 + stats.poisson.sf(chunk * full - 1, (reach**2 + reach)[..., None]).sum(-1)
    expected = 3 * (1 + chunk * w @ chunks @ w)
    assert abs(draws.evaluations.mean() - expected) < LIMIT * standard_error(draws.evaluations.astype(float))
    assert expected < 1_000 / 5


def test_a_step_looks_at_all_items_or_none_and_no_place_far_out_holds_it(key: jax.Array) -> None:
    data = jnp.asarray(np.random.default_rng(3).normal(size=200))
    target = Sum(
        lambda x: -0.5 * jnp.sum(x**2) / 100, lambda x, y: jax.nn.log_sigmoid(y * x[0] + y**2), data, jnp.zeros(1)
    )
    center = jnp.zeros(1)
    kernel = DelayedAcceptance(center, step_size=1.5, scale=0.2, log_density=target)
    k1, k2 = jax.random.split(key)
    start = kernel.init(k1, center)
    after, info = jax.jit(jax.vmap(lambda key: kernel.step(key, start)))(jax.random.split(k2, 500))
    moved = after.position[:, 0] != 0
    assert set(np.unique(info.evaluations)) == {0, 200}
    assert np.all(info.evaluations[moved] == 200)
    assert np.all(info.accepted == moved)
    assert np.all((info.second > 0) == (info.evaluations == 200))
    # The further out, the less s falls short of the target; where its tails are normal it does more and more.
    parts, far = Parts.of(target), jnp.array([10.0, 20.0, 40.0])
    for degrees, holds in ((30.0, False), (1e9, True)):
        own = DelayedAcceptance(center, 1, degrees, log_density=target)
        short = [float(jnp.sum(parts.items(x[None])) - own._known(start.control, x[None])) for x in far]
        assert (short[0] < short[1] < short[2]) is holds
        assert (short[0] > short[1] > short[2]) is not holds


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("center", [None, jnp.ones(1)])
def test_the_bias_of_sgld_is_what_it_is_known_to_be(center: Any, scaled: bool, key: jax.Array) -> None:
    """One step keeps the mean and the variance that it has in the end; of twice the data it does not."""
    step, batch = 0.1, 10
    noise = 0.0 if center is not None else 50**2 * jnp.var(NUMBERS) / batch
    kept = 1 - step**2 / 2 * 51
    variance = (step**2 + step**4 / 4 * noise) / (1 - kept**2)
    data = NUMBERS if scaled else jnp.concatenate([NUMBERS, NUMBERS])
    kernel = SGLD(step, batch, center, allow_bias=True, log_density=mean_model(data))

    def chain(key: jax.Array) -> jax.Array:
        start, own = jax.random.split(key)
        state = kernel.init(own, MEAN + jnp.sqrt(variance) * jax.random.normal(start, (1,)))
        return kernel.step(jax.random.clone(own), state)[0].position[0]

    found = jax.jit(jax.vmap(chain))(jax.random.split(key, 40_000))
    square = (found - MEAN) ** 2
    z = [jnp.mean(x) / (jnp.std(x) / 200) for x in (found - MEAN, square - variance)]
    assert bool(max(map(abs, z)) < LIMIT) is scaled


def test_sgld_is_refused_and_can_be_insisted_on(key: jax.Array) -> None:
    with pytest.raises(TypeError, match="biased by an amount that no error bar tells; allow_bias=True is the way"):
        SGLD(0.1, 5)
    draws = vt.sample(key, mean_model(), kernel=SGLD(0.1, 5, MEAN[None], allow_bias=True), num_samples=25)
    assert np.all(draws.evaluations == 10)
    assert draws.biased
    wild = Sum(lambda x: jnp.where(x[0] == 0, 0.0, jnp.nan) * x[0], normal, NUMBERS, jnp.zeros(1))
    kernel = SGLD(0.5, 5, allow_bias=True, log_density=wild)
    k1, k2 = jax.random.split(jax.random.clone(key))
    state, info = kernel.step(k1, kernel.init(k2, jnp.ones(1)))
    assert info.divergent
    assert state.position == jnp.ones(1)


@pytest.mark.wide
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("biased", [True, False])
def test_a_kernel_keeps_to_its_precision(biased: bool, dtype: Any, key: jax.Array) -> None:
    target = Sum(lambda x: -0.5 * x[0] ** 2, normal, NUMBERS.astype(dtype), jnp.zeros(1, dtype))
    kernel: Any = TunaMH(jnp.ones(50, dtype), MEAN[None].astype(dtype), 1, step_size=0.1, scale=1.0, log_density=target)
    if biased:
        kernel = SGLD(0.1, 5, MEAN[None].astype(dtype), allow_bias=True, log_density=target)
    assert isinstance(kernel, Kernel)
    k1, k2 = jax.random.split(key)
    start = kernel.init(k1, jnp.ones(1, dtype))
    state, info = jax.jit(lambda kernel, key: kernel.step(key, start))(kernel, k2)
    assert {x.dtype for x in jax.tree.leaves((state, start, info.acceptance))} == {jnp.dtype(dtype)}
    assert not info.divergent


def test_another_density_than_a_sum_is_refused(key: jax.Array) -> None:
    with pytest.raises(TypeError, match="log_density must be a sum over data"):
        TunaMH(jnp.ones(2), log_density=log_density).init(key, jnp.zeros(3))
    blocks = vt.mcmc.Gibbs((RandomWalk(1.0), tunamh(0)), ((0,), (1, 2)))
    with pytest.raises(TypeError, match="log_density must be a sum over data"):
        vt.sample(key, SUM, kernel=blocks)


@pytest.mark.parametrize(("make", "words"), REFUSED)
def test_settings_that_make_no_sense_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
