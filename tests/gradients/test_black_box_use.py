"""Black boxes in use: what must not change an answer, any arguments, and errors in the user's words."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from gradients.sampled_checks import far
from jax import Array

import variate as vt
from variate.gradients import SPSA, EvolutionStrategies, Perturbation, black_box

AT = jnp.array([0.7, -0.4, 0.3])
METHODS = [SPSA, EvolutionStrategies]


def noisy(key: Array, t: Array) -> Array:
    k1, k2 = jax.random.split(key)
    z = vt.draw(k1, dist.Normal(t[0], 0.5))
    return z**2 * t[1] ** 2 + t[2] ** 3 + 10 * jax.random.normal(k2)


def assert_near(a: Any, b: Any, rtol: float = 1e-9) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("kind", METHODS)
def test_the_key_alone_decides(kind: type, key: Array) -> None:
    seeds = jax.random.key_data(jax.random.split(key, 3))

    def at(seed: Array, block_size: int | None = None) -> Any:
        estimate = black_box(noisy, method=kind(0.1), num_samples=30, block_size=block_size)
        return estimate(jax.random.wrap_key_data(seed), AT)

    first = at(seeds[0])
    assert_near(first, at(seeds[0]), rtol=0)
    assert_near(first, jax.jit(at)(seeds[0]))
    for block_size in (1, 7):
        assert_near(first, at(seeds[0], block_size))
    mapped = jax.jit(jax.vmap(at))(seeds)
    for i in range(3):
        assert_near(jax.tree.map(lambda x, i=i: x[i], mapped), at(seeds[i]))
    assert not np.any(first[1].value == at(seeds[1])[1].value)


@pytest.mark.slow
@pytest.mark.table
@pytest.mark.parametrize("kind", METHODS)
def test_memory_does_not_grow_with_samples(kind: type) -> None:
    at = jnp.ones(100_000)

    @functools.cache
    def needed(num_samples: int, block_size: int | None) -> int:
        f = lambda key, t: jnp.sum(t**2)  # noqa: E731
        estimate = jax.jit(black_box(f, method=kind(0.1), num_samples=num_samples, block_size=block_size))
        memory = estimate.lower(jax.random.key(0), at).compile().memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes

    for block_size in (1, None):
        assert needed(64, block_size) == needed(4096, block_size)
    assert needed(4096, 1) < 12 * at.nbytes
    assert needed(4096, None) < 128 * 2**20


class Model(eqx.Module):
    weights: dict[str, Array]
    offset: float
    activation: Callable[[Array], Array]
    flag: bool

    def __call__(self, x: Array) -> Array:
        total = jnp.sum(self.activation(self.weights["w"] @ x))
        return total + self.offset if self.flag else total


def test_trees_and_modules(key: Array) -> None:
    """Linear in every number, so the gradient by JAX is the truth, and its structure too."""
    model = Model({"w": jnp.array([[0.3, -0.2]])}, 0.5, lambda x: 2.0 * x, True)

    def f(key: Array, model: Model, x: Array, pair: tuple[Array, Array]) -> Array:
        return model(x) + 3 * pair[0] - jnp.sum(pair[1]) + 0 * jax.random.normal(key)

    x, pair = jnp.array([1.0, -2.0]), (jnp.array(0.2), jnp.ones(3))
    value, gradient = black_box(f, (3, 1), method=SPSA(0.1), num_samples=4_000)(key, model, x, pair)
    of_pair, of_model = gradient.value
    assert jax.tree.structure(of_pair) == jax.tree.structure(pair)
    assert jax.tree.structure(of_model) == jax.tree.structure(eqx.filter(model, eqx.is_inexact_array_like))
    assert not far(gradient, np.array([3.0, -1.0, -1.0, -1.0, 2.0, -4.0, 1.0]))
    assert isinstance(black_box(f, (1,), method=SPSA(0.1))(jax.random.clone(key), model, x, pair)[1].value, tuple)
    assert value.biased
    assert gradient.biased
    assert "biased" in str(gradient)


def test_functions_that_are_objects_and_estimates(key: Array) -> None:
    """The numbers of the function itself are not moved, and an estimate counts as its value."""
    model = Model({"w": jnp.ones((1, 2))}, 0.0, lambda x: x, True)
    keyed = vt.expect(lambda key, x: model(x) + jax.random.normal(key), num_samples=4)
    _, gradient = black_box(keyed, method=SPSA(0.1), num_samples=2_000)(key, AT[:2])
    assert not far(gradient, np.ones(2))


@pytest.mark.parametrize("kind", METHODS)
def test_scales_change_without_compiling(kind: type, key: Array) -> None:
    traced = []

    def f(key: Array, t: Array) -> Array:
        traced.append(t)
        return jnp.sum(t**3)

    found = [black_box(f, method=kind(scale))(jax.random.clone(key), AT)[1] for scale in (0.1, 0.2)]
    times = len(traced)
    found.append(black_box(f, method=kind(0.4))(jax.random.clone(key), AT)[1])
    assert len(traced) == times
    assert len({float(each.value[0]) for each in found}) == 3
    under_jit = jax.jit(lambda scale, key: black_box(f, method=kind(scale))(key, AT)[1])(
        jnp.float32(0.5), jax.random.clone(key)
    )
    assert_near(black_box(f, method=kind(0.5))(key, AT)[1], under_jit)


def test_any_loop_runs(key: Array) -> None:
    """No gradient rule passes a `while_loop` of random length in which arguments go round."""

    def walk(key: Array, t: Array) -> Array:
        def step(state: tuple) -> tuple:
            key, place, steps = state
            key, one = jax.random.split(key)
            return key, place + jax.random.exponential(one) / t, steps + 1

        return jax.lax.while_loop(lambda state: state[1] < 1, step, (key, jnp.zeros(()), 0))[2]

    # The number of steps is one more than a Poisson variable of mean t.
    value, gradient = black_box(walk, method=SPSA(0.5), num_samples=20_000, block_size=2_000)(key, 2.0)
    assert not far(value, np.array([3.0]))
    assert not far(gradient, np.array([1.0]))


def test_narrow_floats(key: Array) -> None:
    with jax.enable_x64(False):
        for dtype, scale in ((jnp.float32, 0.01), (jnp.bfloat16, 0.25)):
            at = jnp.asarray(np.asarray(AT), dtype)
            value, gradient = black_box(lambda key, t: jnp.sum(2 * t), method=SPSA(scale))(jax.random.clone(key), at)
            for leaf in (value.value, value.stderr, gradient.value, gradient.stderr):
                assert leaf.dtype == jnp.float32
            assert not far(gradient, np.full(3, 2.0))


def test_an_error_bar_knows_of_rounding(key: Array) -> None:
    """One parameter has one slope, whose samples do not differ, however wrong they are."""
    with jax.enable_x64(False):
        _, gradient = black_box(lambda key, t: 1e4 + jnp.sin(t), method=SPSA(0.01), num_samples=100)(key, 0.3)
        error = abs(float(gradient.value) - np.cos(0.3))
        assert 1e-3 < error < 3 * float(gradient.stderr)


# As it is called where no type checker speaks first.
unchecked = inspect.unwrap(black_box)


def test_bad_options() -> None:
    for number in (0, -3, 1.5, "ten", True):
        for option in ("num_samples", "block_size"):
            with pytest.raises((ValueError, TypeError), match=f"{option} must be a positive integer"):
                unchecked(noisy, method=SPSA(0.1), **{option: number})
    for argnums in (0, -1, (1, 0), True, "t"):
        with pytest.raises(ValueError, match="argnums must be positions from 1 on"):
            unchecked(noisy, argnums, method=SPSA(0.1))
    for method in (SPSA, "spsa", None, 0.1):
        with pytest.raises(
            TypeError, match=r"method must be a perturbation, vt\.gradients\.SPSA\(scale=0\.01\) say, got"
        ):
            unchecked(noisy, method=method)
    with pytest.raises(TypeError, match="f must be a function"):
        unchecked(3, method=SPSA(0.1))


@pytest.mark.parametrize("kind", METHODS)
def test_bad_scales(kind: type) -> None:
    for scale in (0.0, -0.1, float("nan"), float("inf"), 0):
        with pytest.raises(ValueError, match=r"scale must be a positive number, got"):
            kind(scale)
    for other in ("small", None, jnp.ones(2)):
        with pytest.raises(TypeError, match=r"scale must be a positive number, got"):
            kind(other)
    with pytest.raises(TypeError, match=r"scale must be a positive number, got float64\[2\]"):
        jax.eval_shape(kind, jnp.ones(2))


def test_bad_arguments(key: Array) -> None:
    estimate = black_box(noisy, method=SPSA(0.1))
    with pytest.raises(TypeError, match="the first argument must be the key, got float64"):
        estimate(AT, key)
    with pytest.raises(ValueError, match="key must be one key, got a batch"):
        estimate(jax.random.split(jax.random.clone(key)), AT)
    with pytest.raises(TypeError, match="cannot be called with"):
        estimate(key)
    with pytest.raises(TypeError, match=r"argnums: argument 1 must be real to be differentiated, got int64\[3\]"):
        estimate(key, jnp.arange(3))
    with pytest.raises(ValueError, match="there is no argument 2"):
        black_box(noisy, 2, method=SPSA(0.1))(key, AT)
    with pytest.raises(TypeError, match="holds no array to differentiate"):
        estimate(key, None)


RESULTS: dict[str, tuple[Callable[..., Any], str]] = {
    "a vector": (lambda key, t: t, r"got float64\[3\]"),
    "a tree": (lambda key, t: {"a": t[0]}, "got an object of type dict"),
    "a complex number": (lambda key, t: t[0].astype(complex), r"got complex128\[\]"),
    "nothing": (lambda key, t: None, "got None"),
    "a string": (lambda key, t: "gain", "got 'gain'"),
    "a key": (lambda key, t: key, r"got key<fry>\[\]"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_bad_results(name: str, key: Array) -> None:
    f, got = RESULTS[name]
    with pytest.raises(TypeError, match=f"must return one real number, {got}"):
        black_box(f, method=SPSA(0.1))(key, AT)


def test_a_scale_that_rounding_swallows(key: Array) -> None:
    estimate = black_box(lambda key, t: jnp.sum(t), method=SPSA(1e-3), num_samples=8)
    at = jnp.array([1.0, 1e15])
    with pytest.raises(ValueError, match=r"scale must be larger than the rounding of what it perturbs, got 0\.001"):
        estimate(jax.random.clone(key), at)
    assert not jax.jit(estimate)(key, at)[1].converged


def test_parameters_out_of_range(key: Array) -> None:
    """Where they were perturbed: 0.05 is in range, and NumPyro draws from Normal(0, -0.05) without a word."""

    def f(key: Array, t: Array) -> Array:
        return vt.draw(key, dist.Normal(0.0, t), name="z")

    with pytest.raises(ValueError, match=r"'z'.*out of range.* in 10 of its draws"):
        black_box(f, method=SPSA(0.1), num_samples=10, block_size=4)(key, 0.05)


def test_samples_that_are_not_finite_are_counted(key: Array) -> None:
    def f(key: Array, t: Array) -> Array:
        return jnp.log(jax.random.normal(key) + t)

    for estimate in black_box(f, method=SPSA(0.1), num_samples=64)(key, 0.0):
        assert 0 < int(estimate.nonfinite) < 64
        assert not bool(estimate.converged)


def test_it_is_not_differentiated_further(key: Array) -> None:
    estimate = black_box(lambda key, t: t**2, method=SPSA(0.1))
    for n in (0, 1):
        at = lambda t, n=n: estimate(jax.random.clone(key), t)[n].value  # noqa: E731
        with pytest.raises(TypeError, match="black_box only evaluates its function"):
            jax.grad(at)(0.3)
        with pytest.raises(TypeError, match="black_box only evaluates its function"):
            jax.jvp(at, (0.3,), (1.0,))


def test_one_sample_has_no_error_bar(key: Array) -> None:
    for estimate in black_box(lambda key, t: t**2, method=SPSA(0.1), num_samples=1)(key, 0.3):
        assert estimate.stderr is None


@pytest.mark.parametrize("kind", METHODS)
def test_methods_fulfil_the_protocol(kind: type) -> None:
    assert isinstance(kind(0.1), Perturbation)
