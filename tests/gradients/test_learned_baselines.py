"""The loss of a learned baseline: its minimiser is the expected cost given what is known, and it moves nothing else."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from gradients.coins import flip
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name
from jax.random import split

import variate as vt
from variate.gradients import Learned, LeaveOneOut, Score, baseline_loss

TABLE = jnp.array([0.7, -1.0, 2.5])


class Guess(eqx.Module):
    """A number for each context; the name of a feature is no array."""

    numbers: Array
    name: str = "context"

    def __call__(self, context: Array) -> Array:
        return self.numbers @ context


def choice(key: Array, t: Array, guess: Guess) -> Array:
    """A coin that is tossed and pays by one of three contexts."""
    k1, k2 = split(key)
    context = jax.nn.one_hot(vt.draw(k1, dist.Categorical(logits=jnp.array([0.0, 0.5, -0.5]))), 3)
    b = flip(k2, t * (context @ TABLE), "b")
    return ((b + 3) * (checkpoint_name(context, "context") @ TABLE)) ** 2


def walk(key: Array, t: Array, guess: Guess) -> Array:
    """Three coins, each charged with the rewards from then on; the context is which of them it is."""

    def step(s: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        k, which = inputs
        s = s + flip(k, t + 0 * checkpoint_name(which, "context")[0], "b")
        return s, (which @ TABLE) * s

    return jnp.sum(lax.scan(step, jnp.zeros(()), (split(key, 3), jnp.eye(3)))[1])


def learned(context: Array, t: Array, guess: Guess) -> Array:
    return guess(context)


AT, RULES = jnp.asarray(0.3), {"b": Score(Learned(learned, "context"))}
# What is expected of a charge in each context: the cost of the choice, the rewards from a step on.
EXPECTED = {
    choice: (9 + 7 * jax.nn.sigmoid(AT * TABLE)) * TABLE**2,
    walk: jax.nn.sigmoid(AT) * jnp.cumsum((TABLE * jnp.arange(1.0, 4.0))[::-1])[::-1],
}


@pytest.mark.parametrize("program", EXPECTED)
def test_its_gradient_vanishes_at_the_expected_cost_and_nowhere_else(program: object, key: Array) -> None:
    """Newton's step leads to the minimum of the quadratic loss: a mean by context, unbiased; z-tests at 5.4 errors."""
    keys = split(key, 200)
    loss = baseline_loss(lambda *args: program(*args), num_samples=128, rules=RULES)

    @jax.jit
    @jax.vmap
    def best(key: Array) -> Array:
        of = lambda numbers: loss(key, AT, Guess(numbers))  # noqa: E731
        start = jnp.array([5.0, -3.0, 1.0])
        return start - jnp.linalg.solve(jax.hessian(of)(start), jax.grad(of)(start))

    found = np.asarray(best(keys))
    error = np.std(found, axis=0) / np.sqrt(len(keys))
    assert np.all(np.abs(found.mean(0) - EXPECTED[program]) < 5.4 * error), (found.mean(0), error)
    assert not np.all(np.abs(found.mean(0) - EXPECTED[program][::-1]) < 5.4 * error)


def test_it_takes_variance_off(key: Array) -> None:
    """What was learned leaves less noise than the other samples' mean, which does not know the context."""
    k1, k2 = split(key)
    guess = Guess(jnp.zeros(3))
    loss = baseline_loss(choice, rules=RULES, num_samples=256)
    step = eqx.filter_jit(eqx.filter_grad(lambda guess, key: loss(key, AT, guess)))
    for k in split(k1, 50):
        guess = eqx.apply_updates(guess, jax.tree.map(lambda g: -0.5 * g, step(guess, k)))
    ours = vt.grad(choice, num_samples=2048, rules=RULES)(k2, AT, guess)
    others = vt.grad(choice, num_samples=2048, rules={"b": Score(LeaveOneOut())})(jax.random.clone(k2), AT, guess)
    assert ours.stderr < 0.5 * others.stderr


def test_it_moves_the_baseline_alone(key: Array) -> None:
    loss = baseline_loss(choice, rules=RULES)
    gradients = jax.grad(lambda t, numbers: loss(key, t, Guess(numbers)), argnums=(0, 1))(AT, jnp.ones(3))
    assert gradients[0] == 0
    assert np.all(gradients[1] != 0)


def test_what_has_no_loss(key: Array) -> None:
    with pytest.raises(ValueError, match="no draw that contributes to the gradient has a learned baseline"):
        baseline_loss(choice, rules={"b": Score(LeaveOneOut())})(key, AT, Guess(jnp.ones(3)))

    def seen(key: Array, t: Array, guess: Guess) -> Array:
        return checkpoint_name(jnp.ones(3) * flip(key, t, "b"), "context")[0]

    with pytest.raises(ValueError, match="'context' depends on the draw 'b' itself, which would bias it"):
        baseline_loss(seen, rules=RULES)(key, AT, Guess(jnp.ones(3)))
