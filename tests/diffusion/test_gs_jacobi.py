"""Autoregressive flows inverted in rounds are what a loop over positions makes, in fewer rounds."""

import functools
from typing import Any

import equinox as eqx
import flowjax.bijections
import jax
import jax.numpy as jnp
import numpy as np
import paramax
import pytest
from jaxtyping import Array, Float

from variate.diffusion import invert_causal, jacobi_metrics

LENGTH = 12
Z = jax.random.normal(jax.random.key(0), (6, LENGTH))
MIX = np.tril(np.random.default_rng(0).normal(size=(LENGTH, LENGTH)), -1)


def update(z: Float[Array, " length"], x: Float[Array, " length"], weight: float = 0.4) -> Float[Array, " length"]:
    """Of an affine flow, with a shift and a scale that depend on all positions before."""
    before = jnp.asarray(MIX, x.dtype) @ x
    return z * jnp.exp(weight * jnp.tanh(before)) + weight * before


def noise_of(x: Float[Array, "n length"], weight: float = 0.4) -> Float[Array, "n length"]:
    before = x @ jnp.asarray(MIX, x.dtype).T
    return (x - weight * before) * jnp.exp(-weight * jnp.tanh(before))


@functools.cache
def flow() -> tuple[Any, Any]:
    """A masked network of splines, and how one position of it is inverted given those before."""
    spline = flowjax.bijections.RationalQuadraticSpline(knots=5, interval=3)
    with jax.numpy_rank_promotion("allow"):
        layer: Any = flowjax.bijections.MaskedAutoregressive(
            jax.random.key(1), transformer=spline, dim=LENGTH, nn_width=24, nn_depth=2
        )
    layer = eqx.tree_at(lambda layer: layer.masked_autoregressive_mlp, layer, replace_fn=louder)
    layer = paramax.unwrap(layer)

    def inverse(z: Float[Array, " length"], x: Float[Array, " length"]) -> Float[Array, " length"]:
        return layer._flat_params_to_transformer(layer.masked_autoregressive_mlp(x)).inverse(z)

    return layer, inverse


def louder(network: Any) -> Any:
    """As initialized, hardly any position depends on another."""
    return jax.tree.map(lambda leaf: 3 * leaf if eqx.is_inexact_array(leaf) else leaf, network)


@pytest.mark.parametrize("segment", [None, 1, 5])
def test_it_is_the_sequential_inverse_of_a_flow(segment: int | None) -> None:
    layer, inverse = flow()
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        exact = jax.vmap(lambda z: layer.inverse_and_log_det(z)[0])(Z)
        found = invert_causal(inverse, Z, segment=segment)
    np.testing.assert_allclose(found.values, exact, atol=1e-10, rtol=0)
    assert np.all(found.finite)
    assert np.all(found.rounds <= LENGTH)
    lengths = {None: [12], 1: [1] * 12, 5: [5, 5, 2]}[segment]
    assert np.all(np.asarray(found.by_segment) <= lengths)
    np.testing.assert_array_equal(found.rounds, np.sum(found.by_segment, axis=1))
    assert not np.allclose(exact, Z, atol=0.1)


@pytest.mark.parametrize("segment", [12, 4])
def test_no_start_is_too_far_off(segment: int) -> None:
    """As many rounds as a segment is long are enough from anywhere, and one fewer is not."""
    far = invert_causal(update, Z, segment=segment, start=jnp.full_like(Z, 1e3))
    np.testing.assert_allclose(noise_of(far.values), Z, atol=1e-10, rtol=0)
    chain = invert_causal(lambda z, x: z + jnp.pad(x[:-1], (1, 0)), jnp.ones((1, LENGTH)), segment=segment)
    np.testing.assert_array_equal(chain.values[0], np.arange(1.0, LENGTH + 1))
    assert int(chain.rounds[0]) == LENGTH


@pytest.mark.parametrize("segment", [12, 4])
def test_the_tolerance_is_what_is_left_of_the_equation(segment: int) -> None:
    exact = invert_causal(update, Z, segment=segment)
    found = invert_causal(update, Z, segment=segment, tolerance=1e-3)
    left = np.abs(found.values - jax.vmap(update)(Z, found.values))
    assert np.all(left <= 1e-3)
    assert np.max(left) > 1e-6  # it has stopped before the end
    assert np.all(found.rounds <= exact.rounds)
    assert np.sum(found.rounds) < np.sum(exact.rounds)
    at_once = invert_causal(update, Z, segment=segment, tolerance=1e6)
    np.testing.assert_array_equal(at_once.values, Z)
    assert np.all(at_once.rounds == LENGTH // segment)


def test_segments_keep_what_lies_behind_from_overflow() -> None:
    """A shift that is squared at each position, of a start far too large: in one segment it runs through infinity."""

    def squares(z: Float[Array, " length"], x: Float[Array, " length"]) -> Float[Array, " length"]:
        return z + 0.1 * jnp.pad(x[:-1] ** 2, (1, 0))

    start = jnp.full_like(Z, 1e200)
    loop = [np.asarray(Z[:, 0])]
    for i in range(1, LENGTH):
        loop.append(np.asarray(Z[:, i]) + 0.1 * loop[-1] ** 2)
    for segment in (LENGTH, 3):
        found = invert_causal(squares, Z, segment=segment, start=start)
        assert np.all(found.finite)
        np.testing.assert_allclose(found.values, np.stack(loop, axis=1), rtol=1e-12)


def test_what_is_no_number_is_so_from_there_on() -> None:
    def root(z: Float[Array, " length"], x: Float[Array, " length"]) -> Float[Array, " length"]:
        return z + jnp.log(2.0 + jnp.pad(x[:-1], (1, 0)))

    noise = jnp.ones((2, LENGTH)).at[1, 5].set(-9.0)
    found = invert_causal(root, noise, tolerance=1e-3)
    assert found.finite.tolist() == [True, False]
    assert np.flatnonzero(~np.isfinite(found.values[1])).tolist() == list(range(6, LENGTH))
    np.testing.assert_allclose(found.values[1, :5], found.values[0, :5], atol=2e-3)
    assert "1 are not finite" in repr(found)
    bad = invert_causal(update, Z.at[0, 3].set(jnp.nan))
    assert np.flatnonzero(~np.isfinite(bad.values[0])).tolist() == list(range(3, LENGTH))
    np.testing.assert_array_equal(bad.values[1:], invert_causal(update, Z).values[1:])


def test_sequences_of_vectors_in_single_precision_and_inside_jit() -> None:
    noise = jax.random.normal(jax.random.key(2), (3, LENGTH, 2), jnp.float32)
    both = jax.vmap(update, (1, 1), 1)
    found = invert_causal(both, noise, segment=4)
    assert found.values.dtype == jnp.float32
    alone = invert_causal(update, noise[:, :, 1], segment=4)
    np.testing.assert_allclose(found.values[:, :, 1], alone.values, rtol=1e-4, atol=1e-4)

    def scaled(weight: Array) -> Array:
        return invert_causal(lambda z, x: z + weight * jnp.tanh(jnp.asarray(MIX) @ x), Z).values

    weight = jnp.asarray(0.3)
    np.testing.assert_allclose(jax.jit(scaled)(weight), scaled(weight), rtol=1e-12)


def iterated(rounds: int, segments: Any, start: Any = None) -> Any:
    """So many rounds on each of some slices, one after another."""
    x = Z if start is None else start
    for segment in segments:
        for _ in range(rounds):
            x = x.at[:, segment].set(jax.vmap(update)(Z, x)[:, segment])
    return x


HALVES = (slice(0, 6), slice(6, 12))
MUTANTS = {
    "a round too few": lambda: iterated(LENGTH - 1, [slice(0, LENGTH)], jnp.zeros_like(Z)),
    "a round too few of each segment": lambda: iterated(5, HALVES, jnp.zeros_like(Z)),
    "the last segment first": lambda: iterated(6, HALVES[::-1]),
    "the scale and the shift of the noise": lambda: jax.vmap(update)(Z, Z),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_no_inverse(name: str) -> None:
    np.testing.assert_allclose(noise_of(iterated(6, HALVES, jnp.zeros_like(Z))), Z, atol=1e-10, rtol=0)
    assert np.max(np.abs(noise_of(MUTANTS[name]()) - Z)) > 1e-8


def test_the_metrics_are_norms_at_the_exact_inverse() -> None:
    found, values = jacobi_metrics(update, Z), invert_causal(update, Z).values
    slopes = jax.vmap(jax.jacobian(update, 1))(Z, values)
    norms = np.linalg.norm(np.asarray(slopes), 2, axis=(1, 2))
    np.testing.assert_allclose(found.convergence.value, np.mean(norms), rtol=1e-4)
    np.testing.assert_allclose(found.convergence.stderr, np.std(norms, ddof=1) / len(Z) ** 0.5, rtol=1e-2)
    for metric, start in ((found.from_noise, Z), (found.from_zero, jnp.zeros_like(Z))):
        apart = np.sqrt(np.mean((jax.vmap(update)(Z, start) - values) ** 2, axis=1))
        np.testing.assert_allclose(metric.value, np.mean(apart), rtol=1e-10)
    weak = jacobi_metrics(functools.partial(update, weight=0.01), Z)
    assert weak.convergence.value < 0.1 * found.convergence.value


UNCAUSAL = {
    "itself": lambda z, x: z + 1e-6 * x,
    "later ones": lambda z, x: z + jnp.sum(x) - jnp.cumsum(x),
    "the last alone": lambda z, x: z.at[3].add(x[-1]),
    "all, in reverse order": lambda z, x: update(z[::-1], x[::-1])[::-1],
}


@pytest.mark.parametrize("name", UNCAUSAL)
def test_a_map_that_is_not_causal_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="update must be causal"):
        invert_causal(UNCAUSAL[name], Z)


def test_bad_input_is_refused() -> None:
    with pytest.raises(TypeError, match=r"update must be a function of the noise and x, .* 2 in all"):
        invert_causal(lambda x: x, Z)
    with pytest.raises(TypeError, match="update must return float64"):
        invert_causal(lambda z, x: z[:-1], Z)
    with pytest.raises(ValueError, match="noise must be real numbers, one sequence of positions a row"):
        invert_causal(update, Z[0])
    with pytest.raises(ValueError, match="start must be of the shape"):
        invert_causal(update, Z, start=Z[:, :3])
    with pytest.raises(ValueError, match="tolerance must not be negative"):
        invert_causal(update, Z, tolerance=-1.0)
    with pytest.raises(ValueError, match="segment must be a positive integer"):
        invert_causal(update, Z, segment=0)
