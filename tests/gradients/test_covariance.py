"""Gradients of densities that are known up to a constant."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest
from gradients.sampled_checks import far
from jax import Array

import variate as vt
from variate.gradients import BiasedGradientError, LeaveOneOut, NoBaseline, Score
from variate.gradients.rules.covariance import Covariance

SPINS = jnp.array([[a, b, c] for a in (-1.0, 1.0) for b in (-1.0, 1.0) for c in (-1.0, 1.0)])
AT = jnp.array([0.3, -0.4, 0.2])


class Spins(eqx.Module):
    """Three coupled spins, drawn exactly, of a density without its constant."""

    weights: Array
    normalized = False

    def sample(self, key: Array) -> Array:
        return SPINS[jax.random.categorical(key, jax.vmap(self.log_prob)(SPINS))]

    def log_prob(self, x: Array) -> Array:
        return self.weights[0] * x[0] * x[1] + self.weights[1] * x[1] * x[2] + self.weights[2] * jnp.sum(x)


class Normalized(Spins):
    """The same with its constant, which nothing says."""

    normalized = True

    def log_prob(self, x: Array) -> Array:
        energies = jax.vmap(super().log_prob)(SPINS)
        return super().log_prob(x) - jax.nn.logsumexp(energies)


def result(x: Array) -> Array:
    return (x[0] + x[2]) ** 2 + x[1]


def one(key: Array, weights: Array) -> Array:
    return result(vt.draw(key, Spins(weights), name="x"))


def two(key: Array, weights: Array) -> Array:
    first, second = jax.random.split(key)
    x = vt.draw(first, Spins(weights), name="x")
    coin = vt.draw(second, dist.Bernoulli(logits=weights[0] * x[1]), name="coin").astype(float)
    return result(x) * (1 + coin)


def several(key: Array, weights: Array) -> Array:
    draw = lambda key: result(vt.draw(key, Spins(weights), name="x"))  # noqa: E731
    return jnp.prod(jax.vmap(draw)(jax.random.split(key, 2)))


def looped(key: Array, weights: Array) -> Array:
    def step(total: Array, key: Array) -> tuple[Array, None]:
        return total * 0.5 + result(vt.draw(key, Spins(weights), name="x")), None

    return jax.lax.scan(step, jnp.zeros(()), jax.random.split(key, 3))[0] ** 2


def mean(weights: Array, f: Any) -> Array:
    probabilities = jax.nn.softmax(jax.vmap(Spins(weights).log_prob)(SPINS))
    return jnp.sum(probabilities * jax.vmap(f)(SPINS))


def mean_of_two(weights: Array) -> Array:
    return mean(weights, lambda x: result(x) * (1 + jax.nn.sigmoid(weights[0] * x[1])))


def mean_looped(weights: Array) -> Array:
    first, second = mean(weights, result), mean(weights, lambda x: result(x) ** 2)
    coefficients = jnp.array([0.25, 0.5, 1.0])
    return first**2 * jnp.sum(coefficients) ** 2 + (second - first**2) * jnp.sum(coefficients**2)


EXPECTATIONS = {
    one: lambda weights: mean(weights, result),
    two: mean_of_two,
    several: lambda weights: mean(weights, result) ** 2,
    looped: mean_looped,
}


def estimated(program: Any, key: Array, rules: dict | None = None, samples: int = 20_000) -> vt.Estimate:
    gradient = vt.grad(lambda key, w: program(key, w), num_samples=samples, block_size=2_000, rules=rules)
    return jax.jit(gradient)(key, AT)


@pytest.mark.wide
@pytest.mark.parametrize("program", EXPECTATIONS)
def test_the_gradient_is_right_without_the_constant(program: Any, key: Array) -> None:
    truth = jax.grad(EXPECTATIONS[program])(AT)
    gradient = estimated(program, key)
    assert not far(gradient, truth), (gradient, truth)
    # A gradient of half its size would not pass.
    assert far(gradient, truth / 2)


def test_it_is_the_score_with_the_constant(key: Array) -> None:
    """The same runs give the same numbers, as what the constant adds is the same for all samples of a block."""

    def known(key: Array, weights: Array) -> Array:
        return result(vt.draw(key, Normalized(weights), name="x"))

    with_it = vt.grad(known, num_samples=8, rules={"x": Score(LeaveOneOut())})(key, AT)
    without = vt.grad(one, num_samples=8)(key, AT)
    assert jnp.allclose(with_it.value, without.value, atol=1e-12)


def test_a_density_that_lies_about_its_constant_is_caught(key: Array) -> None:
    """The mutant: the score of it without a baseline."""

    class Lying(Spins):
        normalized = True

    def program(key: Array, weights: Array) -> Array:
        return result(vt.draw(key, Lying(weights), name="x"))

    gradient = estimated(program, key, {"x": Score(NoBaseline())})
    assert far(gradient, jax.grad(EXPECTATIONS[one])(AT))


@pytest.mark.slow
def test_its_intervals_cover(key: Array) -> None:
    truth = jax.grad(EXPECTATIONS[one])(AT)
    gradient = vt.grad(one, num_samples=128)

    @jax.jit
    def covered(keys: Array) -> Array:
        def inside(key: Array) -> Array:
            low, high = gradient(key, AT).interval(0.95)
            return (low <= truth) & (truth <= high)

        return jnp.mean(jax.lax.map(inside, keys, batch_size=500), axis=0)

    share = covered(jax.random.split(key, 4_000))
    # A right interval leaves this band by chance with probability 1.4e-5 for each of three coordinates.
    assert jnp.all((share > 0.935) & (share < 0.965)), share


def linked(key: Array, weights: Array) -> Array:
    first, second = jax.random.split(key)
    z = vt.draw(first, dist.Normal(0.0, 1.0))
    return result(vt.draw(second, Spins(weights * z), name="x"))


def shifted_by_other_noise(key: Array, weights: Array) -> Array:
    first, second = jax.random.split(key)
    return result(vt.draw(second, Spins(weights * jax.random.normal(first)), name="x"))


def branched(key: Array, weights: Array) -> Array:
    first, second = jax.random.split(key)
    coin = vt.draw(first, dist.Bernoulli(0.5))
    return jax.lax.cond(coin == 1, lambda: one(second, weights), lambda: jnp.zeros(()))


@pytest.mark.parametrize(
    ("program", "why"),
    [(linked, "other random"), (shifted_by_other_noise, "other random"), (branched, "in a branch")],
)
def test_it_is_refused_where_the_constant_varies(program: Any, why: str, key: Array) -> None:
    with pytest.raises(BiasedGradientError, match="no rule gives an unbiased gradient"):
        vt.grad(program)(key, AT)
    with pytest.raises(ValueError, match=why):
        vt.grad(program, rules={"x": Covariance()})(key, AT)


def test_bad_input(key: Array) -> None:
    with pytest.raises(ValueError, match=r"Score cannot serve.*not normalised.*Those that can: Covariance"):
        vt.grad(one, rules={"x": Score()})(key, AT)
    with pytest.raises(ValueError, match="LeaveOneOut needs 2 samples or more"):
        vt.grad(one, num_samples=1)(key, AT)
    with pytest.raises(BiasedGradientError, match="no rule"):
        vt.grad(vt.grad(one))(key, AT)

    def coin(key: Array, t: Array) -> Array:
        return vt.draw(key, dist.Poisson(t), name="x").astype(float)

    with pytest.raises(ValueError, match="its log_prob is normalised"):
        vt.grad(coin, rules={"x": Covariance()})(key, jnp.array(0.4))
