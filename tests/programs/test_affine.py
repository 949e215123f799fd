"""A draw that is called affine is: replays at three values are on a line, whatever the others are."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array, lax
from jax.random import split

import variate as vt
from variate.programs import replay, simulate
from variate.programs.affine import affine_draws
from variate.programs.staging import stage


def x(key: Array, mean: Any = 0.3, name: str = "x") -> Array:
    return vt.draw(key, dist.Normal(mean, 1.0), name=name)


def two(f: Callable) -> Callable:
    """Of x, y and a pair of uniforms z."""

    def program(key: Array) -> Any:
        a, b, c = split(key, 3)
        z = vt.draw(c, dist.Uniform(0.0, 1.0).expand((2,)), name="z")
        return f(x(a), x(b, 0.7, "y"), z)

    return program


def linked(key: Array) -> Array:
    a, b = split(key)
    return x(b, x(a) ** 2, "y")


def scanned(key: Array) -> Array:
    def step(total: Array, key: Array) -> tuple[Array, Array]:
        a, b = split(key)
        e, y = x(a), x(b, 0.7, "y")
        return total * jnp.cos(y) + 2 * e, total

    return lax.scan(step, 1.0, split(key, 3))[1].sum()


def walk(key: Array) -> Array:
    """What is added to what was added before is multiplied by itself in the end."""
    return lax.scan(lambda total, key: (total + x(key), None), 0.0, split(key, 3))[0] ** 2


def lanes(key: Array) -> Array:
    return jax.vmap(lambda key, w: w * x(key) + jnp.exp(x(jax.random.fold_in(key, 1), 0.7, "y")))(
        split(key, 2), jnp.array([2.0, 3.0])
    ) @ jnp.array([1.0, 2.0])


def branches(key: Array) -> Array:
    a, b = split(key)
    e = x(b, 0.7, "y")
    return lax.cond(x(a) > 0, lambda e: 2 * e, lambda e: 1 - e, e)


CASES: dict[str, tuple[Callable, set[str]]] = {
    "sum": (two(lambda x, y, z: 2 * x - y / 3 + jnp.sum(z) + 1), {"x", "y", "z"}),
    "product": (two(lambda x, y, z: x * y), {"x", "y"}),
    "product of three": (two(lambda x, y, z: x * y * (1 + z)), {"x", "y", "z"}),
    "square": (two(lambda x, y, z: x * x + y), {"y"}),
    "its own elements": (two(lambda x, y, z: z[0] * z[1] * x), {"x"}),
    "matrix": (two(lambda x, y, z: jnp.arange(6.0).reshape(3, 2) @ z * x), {"x", "z"}),
    "quotient": (two(lambda x, y, z: x / (1 + y**2) - z[0] / x), {"z"}),
    "choice": (two(lambda x, y, z: jnp.where(y > 0, x, 2 * z[0])), {"x", "z"}),
    "compared": (two(lambda x, y, z: jnp.where(x > 0, x, y)), {"y"}),
    "index": (two(lambda x, y, z: z[(x > 0).astype(int)] * y), {"y", "z"}),
    "shapes": (two(lambda x, y, z: jnp.concatenate([z[::-1].T, jnp.stack([x, y])])[None].sum(axis=1)), {"x", "y", "z"}),
    "clipped": (two(lambda x, y, z: jnp.clip(x, 0.0, 1.0) + jax.nn.relu(y) + z), {"z"}),
    "several results": (two(lambda x, y, z: {"a": x + y, "b": jnp.exp(x) * z}), {"y", "z"}),
    "integers": (two(lambda x, y, z: jnp.floor(x).astype(int).astype(float) + y + z[0]), {"y", "z"}),
    "unused": (two(lambda x, y, z: y), {"y"}),
    "a parameter": (linked, {"y"}),
    "scan": (scanned, {"x"}),
    "walk": (walk, set()),
    "lanes": (lanes, {"x"}),
    "branches": (branches, {"y"}),
}


@pytest.mark.wide
@pytest.mark.parametrize("name", CASES)
def test_what_is_affine_is_found_and_is_affine(name: str, key: Array) -> None:
    program, expected = CASES[name]
    found, _ = stage(program, key)
    names = {site.index: site.name for site in found.sites}
    assert {names[index] for index in affine_draws(found)} == expected
    with jax.debug_key_reuse(False):
        draws = simulate(program)(key).draws
        for name in expected & draws.keys():
            value = np.asarray(draws[name].value)
            direction = np.random.default_rng(0).normal(size=value.shape)

            def at(t: Array, name: str = name, value: Any = value, direction: Any = direction) -> Array:
                result = replay(program, {name: value + t * direction})(key)
                return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(result)])

            after, here, before = jax.jit(jax.vmap(at))(np.array([1.0, 0.0, -1.0]))
            np.testing.assert_allclose(after - 2 * here + before, 0, atol=1e-12)
