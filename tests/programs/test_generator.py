"""The generator that compiles along one axis has the bits of JAX's own, whatever is drawn and however it is mapped."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array, random

from variate.programs import distributions, generator

SHAPES = {"one number": (), "a cube": (2, 3, 4)}
DRAWN: dict[str, Callable[[Array, tuple[int, ...]], Array]] = {
    "bits of 8": lambda key, shape: random.bits(key, shape, "uint8"),
    "bits of 32": lambda key, shape: random.bits(key, shape),
    "normal": random.normal,
    "normal, double": lambda key, shape: random.normal(key, shape, jnp.float64),
    "gamma": lambda key, shape: random.gamma(key, 1.3, shape),
    "of a split": lambda key, shape: random.uniform(random.split(key, (2, 3))[1, 2], shape),
    "of a fold": lambda key, shape: random.exponential(random.fold_in(key, 7), shape),
    "permuted": lambda key, shape: random.permutation(key, jnp.arange(24.0).reshape(2, 3, 4)),
}


def mapped(function: Callable[[Array], Array], times: int) -> Callable[[Array], Array]:
    for _ in range(times):
        function = jax.vmap(function)
    return jax.jit(function)


@pytest.mark.wide
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("drawn", DRAWN.values(), ids=DRAWN)
def test_the_numbers_are_those_of_jax(drawn: Callable[..., Array], shape: tuple[int, ...], key: Array) -> None:
    for lanes in ((), (2, 2)):
        keys = random.split(random.clone(key), lanes)
        found = mapped(lambda k: drawn(generator.flat(k), shape), len(lanes))(random.clone(keys))
        told = mapped(lambda k: drawn(k, shape), len(lanes))(keys)
        assert found.dtype == told.dtype
        if jnp.issubdtype(found.dtype, jnp.integer):
            assert jnp.array_equal(found, told)
        else:  # of the same bits, by arithmetic that XLA may round otherwise
            np.testing.assert_allclose(found, told, rtol=8 * float(jnp.finfo(found.dtype).eps))


def axes_of_rounds(pre: Callable[[Array], Array]) -> int:
    """The most axes that a word of threefry has, in what XLA is given."""
    text = mapped(lambda k: random.normal(pre(k), (2, 3, 4)), 2).lower(random.split(random.key(0), (2, 3))).as_text()
    shapes = re.findall(r"stablehlo\.xor.*tensor<([0-9x]*)ui32>", text)
    assert shapes
    return max(shape.count("x") for shape in shapes)


def test_one_axis_is_all_that_is_compiled() -> None:
    assert axes_of_rounds(generator.flat) <= 1
    assert axes_of_rounds(lambda key: key) == 5


def test_other_generators_are_left_alone() -> None:
    for impl in ("rbg", "unsafe_rbg"):
        key = random.key(0, impl=impl)
        assert generator.flat(key) is key
    own = generator.flat(random.key(0))
    assert generator.flat(own) is own
    with jax.threefry_partitionable(False):  # where the numbers of an array depend on its shape
        key = random.key(0)
        assert generator.flat(key) is key


def test_more_numbers_than_words_are_refused() -> None:
    with pytest.raises(ValueError, match="fewer than 2\\^32 numbers at once, got a shape of 8589934592"):
        jax.jit(lambda key: random.bits(generator.flat(key), (2**33,))).lower(random.key(0))


WITH_GAMMAS: dict[str, tuple[Any, bool]] = {
    "gamma": (dist.Gamma(jnp.array([0.4, 2.0]), 1.0), True),
    "beta": (dist.Beta(2.0, 0.5), True),
    "dirichlet": (dist.Dirichlet(jnp.ones(3)), True),
    "student": (dist.StudentT(3.0), True),
    "gammas mixed": (dist.MixtureSameFamily(dist.Categorical(jnp.ones(2) / 2), dist.Gamma(jnp.ones(2), 1.0)), True),
    "normal": (dist.Normal(jnp.zeros(3), 1.0), False),
    "normals mixed": (dist.MixtureSameFamily(dist.Categorical(jnp.ones(2) / 2), dist.Normal(jnp.ones(2), 1.0)), False),
}


@pytest.mark.wide
@pytest.mark.parametrize("law", WITH_GAMMAS)
def test_gammas_are_drawn_at_once_and_all_else_along_one_axis(law: str, key: Array) -> None:
    """JAX draws gammas one after the other unless the generator is its own."""
    d, gammas = WITH_GAMMAS[law]
    staged = str(jax.make_jaxpr(lambda key: distributions.sample(d, key))(random.clone(key)))
    assert ("key<flat>" in staged) != gammas
    assert ("random_gamma" in staged) == gammas
    found = jax.jit(lambda key: distributions.sample(d, key))(random.clone(key))
    np.testing.assert_allclose(found, d.sample(key), rtol=1e-12)


def disagreement() -> bool:
    """Of the rounds that processors make with those that JAX has for accelerators."""
    words = random.bits(random.key(5), (4, 1000), "uint32")
    return any(
        jnp.any(a != b) for a, b in zip(generator._on_processors(*words), generator._elsewhere(*words), strict=True)
    )


def test_rounds_are_those_of_jax_wherever_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not disagreement()
    monkeypatch.setattr(generator, "_ROTATIONS", ((13, 15, 26, 6), (17, 29, 16, 25)))
    assert disagreement()


def times_made(pre: Callable[[Array], Array]) -> int:
    """How often XLA makes the rounds of bits that three results are made of, by their exclusive ors."""

    def program(key: Array) -> tuple[Array, ...]:
        x = random.uniform(pre(key), (1000,))
        return jnp.sum(x), jnp.sort(x), jnp.cumsum(x)

    text = jax.jit(program).lower(random.key(0)).compile().as_text()
    return text.count(" xor(") // 20


def test_bits_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert times_made(generator.flat) == 1
    monkeypatch.setattr(generator, "_once", lambda x: x)
    assert times_made(generator.flat) > 1
