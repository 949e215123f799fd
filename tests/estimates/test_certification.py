"""Certificates: seldom beyond the truth, near it, and larger where the variance or a Lipschitz constant is used."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from variate.estimates import Betting, ClopperPearson, EmpiricalBernstein, Hoeffding, certify

SIGMA = 0.5
NORMAL = jnp.array([0.6, -0.8])


def half_plane(x: Array) -> Array:
    """Of a smoothed half plane the radius is the distance to its edge."""
    return jax.nn.one_hot((x @ NORMAL > 0).astype(int), 2)


def soft(x: Array, temperature: Any = 0.2) -> Array:
    p = jax.scipy.stats.norm.cdf(x @ NORMAL / temperature)
    return jnp.stack([1 - p, p])


def soft_radius(distance: float, temperature: float = 0.2) -> float:
    """E Φ((d + σz)/t) is Φ(d / √(t² + σ²)), whose Φ⁻¹ times σ is the radius."""
    return SIGMA * distance / np.hypot(temperature, SIGMA)


@pytest.mark.wide
@pytest.mark.slow
@pytest.mark.parametrize("kind", [Hoeffding(0, 1), EmpiricalBernstein(0, 1), Betting(0, 1), ClopperPearson()])
def test_a_certificate_is_as_seldom_wrong_as_it_says(kind: Any, key: Array) -> None:
    """1,000 keys at a level of 90%: the radius is beyond the truth a twentieth of the time at most (z-test, 1e-6)."""
    classify, truth = (half_plane, 0.3) if isinstance(kind, ClopperPearson) else (soft, soft_radius(0.3))
    run = certify(classify, SIGMA, interval=kind, num_samples=400, level=0.9)
    found = jax.jit(lambda keys: jax.lax.map(lambda k: run(k, 0.3 * NORMAL), keys, batch_size=100))(
        jax.random.split(key, 1_000)
    )
    assert np.all(found.label == 1)
    wrong = np.mean(np.asarray(found.radius) > truth)
    assert wrong < 0.05 + 4.75 * np.sqrt(0.05 * 0.95 / 1_000)
    if isinstance(kind, ClopperPearson):
        # Both classes are one count, so half of Bonferroni is lost and no more.
        assert wrong > 0.005
        assert np.mean(found.radius) > 0.7 * truth


def test_it_approaches_the_truth(key: Array) -> None:
    found = certify(half_plane, SIGMA, interval=ClopperPearson(), num_samples=200_000, block_size=4096)(
        key, 0.7 * NORMAL
    )
    assert 0.68 < float(found.radius) < 0.7
    assert int(found.label) == 1


def test_variance_and_slope_certify_more(key: Array) -> None:
    """Of a classifier with little variance under noise, by its known Lipschitz constant √(2/π) / 2 t."""
    temperature = 2.0
    options = {"num_samples": 1_000}
    by = lambda **of: float(certify(soft, SIGMA, **options | of)(jax.random.clone(key), NORMAL, temperature).radius)  # noqa: E731
    bernstein, hoeffding = by(), by(interval=Hoeffding(0, 1))
    assert bernstein > hoeffding > 0
    assert bernstein < soft_radius(1.0, temperature)
    slope = 1 / np.sqrt(2 * np.pi) / temperature
    assert by(lipschitz=slope) > 1.5 * bernstein
    assert by(lipschitz=slope) < 1  # the distance at which the class really changes
    assert by(lipschitz=100.0) == bernstein


def test_no_telling_is_no_radius(key: Array) -> None:
    found = certify(half_plane, SIGMA, num_samples=200)(key, 0.0 * NORMAL)
    assert float(found.radius) == 0


def test_many_inputs_at_once(key: Array) -> None:
    keys, xs = jax.random.split(key, 3), jnp.array([[0.3, 0.1], [-1.0, 2.0], [1.0, -1.0]])
    run = certify(soft, SIGMA, num_samples=500)
    many = jax.vmap(run)(keys, xs)
    one = run(jax.random.clone(keys)[2], xs[2])
    np.testing.assert_allclose(many.radius[2], one.radius, rtol=1e-9)
    np.testing.assert_array_equal(many.label, [1, 0, 1])


BAD: dict[str, tuple[Callable[[], Any], type, str]] = {
    "no noise": (lambda: certify(soft, 0.0), ValueError, "sigma"),
    "no interval": (lambda: certify(soft, 1.0, interval=0.95), TypeError, "interval"),  # pyright: ignore[reportArgumentType]
    "other numbers": (lambda: certify(soft, 1.0, interval=Hoeffding(0, 5)), ValueError, "between 0 and 1, got Hoeff"),
    "no input": (lambda: certify(soft, 1.0)(jax.random.key(0)), TypeError, "x must be an array of real numbers"),
    "words": (lambda: certify(soft, 1.0)(jax.random.key(0), "a"), TypeError, "x must be an array of real numbers"),
    "complex": (
        lambda: certify(soft, 1.0)(jax.random.key(0), jnp.ones(2).astype(complex)),
        TypeError,
        "got complex128",
    ),
    "no classes": (
        lambda: certify(lambda x: x.sum(), 1.0)(jax.random.key(0), jnp.ones(2)),
        ValueError,
        "two or more classes",
    ),
    "no probabilities": (
        lambda: certify(lambda x: 5 * x, 1.0)(jax.random.key(0), jnp.ones(2)),
        ValueError,
        "not between 0 and 1",
    ),
    "soft for hard": (
        lambda: certify(soft, 1.0, interval=ClopperPearson())(jax.random.key(0), jnp.ones(2)),
        ValueError,
        "not 0 or 1",
    ),
}


@pytest.mark.parametrize(("call", "error", "text"), BAD.values(), ids=BAD)
def test_bad_input(call: Callable, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        call()
