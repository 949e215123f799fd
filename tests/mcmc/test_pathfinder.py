"""Pathfinder's normal laws are those of its equations, and where there is none it says so."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import variate as vt
from variate.mcmc import HMC, Pathfinder
from variate.mcmc.adaptation import pathfinder
from variate.mcmc.adaptation.pathfinder import Memory

ROOT = np.random.default_rng(0).normal(size=(5, 5))
PRECISION = jnp.asarray(ROOT @ ROOT.T + 0.1 * np.eye(5))
MODE = jnp.arange(5.0)


def log_density(x: jax.Array) -> jax.Array:
    return -0.5 * (x - MODE) @ PRECISION @ (x - MODE)


def remembered(moves: np.ndarray) -> Memory:
    memory = Memory(jnp.zeros((3, 5)), jnp.zeros((3, 5)), jnp.ones(5))
    for move in jnp.asarray(moves):
        memory = memory.learned(move, PRECISION @ move)
    return memory


def worst_error(memory: Memory) -> float:
    """Of the factors, beside the same updates of the inverse Hessian one after another (Nocedal and Wright, 7.16)."""
    found = np.diag(np.asarray(memory.diagonal))
    for s, z in zip(np.asarray(memory.moves), np.asarray(memory.bends), strict=True):
        if np.any(s):
            left = np.eye(5) - np.outer(s, z) / (s @ z)
            found = left @ found @ left.T + np.outer(s, s) / (s @ z)
    return float(np.max(np.abs(memory.normal(MODE, jnp.zeros(5)).covariance - found)))


@pytest.mark.parametrize("count", [0, 2, 3, 5])
def test_the_factors_are_the_updates_one_after_another(count: int) -> None:
    memory = remembered(np.random.default_rng(1).normal(size=(count, 5)))
    assert worst_error(memory) < 1e-10
    if count:
        law = memory.normal(MODE, jnp.zeros(5))
        assert jnp.allclose(law.covariance @ memory.bends[-1], memory.moves[-1])  # the secant condition
        assert jnp.allclose(law.variances, jnp.diag(law.covariance))


def test_draws_have_the_density_that_they_say(key: jax.Array) -> None:
    law = remembered(np.random.default_rng(2).normal(size=(3, 5))).normal(MODE, PRECISION[0])
    z = jax.random.normal(key, (4, 5))
    draws, log_law = law.draws(z)
    np.testing.assert_allclose(log_law, stats.multivariate_normal(law.mean, law.covariance).logpdf(draws), rtol=1e-9)
    units = law.draws(jnp.eye(5))[0] - law.mean[None]
    np.testing.assert_allclose(units.T @ units, law.covariance, atol=1e-10)
    wrong = law._replace(middle=0.9 * law.middle)
    assert float(jnp.max(jnp.abs(wrong.draws(z)[1] - log_law))) > 1e-3


def test_chains_start_where_the_paths_lead(key: jax.Array) -> None:
    finder = Pathfinder(jnp.full(5, 100.0))
    draws = vt.sample(key, log_density, finder, num_warmup=25, num_samples=25)
    far = draws.warmup.values[:, 0] - np.asarray(MODE)
    assert np.max(np.einsum("ci,ij,cj->c", far, PRECISION, far)) < 60
    plain = vt.sample(jax.random.clone(key), log_density, finder.start, num_warmup=25, num_samples=25)
    far = plain.warmup.values[:, 0] - np.asarray(MODE)
    assert np.min(np.einsum("ci,ij,cj->c", far, PRECISION, far)) > 60


def funnel(x: jax.Array) -> jax.Array:
    """Its mode, to which paths lead, is where there is next to no mass."""
    return -(x[0] ** 2) / 18 - 0.5 * x[1] ** 2 * jnp.exp(-x[0]) - 0.5 * x[0]


class Last(Pathfinder):
    """Keeps the law of the last point."""

    def _after(self, log_density: Any, path: Any) -> Any:
        return Pathfinder._after(self, log_density, path._replace(bound=jnp.full_like(path.bound, -jnp.inf)))


def test_of_all_laws_of_a_path_the_one_with_the_largest_bound_is_kept(key: jax.Array) -> None:
    start = jnp.array([4.0, 3.0])
    first, _ = jax.random.split(key)

    @jax.jit
    def begun(key: jax.Array) -> Any:
        memory = Memory(jnp.zeros((6, 2)), jnp.zeros((6, 2)), jnp.ones(2))
        value, gradient = jax.value_and_grad(funnel)(start)
        law, steps = memory.normal(start, gradient), jnp.zeros((), jnp.int32)
        return pathfinder._Path(
            key, start, value, gradient, memory, steps, jnp.zeros((), bool), law, jnp.full((), -jnp.inf)
        )

    path, after, laws = begun(first), jax.jit(lambda path: Last()._after(funnel, path)), []
    while not path.ended:
        path = after(path)
        laws.append((float(path.bound), path.best.mean))
    largest = int(np.argmax([bound for bound, _ in laws]))
    _, law, bound = jax.jit(lambda key: Pathfinder().found(funnel, key, start))(jax.random.clone(key))
    np.testing.assert_allclose(bound, laws[largest][0], rtol=1e-9)
    np.testing.assert_allclose(law.mean, laws[largest][1], rtol=1e-9)
    # The mutant keeps another, which is far off.
    assert laws[-1][0] < bound - 1
    assert np.max(np.abs(law.mean - laws[-1][1])) > 1


def test_a_path_that_finds_no_law_says_so(key: jax.Array) -> None:
    def flat(x: jax.Array) -> jax.Array:
        return 0 * x[0]

    with pytest.warns(RuntimeWarning, match="4 of 4 paths found no normal law"):
        draws = vt.sample(key, flat, Pathfinder(jnp.ones(2)), kernel=HMC(1e-9, 1, 1.0), num_warmup=25, num_samples=25)
    assert np.allclose(draws.values, 1.0)


def test_a_start_without_density_is_refused(key: jax.Array) -> None:
    with pytest.raises(TypeError, match="start must be given with a bare log density"):
        vt.sample(key, log_density, Pathfinder())
    with pytest.raises(ValueError, match="memory must be a positive integer"):
        Pathfinder(memory=0)


def test_a_line_that_only_falls_is_not_climbed() -> None:
    def climb(direction: jax.Array) -> Any:
        x = jnp.zeros(5)
        return pathfinder.climbed(log_density, x, *jax.value_and_grad(log_density)(x), direction, jnp.asarray(1.0))

    up, down = climb(PRECISION @ MODE), climb(-PRECISION @ MODE)
    assert up[-1]
    assert up[1] > log_density(jnp.zeros(5))
    assert not down[-1]
    assert jnp.array_equal(down[0], jnp.zeros(5))
