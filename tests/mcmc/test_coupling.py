"""Pairs of chains: each moves as if alone, they stay together, and their means have no bias however short they are."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from variate.mcmc import HMC, Reflected, Sometimes, unbiased
from variate.mcmc.coupling import pairs, reflection

LIMIT = float(-special.ndtri(0.5e-6))


def log_density(x: jax.Array) -> jax.Array:
    return -0.5 * jnp.sum((x - 1.0) ** 2)


def moments(x: jax.Array) -> dict[str, jax.Array]:
    return {"x": x[0], "squares": x[1] ** 2}


def worst(found: Any) -> float:
    return max(
        abs(float((found.value[k] - truth) / found.stderr[k])) for k, truth in {"x": 1.0, "squares": 2.0}.items()
    )


def off_by(mirrored: Callable, key: jax.Array) -> float:
    """The largest z of moments of the second proposal, which has to be normal, in units of its scale."""
    one, other, scale = jnp.array([0.0, 1.0]), jnp.array([1.0, 0.4]), jnp.array([1.0, 0.7])
    keys = jax.random.split(key, 20_000)
    second = jax.jit(jax.vmap(lambda key: mirrored(key, one, other, scale)[1]))(keys)
    z = (second - other[None]) / scale[None]
    of = jnp.concatenate([z, z**2 - 1, z**4 - 3, z[:, :1] * z[:, 1:]], 1)
    return float(jnp.max(jnp.abs(jnp.mean(of, 0) / jnp.std(of, 0)))) * 20_000**0.5


def test_both_proposals_have_their_own_law_and_are_as_often_equal_as_can_be(key: jax.Array) -> None:
    k1, k2, k3 = jax.random.split(key, 3)
    assert off_by(reflection.mirrored, k1) < LIMIT

    def unlike(key: jax.Array, one: jax.Array, other: jax.Array, scale: Any) -> tuple[jax.Array, jax.Array]:
        moved, second = reflection.mirrored(key, one, other, scale)
        return moved, jnp.where(jnp.all(moved == second), moved, other + moved - one)  # a mutant: no mirror

    assert off_by(unlike, k2) > LIMIT
    one, other = jnp.zeros(2), jnp.array([1.0, 0.5])
    both = jax.jit(jax.vmap(lambda key: reflection.mirrored(key, one, other, 1.0)))(jax.random.split(k3, 20_000))
    equal = int(jnp.sum(jnp.all(both[0] == both[1], 1)))
    most = 2 * stats.norm.cdf(-(1.25**0.5) / 2)  # the overlap of both laws
    assert stats.binom.ppf(1e-6, 20_000, most) <= equal <= stats.binom.ppf(1 - 1e-6, 20_000, most)


@pytest.mark.slow
@pytest.mark.table
@pytest.mark.parametrize("lag", [1, 3])
def test_means_of_short_chains_have_no_bias_and_without_the_second_sum_they_have(
    lag: int, key: jax.Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found() -> Any:
        start, kernel, own = jnp.full(2, 3.0), Reflected(1.0), jax.random.clone(key)
        return unbiased(own, log_density, moments, start, kernel=kernel, first=2, last=6, lag=lag, num_pairs=4_000)

    right = found()
    assert right.expect().converged
    assert worst(right.expect()) < LIMIT
    told = pairs._told

    def without(run: Any, *given: Any, **rest: Any) -> Any:
        return told(run._replace(meeting=jnp.ones_like(run.meeting)), *given, **rest)._replace(meeting=run.meeting)

    monkeypatch.setattr(pairs, "_told", without)
    jax.clear_caches()
    assert worst(found().expect()) > LIMIT


def test_paths_meet_too_and_the_times_bound_the_distance(key: jax.Array) -> None:
    kernel = Sometimes(HMC(0.3, 5, 1.0), Reflected(1e-2), 0.2)
    start = jnp.full(2, 3.0)
    found = unbiased(key, log_density, moments, start, kernel=kernel, first=2, last=8, num_pairs=1_000)
    assert worst(found.expect()) < LIMIT
    bounds = [float(found.distance(t).value) for t in (1, 5, 20, 200)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] >= 0.99  # where they start the target has no mass
    assert bounds[-1] == 0


class Stale(Sometimes):
    """Where the second kernel has moved it, the first goes on with the gradient of before."""

    def _by(self, key_which: Any, key: Any, pair: Any) -> Any:
        after = Sometimes._by(self, key_which, key, pair)
        return pairs.Pair(*(new._replace(gradient=old.gradient) for new, old in zip(after, pair, strict=True)))


class Loose(Sometimes):
    """Both chains have random numbers of their own."""

    def together(self, key: jax.Array, pair: Any) -> Any:
        return pairs.Pair(*(self.step(own, state)[0] for own, state in zip(jax.random.split(key), pair, strict=True)))


def ends(kernel: Any, key: jax.Array, steps: int, count: int) -> jax.Array:
    """Where pairs are that start at independent draws of the target."""

    def run(key: jax.Array) -> jax.Array:
        k1, k2, k3, k4 = jax.random.split(key, 4)
        starts = 1.0 + jax.random.normal(k1, (2, 2))
        begun = pairs.Pair(kernel.init(k2, starts[0]), kernel.init(k3, starts[1]))
        end = jax.lax.scan(lambda pair, key: (kernel.together(key, pair), None), begun, jax.random.split(k4, steps))[0]
        return jnp.stack([state.position for state in end])

    return jax.jit(jax.vmap(run))(jax.random.split(key, count))


@pytest.mark.parametrize(("kind", "right"), [(Sometimes, True), (Stale, False)])
def test_each_chain_of_two_kernels_leaves_the_target_as_it_is(kind: Any, right: bool, key: jax.Array) -> None:
    kernel = kind(HMC(1.2, 2, 1.0), Reflected(1.0), 0.5, log_density=log_density)
    x = ends(kernel, key, 3, 20_000).reshape(20_000, 4) - 1.0
    of = jnp.concatenate([x, x**2 - 1, x[:, ::2] * x[:, 1::2]], 1)
    assert (float(jnp.max(jnp.abs(jnp.mean(of, 0) / jnp.std(of, 0)))) * 20_000**0.5 < LIMIT) is right


def test_paths_by_the_same_numbers_bring_chains_so_close_that_they_meet(key: jax.Array) -> None:
    """A path brings a pair 14 times closer (by the cosine of 1.5), so that those that never meet had hardly a walk
    after the third step: one in 1e9. By themselves pairs are within 0.05, five scales, in 6e-4 of all steps, of which
    20 are walks: of 200 pairs fewer than three meet, and 20 with probability 1e-12.
    """
    met = []
    for kind in (Sometimes, Loose):
        x = ends(kind(HMC(0.3, 5, 1.0), Reflected(1e-2), 0.2, log_density=log_density), jax.random.clone(key), 100, 200)
        met.append(int(jnp.sum(jnp.all(x[:, 0] == x[:, 1], -1))))
    assert met[0] == 200
    assert met[1] < 20


def test_pairs_that_have_not_met_are_told(key: jax.Array) -> None:
    start = jnp.full(2, 3.0)
    found = unbiased(key, log_density, moments, start, kernel=Reflected(0.1), first=1, last=3, num_pairs=50, most=5)
    estimate = found.expect()
    assert estimate.biased
    assert not estimate.converged
    assert "pairs had met" in str(estimate.ended)
    assert not np.all(found.met)


def test_bad_input_is_refused(key: jax.Array) -> None:
    with pytest.raises(TypeError, match="kernel must move pairs"):
        unbiased(key, log_density, start=jnp.zeros(2), kernel=HMC(0.1, 3, 1.0))
    with pytest.raises(ValueError, match="last must be"):
        unbiased(key, log_density, start=jnp.zeros(2), kernel=Reflected(1.0), first=5, last=2)
    with pytest.raises(ValueError, match="scale must be positive"):
        Reflected(0.0)
    with pytest.raises(TypeError, match="kernel must be a kernel"):
        Sometimes(3.0, Reflected(1.0))
