"""Totals that are turned over, handed through checkpoints or nested scans: each step is charged with what comes after.

Everything is summed over all outcomes. What it is compared with has one charge for all, the whole cost, and is compared
with the truth elsewhere.
"""

from collections.abc import Callable
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from gradients.exactness import SEED
from gradients.outcomes import noise, over_all
from jax import Array, lax
from jax.random import split

import variate as vt
from variate.gradients import NoBaseline, Score, staged

Carry = tuple[Array, Array]
Step = Callable[[Carry, Array], tuple[Carry, None]]
Program = Callable[[Array, Array], Array]
AT = jnp.array([0.3, -0.5])


def step_of(t: Array, change: Callable[[Array, Array], Array]) -> Step:
    def step(carry: Carry, k: Array) -> tuple[Carry, None]:
        s, total = carry
        b = vt.draw(k, dist.Bernoulli(logits=t[0] * s + t[1]), rule=Score(NoBaseline())).astype(float)
        s = 0.5 * s + b
        return (s, change(total, s * b - 0.3 * t[0])), None

    return step


def scanned(step: Step, keys: Array) -> Array:
    return lax.scan(step, (jnp.ones(()), jnp.full((), 0.5)), keys)[0][1]


def nested(step: Step, keys: Array) -> Array:
    def outer(carry: Carry, ks: Array) -> tuple[Carry, None]:
        s, total = lax.scan(step, carry, ks)[0]
        return (s - 0.3, s - 0.5 * total), None

    return scanned(outer, keys.reshape(2, 2))


# What becomes of a total in a step, and how the steps are run.
PROGRAMS: dict[str, tuple[Callable[[Array, Array], Array], Callable[[Step, Array], Array]]] = {
    "taken from, in checkpoints": (
        lambda total, r: 0.9 * (r - total),
        lambda step, keys: scanned(jax.checkpoint(step), keys),
    ),
    "turned over, in a scan in a scan": (lambda total, r: -total + r, nested),
    "all in a checkpoint": (
        lambda total, r: total - r,
        lambda step, keys: jax.checkpoint(lambda keys: scanned(step, keys))(keys),
    ),
}


def program(name: str) -> Program:
    change, loop = PROGRAMS[name]
    return lambda key, t: loop(step_of(t, change), split(key, 4))


def mean(name: str) -> Array:
    """Of the gradient, over all outcomes."""
    runs = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(SEED), jnp.arange(1))
    gradient = vt.grad(program(name), num_samples=1)
    return over_all(lambda: gradient(jax.random.key(SEED), AT).value, noise(program(name), (AT,), runs)).mean


@pytest.mark.parametrize("name", PROGRAMS)
def test_steps_are_charged_with_what_comes_after_them(name: str, key: Array) -> None:
    (row,) = vt.explain(program(name), num_samples=1)(key, AT).rows
    assert row.reaches.endswith("causal")
    whole = mock.patch.object(staged, "_shapes", return_value={})
    with whole, mock.patch.object(staged, "accumulated", lambda program: program):
        truth = mean(name)
    np.testing.assert_allclose(mean(name), truth, atol=1e-12)
