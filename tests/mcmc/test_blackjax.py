"""BlackJAX's algorithms fulfil what kernels owe; those that are biased, or none, are refused."""

from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernels.law import LIMIT, SCALE, Law, log_density, worst

import variate as vt
from variate.mcmc import BlackJAX

ALGORITHMS = {
    "random walk": lambda f: blackjax.normal_random_walk(f, SCALE),
    "hmc": lambda f: blackjax.hmc(f, 0.4, jnp.ones(3), 3),
    "elliptical slice": lambda f: blackjax.elliptical_slice(
        lambda x: f(x) + x @ x / 8, mean=jnp.zeros(3), cov=4 * jnp.eye(3)
    ),
}


def law(algorithm: Any) -> Law:
    return Law(BlackJAX(algorithm, log_density=log_density), None, {}, {})


@pytest.mark.wide
@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_density_is_left_as_it_is_and_steps_are_reversible(name: str, key: jax.Array) -> None:
    one = law(ALGORITHMS[name])
    assert worst(one.kernel, key, one) < LIMIT


def test_another_density_is_seen(key: jax.Array) -> None:
    one = law(lambda f: ALGORITHMS["random walk"](lambda x: 0.5 * f(x)))
    assert worst(one.kernel, key, one) > LIMIT


def test_what_it_tells_of_its_steps_is_told(key: jax.Array) -> None:
    nuts = BlackJAX(lambda f: blackjax.nuts(f, 0.9, jnp.ones(3)))
    draws = vt.sample(key, lambda x: -0.5 * x @ x, jnp.ones(3), kernel=nuts, num_samples=200)
    assert 0.5 < draws.acceptance.mean() < 1
    assert np.all(draws.evaluations >= 1)
    assert len(np.unique(draws.evaluations)) > 1
    assert not draws.divergent.any()
    wild = BlackJAX(lambda f: blackjax.nuts(f, 1e3, jnp.ones(3)))
    draws = vt.sample(jax.random.clone(key), lambda x: -0.5 * x @ x, jnp.ones(3), kernel=wild, num_samples=25)
    assert draws.divergent.all()


def test_a_biased_algorithm_is_refused_and_can_be_insisted_on(key: jax.Array) -> None:
    def microcanonical(f: Any) -> Any:
        return blackjax.mclmc(f, L=2.0, step_size=0.3)

    def run(kernel: BlackJAX) -> Any:
        return vt.sample(jax.random.clone(key), lambda x: -0.5 * x @ x, jnp.ones(3), kernel=kernel, num_samples=25)

    with pytest.raises(TypeError, match="neither accepts nor rejects, as MCLMCInfo shows"):
        run(BlackJAX(microcanonical))
    biased = run(BlackJAX(microcanonical, allow_bias=True))
    assert biased.values.shape == (4, 25, 3)
    assert biased.expect().biased
    assert not run(BlackJAX(lambda f: blackjax.hmc(f, 0.4, jnp.ones(3), 6))).expect().biased


@pytest.mark.parametrize("algorithm", [3.0, blackjax.hmc(jnp.sum, 0.4, jnp.ones(3), 6)])
def test_what_is_no_function_of_the_density_is_refused(algorithm: Any) -> None:
    with pytest.raises(TypeError, match="algorithm must be a function of the log density"):
        BlackJAX(algorithm)


def test_what_makes_no_algorithm_is_refused(key: jax.Array) -> None:
    with pytest.raises(TypeError, match="algorithm must return one of BlackJAX's, with init and step"):
        vt.sample(key, lambda x: -0.5 * x @ x, jnp.ones(3), kernel=BlackJAX(lambda f: f))
