"""What is fixed in a function's result is found, and what only looks so is not."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
import pytest
from jax import lax

from variate.programs import NumPyroModel
from variate.programs.fixed import fixed

X = {"a": jax.ShapeDtypeStruct((3,), float), "b": jax.ShapeDtypeStruct((), float)}


@pytest.mark.parametrize(
    ("f", "places"),
    [
        (lambda x: 3, [(0,)]),
        (lambda x: {"u": jnp.ones(2), "v": 0.0 * x["b"]}, [(0, 1), ()]),  # of infinity it is no zero
        (lambda x: jnp.append(0.0, x["a"]), [(0,)]),
        (lambda x: jnp.zeros(4).at[1].set(x["b"]), [(0, 2, 3)]),
        (lambda x: jnp.where(jnp.arange(3) > 0, x["a"], 2.0), [(0,)]),
        (lambda x: jnp.exp(jnp.tril(x["a"][:, None] * x["a"][None])), [(1, 2, 5)]),
        (lambda x: x["b"] > 99, [()]),  # the rest may be the same in all draws, and is not in all there could be
        (lambda x: jnp.where(x["b"] > 99, 1.0, 0.0), [()]),
        (lambda x: jnp.append(jnp.where(x["b"] > 99, 1.0, 0.0), 1.0), [()]),
        (lambda x: jnp.maximum(x["b"] - 99, 0.0), [()]),
        (lambda x: jnp.floor(x["b"] / 1e9), [()]),
        (lambda x: jnp.sort(jnp.append(x["a"], 1.0)), [()]),
        (lambda x: lax.scan(lambda c, a: (c + a, c), jnp.zeros(()), x["a"])[1], [()]),
    ],
)
def test_what_is_fixed_is_read_from_the_program(f: Callable[[Any], Any], places: list) -> None:
    assert fixed(f, (X,), [(), ()]) == places


def test_what_is_made_of_what_is_fixed_is_fixed() -> None:
    assert fixed(lambda x: x["a"] + 1, (X,), [(0, 2), ()]) == [(0, 2)]
    assert fixed(lambda x: 2 * x["b"], (X,), [(), (0,)]) == [(0,)]
    assert fixed(lambda x: jnp.where(x["a"] > 0, 1.0, 0.0), (X,), [(0, 2), ()]) == [()]


def corner(y: jax.Array) -> None:
    beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    full = numpyro.deterministic("full", jnp.append(0.0, beta))
    numpyro.deterministic("size", jnp.asarray(y.size))
    numpyro.deterministic("big", beta[0] > 99)
    numpyro.sample("y", dist.Categorical(logits=full), obs=y)


def test_deterministic_sites_of_numpyro_are_known_where_they_are_constant() -> None:
    with jax.numpy_dtype_promotion("standard"):
        target = NumPyroModel(corner, jnp.array([0, 1, 2, 1]))
    assert target.constants == {"beta": (), "full": (0,), "size": (0,), "big": ()}
