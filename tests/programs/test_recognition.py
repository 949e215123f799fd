"""What a program computes by itself is found, and nothing else is taken for it."""

from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest
from jax import Array
from jax.nn import softplus
from jax.random import split
from programs.laws import loosely

import variate as vt
from variate.gradients import staged
from variate.programs.dataflow import Analysis, Flow
from variate.programs.recognition import Index
from variate.programs.simulation import log_prob_in
from variate.programs.staging import stage


def coins(key: Array, t: Array) -> Array:
    return vt.draw(key, dist.Bernoulli(logits=t), rule=vt.gradients.Score())


def by_hand(t: Array, b: Array) -> Array:
    return jnp.sum(b.astype(float) * t - softplus(t))


def normal(key: Array, t: Array) -> Array:
    return vt.draw(key, dist.Normal(t, 2.0).to_event(1), rule=vt.gradients.Score())


THERE: dict[str, Callable[[Array, Array], Array]] = {
    "coins": lambda key, t: 3 * by_hand(t, coins(key, t)),
    "coins, factors swapped": lambda key, t: jnp.sum(t * coins(key, t).astype(float) - softplus(t)) ** 2,
    "coins, in a jit": lambda key, t: jax.jit(by_hand)(t, coins(key, t)),
    "in a mean": lambda key, t: jnp.mean(coins(key, t).astype(float) * t - softplus(t)),
    "a distribution": lambda key, t: jnp.cos(dist.Normal(t, 2.0).to_event(1).log_prob(normal(key, t))),
}
NOT_THERE: dict[str, Callable[[Array, Array], Array]] = {
    "another logit": lambda key, t: by_hand(t + 1, coins(key, t)),
    "another draw": lambda key, t: (lambda k1, k2: by_hand(t, coins(k1, 2 * t)) + jnp.sum(coins(k2, t)))(*split(key)),
    "a part": lambda key, t: jnp.sum(coins(key, t).astype(float) * t),
    "each alone": lambda key, t: jnp.sum((coins(key, t).astype(float) * t - softplus(t)) ** 2),
    "the other sign": lambda key, t: jnp.sum(softplus(t) - coins(key, t).astype(float) * t),
    "a batch of it": lambda key, t: jnp.sum(dist.Normal(t, 2.0).log_prob(normal(key, t)) ** 2),
    "another scale": lambda key, t: dist.Normal(t, 3.0).to_event(1).log_prob(normal(key, t)),
    "before a number is added": lambda key, t: by_hand(t, coins(key, t) + 1),
}
AT = jnp.array([0.3, -1.2])


def places(f: Callable[..., Any]) -> list[int | None]:
    # A function of JAX is the same one only where it was traced under the same configuration.
    program, _ = stage(loosely(f), jax.random.key(0), AT)
    assert Analysis(program, [Flow(), Flow()]).draws
    return [log_prob_in(Index(program), op) for op in program.operations if op.site]


@pytest.mark.parametrize("name", THERE)
def test_a_log_probability_that_is_there_is_found(name: str) -> None:
    (place,) = places(THERE[name])
    assert place is not None


@pytest.mark.parametrize("name", NOT_THERE)
def test_no_other_number_is_taken_for_it(name: str) -> None:
    assert set(places(NOT_THERE[name])) == {None}


@pytest.mark.wide
@pytest.mark.parametrize("name", THERE)
@pytest.mark.parametrize("order", [1, 2])
def test_gradients_are_what_they_are_without(name: str, order: int, key: Array) -> None:
    def gradient() -> vt.Estimate:
        fresh = lambda key, t: loosely(THERE[name])(key, t)  # noqa: E731  (nothing that was compiled before is used)
        return vt.grad(fresh, num_samples=8, order=order)(jax.random.clone(key), AT)

    found = gradient()
    with mock.patch.object(staged, "log_prob_in", return_value=None):
        computed = gradient()
    assert jnp.allclose(found.value, computed.value, rtol=1e-12)
    assert jnp.allclose(found.stderr, computed.stderr, rtol=1e-9)
