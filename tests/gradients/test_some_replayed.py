"""Some elements replayed in place of all: over all subsets the mean is the gradient of all of them."""

from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array, lax
from jax.random import split

import variate as vt
from variate.gradients import Coupled
from variate.gradients.rules import coupled


def counts(key: Array, t: Array) -> Array:
    """Two lanes of two counts, then dice whose probabilities depend on them."""
    k1, k2 = split(key)
    n = jax.vmap(lambda k, t: vt.draw(k, dist.Poisson(t * jnp.array([1.0, 2.0])), name="n"))(split(k1, 2), t)
    logits = n.reshape(4, 1).astype(float) * jnp.array([[0.0, 0.3, -0.2]]) * t[0]
    dice = vt.draw(k2, dist.CategoricalLogits(logits).to_event(1), name="m").astype(float)
    return jnp.sum(n.astype(float)) ** 2 * jnp.sum(dice * jnp.array([1.0, -2.0, 0.5, 3.0])) + t[1]


def steps(key: Array, t: Array) -> Array:
    def step(state: Array, key: Array) -> tuple[Array, None]:
        n = vt.draw(key, dist.Poisson((0.5 + t[0] * state) * jnp.arange(1.0, 5.0)), name="n").astype(float)
        return 0.1 * jnp.sum(n * jnp.array([1.0, 2.0, -1.0, 1.0])) ** 2 / (1 + state), None

    return lax.scan(step, t[1], split(key, 2))[0]


def gradient(program: Any, key: Array, **rules: Coupled) -> Array:
    fresh = lambda *args: program(*args)  # noqa: E731  (nothing that was compiled before is used)
    return vt.grad(fresh, num_samples=1, rules=rules)(jax.random.clone(key), jnp.array([0.7, 1.1])).value


def over_subsets(program: Any, names: str, size: int, key: Array, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The gradients with each subset of four elements."""

    @jax.jit
    @jax.vmap
    def each(chosen: Array) -> Array:
        with monkeypatch.context() as patch:
            patch.setattr(coupled, "subset", lambda *_: chosen)
            return gradient(program, key, **dict.fromkeys(names, Coupled(replays=size)))

    return np.asarray(each(jnp.array(list(combinations(range(4), size)))))


@pytest.mark.wide
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(("program", "names"), [(counts, "nm"), (steps, "n")])
def test_the_mean_over_all_subsets_is_exact(
    program: Any, names: str, size: int, monkeypatch: pytest.MonkeyPatch, key: Array
) -> None:
    found = over_subsets(program, names, size, key, monkeypatch)
    assert np.ptp(found, axis=0).max() > 1e-3
    wanted = gradient(program, key, **dict.fromkeys(names, Coupled()))
    np.testing.assert_allclose(np.mean(found, axis=0), wanted, rtol=1e-10)


def test_without_the_factor_it_would_be_seen(monkeypatch: pytest.MonkeyPatch, key: Array) -> None:
    only = coupled.only

    def unweighted(record: Any, chosen: Array, value: Array) -> Any:
        found = only(record, chosen, value)
        return found._replace(weights=found.weights * len(chosen) / record.log_prob.size)

    monkeypatch.setattr(coupled, "only", unweighted)
    found = np.mean(over_subsets(steps, "n", 3, key, monkeypatch), axis=0)
    assert not np.allclose(found, gradient(steps, key, n=Coupled()), rtol=1e-2)


def test_subsets_are_uniform_and_without_repetition(key: Array) -> None:
    chosen = np.sort(jax.vmap(lambda k: coupled.subset(k, 4, 2))(split(key, 6_000)), axis=1)
    each, often = np.unique(chosen, axis=0, return_counts=True)
    assert len(each) == 6
    assert np.sum((often - 1000) ** 2) / 1000 < 37.5  # chi-square, 5 degrees of freedom: α = 5e-7


def test_as_many_as_there_are_is_all_of_them(key: Array) -> None:
    assert np.array_equal(gradient(counts, key, n=Coupled(replays=4)), gradient(counts, key, n=Coupled()))


def test_the_limit_is_of_what_is_replayed(key: Array) -> None:
    def program(key: Array, t: Array) -> Array:
        def step(total: Array, key: Array) -> tuple[Array, None]:
            return total + jnp.sum(vt.draw(key, dist.Poisson(t * jnp.ones(500)), name="n").astype(float)), None

        return lax.scan(step, jnp.zeros(()), split(key, 4))[0]

    for rule, match in ((Coupled(), "2000 replays"), (Coupled(limit=39, replays=10), "40 replays, more than .*39")):
        with pytest.raises(ValueError, match=match):
            vt.grad(program, rules={"n": rule})(key, 0.7)
    found = vt.grad(program, num_samples=64, rules={"n": Coupled(limit=40, replays=10)})(key, 0.7)
    assert np.allclose(found.value, 2000)  # of a linear result every element tells the same


@pytest.mark.parametrize("replays", [0, -1, True])
def test_replays_that_are_no_number(replays: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="replays must be a positive integer"):
        Coupled(replays=replays)
