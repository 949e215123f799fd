"""Gradients of black boxes: the sum over all directions is what the method says, and sampling finds it."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from gradients.sampled_checks import far, flat
from jax import Array

import variate as vt
from variate.gradients import SPSA, EvolutionStrategies, black_box
from variate.gradients.perturbations import perturbation

AT = jnp.array([0.7, -0.4, 0.3])
# A right interval of 95% leaves this band by chance, over 4,000 keys, with probability 1.4e-5.
LOW, HIGH = 0.935, 0.965


class Along(eqx.Module):
    """One given direction."""

    scale: float
    given: Array

    def direction(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        return self.given


def coins(d: int) -> tuple[Array, Array]:
    """Every direction of `SPSA`, and its probability."""
    signs = jnp.array(list(itertools.product([-1.0, 1.0], repeat=d)))
    return signs, jnp.full(len(signs), 0.5**d)


def hermite(d: int, n: int = 5) -> tuple[Array, Array]:
    """Directions and weights that integrate what `EvolutionStrategies` makes of a polynomial of degree 8."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    grid = np.array(list(itertools.product(nodes, repeat=d)))
    return jnp.asarray(grid), jnp.asarray(
        np.prod(list(itertools.product(weights, repeat=d)), axis=1) / weights.sum() ** d
    )


EVERY = {SPSA: coins, EvolutionStrategies: hermite}


def over_directions(f: Callable[[Array], Array], kind: type, scale: float, at: Array = AT) -> tuple[Array, Array]:
    """The expectation over directions of the estimates, by `black_box` itself, of a function without noise."""

    def along(direction: Array) -> tuple[Array, Array]:
        estimate = black_box(lambda key, t: f(t), method=Along(scale, direction), num_samples=1)
        value, gradient = estimate(jax.random.key(0), at)
        return value.value, gradient.value

    directions, weights = EVERY[kind](at.size)
    values, gradients = jax.vmap(along)(directions)
    return weights @ values, weights @ gradients


def expected(mean: Callable[[Array], Array], kind: type, scale: float, at: Array = AT) -> tuple[Array, Array]:
    """The same by the definition, from the expectation of a program."""
    directions, weights = EVERY[kind](at.size)
    plus, minus = (
        jax.vmap(lambda direction, sign=sign: mean(at + sign * scale * direction))(directions) for sign in (1, -1)
    )
    return weights @ (plus + minus) / 2, (weights * (plus - minus) / (2 * scale)) @ directions


def quadratic(t: Array) -> Array:
    a = jnp.array([[2.0, 0.3, -1.0], [0.1, -0.7, 0.4], [0.0, 0.9, 1.5]])
    return t @ a @ t + jnp.array([1.0, -2.0, 0.5]) @ t + 3.0


def quartic(t: Array) -> Array:
    return t[0] ** 4 + t[0] ** 2 * t[1] ** 2 + t[1] ** 3 + t[0] * t[2] ** 3 - t[0] * t[1] * t[2]


def smoothed_quartic(t: Array, s: float) -> Array:
    """Of Gaussian moments: E x², E x³ and E x⁴ around x."""
    second, third, fourth = t**2 + s**2, t**3 + 3 * t * s**2, t**4 + 6 * t**2 * s**2 + 3 * s**4
    return fourth[0] + second[0] * second[1] + third[1] + t[0] * third[2] - t[0] * t[1] * t[2]


def third_order(f: Callable[[Array], Array]) -> Array:
    """The bias of SPSA at a scale of one, to first order in its square."""
    third = jax.jacfwd(jax.jacfwd(jax.jacfwd(f)))(AT)
    repeated = jnp.einsum("ijj->i", third)
    own = jnp.einsum("iii->i", third)
    return (own + 3 * (repeated - own)) / 6


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("scale", [0.01, 1.0])
def test_a_quadratic_has_no_bias(kind: type, scale: float) -> None:
    _, gradient = over_directions(quadratic, kind, scale)
    np.testing.assert_allclose(gradient, jax.grad(quadratic)(AT), rtol=0, atol=1e-10)


@pytest.mark.parametrize("scale", [0.1, 0.8])
def test_the_gaussian_smooths(scale: float) -> None:
    value, gradient = over_directions(quartic, EvolutionStrategies, scale)
    np.testing.assert_allclose(value, smoothed_quartic(AT, scale), rtol=0, atol=1e-10)
    np.testing.assert_allclose(gradient, jax.grad(smoothed_quartic)(AT, scale), rtol=0, atol=1e-10)


@pytest.mark.parametrize("scale", [0.1, 0.8])
def test_the_bias_of_coins_is_what_the_page_says(scale: float) -> None:
    _, gradient = over_directions(quartic, SPSA, scale)
    np.testing.assert_allclose(gradient - jax.grad(quartic)(AT), scale**2 * third_order(quartic), rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", EVERY)
def test_the_bias_is_of_second_order(kind: type) -> None:
    def wave(t: Array) -> Array:
        return jnp.sin(t[0] + 2 * t[1]) * jnp.exp(t[2])

    bias = [over_directions(wave, kind, scale)[1] - jax.grad(wave)(AT) for scale in (0.02, 0.01)]
    # What remains is of fourth order: a ratio of 4 (1 + O(0.02²)).
    np.testing.assert_allclose(bias[0] / bias[1], 4.0, rtol=0.01)
    if kind is SPSA:
        np.testing.assert_allclose(bias[1], 0.01**2 * third_order(wave), rtol=0.01)


class Case(NamedTuple):
    """A program of an array, and its expectation."""

    program: Callable[[Array, Array], Array]
    mean: Callable[[Array], Array]


def noisy(key: Array, t: Array) -> Array:
    """Common noise, and a draw whose mean is a polynomial in the arguments."""
    k1, k2 = jax.random.split(key)
    z = vt.draw(k1, dist.Normal(t[0], 0.5))
    return z**2 * t[1] ** 2 + t[2] ** 3 + 10 * jax.random.normal(k2)


def coin(key: Array, t: Array) -> Array:
    """A draw that jumps, and is counted as an integer."""
    return vt.draw(key, dist.Bernoulli(probs=t[0] * t[1]))


CASES = {
    "noisy": Case(noisy, lambda t: (t[0] ** 2 + 0.25) * t[1] ** 2 + t[2] ** 3),
    "quartic": Case(lambda key, t: quartic(t), quartic),
    "coin": Case(coin, lambda t: t[0] * t[1]),
}
PLACES = {"coin": jnp.array([0.5, 0.6])}
# Far from small, so that every part of the bias shows; the coin's must leave its probability one.
SCALES = {"noisy": 0.4, "quartic": 0.4, "coin": 0.08}


def estimated(name: str, kind: type, key: Array, num_samples: int = 20_000) -> tuple[vt.Estimate, vt.Estimate]:
    case = CASES[name]
    fresh = lambda key, t: case.program(key, t)  # noqa: E731  (nothing that was compiled before is used)
    estimate = black_box(fresh, method=kind(SCALES[name]), num_samples=num_samples, block_size=2_000)
    return eqx.filter_jit(estimate)(key, PLACES.get(name, AT))


def wrong(name: str, kind: type, key: Array) -> bool:
    """Whether a z-test rejects the value or the gradient; it does so by chance with probability 2e-6."""
    truth = expected(CASES[name].mean, kind, SCALES[name], PLACES.get(name, AT))
    found = estimated(name, kind, key)
    return any(far(each, np.ravel(exact)) for each, exact in zip(found, truth, strict=True))


@pytest.mark.wide
@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("name", CASES)
def test_sampling_finds_the_expectation(name: str, kind: type, key: Array) -> None:
    assert not wrong(name, kind, key)


def test_a_step_has_the_gradient_of_its_smoothing(key: Array) -> None:
    estimate = black_box(lambda key, t: t > 0, method=EvolutionStrategies(0.5), num_samples=20_000)
    value, gradient = estimate(key, 0.2)
    assert not far(value, np.ravel(jax.scipy.stats.norm.cdf(0.2 / 0.5)))
    assert not far(gradient, np.ravel(jax.scipy.stats.norm.pdf(0.2 / 0.5) / 0.5))


def test_both_evaluations_share_the_key() -> None:
    def shifted(key: Array, t: Array) -> Array:
        return t + 1e3 * jax.random.normal(key)

    value, gradient = black_box(shifted, method=SPSA(0.1), num_samples=50)(jax.random.key(1), 0.3)
    np.testing.assert_allclose(gradient.value, 1.0, rtol=0, atol=1e-10)
    assert float(value.stderr) > 10


MOVED, SLOPE, DIRECTIONS = perturbation._moved, perturbation._slope, perturbation._directions


def another_each_time() -> Callable[..., Any]:
    """What accumulates is not what was evaluated: the keys are others each time."""
    count = itertools.count()
    fold_in = jax.vmap(jax.random.fold_in, (0, None))
    return lambda method, keys, centers: DIRECTIONS(method, fold_in(jax.random.clone(keys), next(count)), centers)


MUTANTS: dict[str, tuple[str, Callable[..., Any]]] = {
    "another direction when it is made again": ("_directions", another_each_time()),
    "not divided by twice the scale": ("_slope", lambda plus, minus, scale: plus - minus),
    "divided by the scale alone": ("_slope", lambda plus, minus, scale: 2 * SLOPE(plus, minus, scale)),
    "wrong sign": ("_slope", lambda plus, minus, scale: SLOPE(minus, plus, scale)),
    "a step of one": ("_moved", lambda n, c, d, step: MOVED(n, c, d, jnp.sign(step))),
    "only one of the two steps": ("_moved", lambda n, c, d, step: MOVED(n, c, d, jnp.maximum(step, 0.0))),
}


@pytest.mark.wide
@pytest.mark.parametrize("name", MUTANTS)  # of what both methods share
def test_a_mutant_is_caught(name: str, monkeypatch: pytest.MonkeyPatch, key: Array) -> None:
    monkeypatch.setattr(perturbation, *MUTANTS[name])
    assert wrong("quartic", SPSA, key)


@pytest.mark.parametrize("kind", EVERY)
def test_a_direction_of_another_length_is_caught(kind: type, monkeypatch: pytest.MonkeyPatch, key: Array) -> None:
    right = kind.direction
    monkeypatch.setattr(kind, "direction", lambda *operands: 1.1 * right(*operands))
    assert wrong("quartic", kind, key)


@pytest.mark.wide
@pytest.mark.slow
@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("name", ["noisy", "quartic"])
def test_error_bars_are_honest(name: str, kind: type, key: Array) -> None:
    # Products of squares of Gaussians are skewed: they need many samples before their mean is normal.
    estimate = black_box(CASES[name].program, method=kind(0.1), num_samples=4_096, block_size=512)
    truth = flat(expected(CASES[name].mean, kind, 0.1))

    def ends(key: Array) -> tuple[Array, Array]:
        low, high = zip(*(each.interval(0.95) for each in estimate(key, AT)), strict=True)
        return tuple(jnp.concatenate([jnp.ravel(x) for x in end]) for end in (low, high))

    keys = jax.random.split(key, (40, 100))
    low, high = (np.concatenate(x) for x in jax.jit(lambda keys: jax.lax.map(jax.vmap(ends), keys))(keys))
    covered = np.mean((low <= truth) & (truth <= high), axis=0)
    assert np.all((covered > LOW) & (covered < HIGH)), covered
