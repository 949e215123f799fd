"""Credit by dataflow takes the noise of what a draw does not reach out of its gradient."""

from collections.abc import Callable
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array, lax
from jax.random import split

import variate as vt
from variate.gradients import Score, staged


def chain(key: Array, t: Array) -> Array:
    """100 linked coins and a reward a step, added up on the way."""

    def step(carry: tuple[Array, Array], k: Array) -> tuple[tuple[Array, Array], None]:
        s, total = carry
        b = vt.draw(k, dist.Bernoulli(logits=t[0] + t[1] * jnp.tanh(s))).astype(float)
        s = 0.5 * s + 2 * b - 1
        return (s, total + b * s), None

    return lax.scan(step, (jnp.zeros(()), jnp.zeros(())), split(key, 100))[0][1]


def coins(key: Array, t: Array) -> Array:
    """200 independent coins, each with its own cost."""
    b = vt.draw(key, dist.Bernoulli(logits=t), rule=Score()).astype(float)
    return jnp.sum((b - 0.45) ** 2)


def each_coin(key: Array, t: Array) -> Array:
    """The costs of the coins, not added up."""
    return (vt.draw(key, dist.Bernoulli(logits=t), rule=Score()).astype(float) - 0.45) ** 2


def latents(key: Array, t: Array) -> Array:
    """A factorised model: eight pictures of four latents, each picture with its own cost."""
    b = vt.draw(key, dist.Bernoulli(logits=jnp.broadcast_to(t, (8, 4))), rule=Score()).astype(float)
    return jnp.sum(jnp.tanh(b @ jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)) ** 2)


def variance(program: Callable[..., Array], at: Array, key: Array) -> float:
    fresh = lambda key, t: program(key, t)  # noqa: E731  (nothing that was compiled before is used)
    found = vt.grad(fresh, num_samples=8_192, block_size=16)(key, at)
    return float(jnp.sum(found.stderr**2) * 8_192)


# The variances of 8,192 samples are known to 2% or so, so a ratio is ten of its errors above the bound.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "at", "times"),
    [(chain, np.array([0.2, -0.3]), 3), (coins, np.linspace(-1, 1, 200), 50), (latents, np.zeros(4), 4)],
)
def test_credit_has_less_noise_than_the_whole_cost(
    program: Callable[..., Array], at: np.ndarray, times: float, key: Array
) -> None:
    one, two = split(key)
    ours = variance(program, jnp.asarray(at), one)
    with mock.patch.object(staged, "_shapes", return_value={}):
        whole = variance(program, jnp.asarray(at), two)
    assert whole > times * ours
    assert ours > 0


@pytest.mark.parametrize(
    ("program", "at", "words"),
    [
        (chain, np.array([0.2, -0.3]), "causal"),
        (coins, np.linspace(-1, 1, 200), "diagonal"),
        (lambda key, t: coins(key, t) ** 2, np.ones(3), "full: `reduce_sum` at test_credit.py:"),
        (
            lambda key, t: each_coin(key, t),
            np.ones(3),
            "full: the entries of an array are each charged to all elements",
        ),
    ],
)
def test_explain_says_how_finely_a_draw_is_charged(
    program: Callable[..., Array], at: np.ndarray, words: str, key: Array
) -> None:
    (row,) = vt.explain(program, num_samples=1)(key, jnp.asarray(at)).rows
    assert words in row.reaches


@pytest.mark.parametrize("summed", [True, False])
def test_explain_shows_what_is_charged(summed: bool, key: Array) -> None:
    """The entries of an array are each charged to all coins, and not said to be told apart."""

    def program(key: Array, t: Array) -> tuple[Array, Array]:
        b = vt.draw(key, dist.Bernoulli(logits=t), rule=Score()).astype(float)
        cost = (b - 0.45) ** 2
        return jnp.sum(cost) if summed else cost, b

    at = jnp.linspace(-1, 1, 3)
    (row,) = vt.explain(lambda *args: program(*args)[0], num_samples=1)(key, at).rows
    gradient, (b,) = vt.grad(program, num_samples=1, has_aux=True)(jax.random.clone(key), at)
    score, cost = b - jax.nn.sigmoid(at), (b - 0.45) ** 2
    charged = score * cost if "diagonal" in row.reaches else jnp.outer(cost, score)
    np.testing.assert_allclose(gradient.value, charged, rtol=1e-12)
