"""Draws that are integrated out: what is left is exact where nothing else is drawn, and never has more variance."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from gradients.finite_programs import PROGRAMS
from jax import Array
from jax.random import clone, split

import variate as vt
from variate.estimates import Antithetic, Conditional, LatinHypercube, Sobol
from variate.programs.staging import stage

MOST = 4_096


def whole(name: str) -> bool:
    """Whether all draws of a program are outside of loops."""
    case = PROGRAMS[name]
    arrays, rest = eqx.partition(case.args, eqx.is_array)
    program, _ = stage(lambda key, arrays: case.program(key, *eqx.combine(arrays, rest)), jax.random.key(0), arrays)
    return not any(site.loops for site in program.sites)


@pytest.mark.wide
@pytest.mark.parametrize("name", [name for name in PROGRAMS if whole(name)])
def test_finite_programs_are_exact(name: str, key: Array) -> None:
    case = PROGRAMS[name]
    found = vt.expect(case.program, method=Conditional(MOST), num_samples=2)(key, *case.args)
    truth = jax.tree.leaves(case.expectation(*case.args))
    for value, error, exact in zip(jax.tree.leaves(found.value), jax.tree.leaves(found.stderr), truth, strict=True):
        np.testing.assert_allclose(value, exact, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(error, 0)


def mixed(key: Array, t: Array) -> dict[str, Array]:
    """Of a normal that has to be drawn; a coin, dice and noise have not."""
    a, b, c, d = split(key, 4)
    z = vt.draw(a, dist.Normal(t, 1.0), name="z")
    coin = vt.draw(b, dist.Bernoulli(logits=z), name="coin")
    dice = vt.draw(c, dist.Categorical(logits=jnp.stack([0.0 * z, z, t])).expand((2,)), name="dice")
    noise = vt.draw(d, dist.Gamma(2.0 + jnp.sum(dice).astype(float), 1.0), name="noise")
    return {"paid": jnp.where(coin == 1, z**2, 0.0) * noise, "dice": jnp.prod(dice).astype(float)}


def rest(key: Array, t: Array) -> dict[str, Array]:
    """The conditional expectation of `mixed` given z, by hand."""
    z = vt.draw(split(key, 4)[0], dist.Normal(t, 1.0), name="z")
    p = jax.nn.softmax(jnp.stack([0.0 * z, z, t]))
    one = p @ jnp.arange(3.0)
    return {"paid": jax.nn.sigmoid(z) * z**2 * (2 + 2 * one), "dice": one**2}


@pytest.mark.wide
@pytest.mark.parametrize("method", [None, Antithetic(), Sobol(), LatinHypercube(4)], ids=lambda m: type(m).__name__)
def test_it_is_the_conditional_expectation_by_hand(method: Any, key: Array) -> None:
    design = () if method is None else (method,)
    found = vt.expect(mixed, method=(*design, Conditional()), num_samples=256)(clone(key), 0.3)
    wanted = vt.expect(rest, method=design, num_samples=256)(key, 0.3)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
    assert found.method == " and ".join([*(type(one).__name__ for one in design), "Conditional"])


def test_the_limit_is_kept(key: Array) -> None:
    def values(limit: int) -> dict[int, tuple[int, ...]]:
        program, _ = stage(mixed, key, 0.3)
        return {index: array.shape for index, array in Conditional(limit).integrated(program).values.items()}

    assert values(18) == {1: (18,), 2: (18, 2)}
    assert values(17) == {1: (2,)}
    assert values(1) == {}


def test_noise_in_loops_and_lanes_is_replaced_by_its_mean(key: Array) -> None:
    def f(key: Array) -> Array:
        def step(total: Array, key: Array) -> tuple[Array, None]:
            a, b = split(key)
            z = vt.draw(a, dist.Normal(0.0, 1.0))
            return total + jnp.exp(z) * vt.draw(b, dist.Exponential(jnp.exp(-z))), None

        def lane(key: Array) -> Array:
            return jax.lax.scan(step, 0.0, split(key, 3))[0]

        return jnp.sum(jax.vmap(lane)(split(key, 2)))

    def by_hand(key: Array) -> Array:
        keys = jax.vmap(lambda key: jax.vmap(lambda key: split(key)[0])(split(key, 3)))(split(key, 2))
        return jnp.sum(jax.vmap(jax.vmap(lambda key: jnp.exp(2 * vt.draw(key, dist.Normal(0.0, 1.0)))))(keys))

    found = vt.expect(f, method=Conditional(), num_samples=64)(clone(key))
    np.testing.assert_allclose(found.value, vt.expect(by_hand, num_samples=64)(key).value, rtol=1e-12)


def test_values_without_probability_may_be_anything(key: Array) -> None:
    def f(key: Array) -> Array:
        b = vt.draw(key, dist.Bernoulli(probs=jnp.array(1.0)))
        return jnp.log(b.astype(float)) + 2

    assert float(vt.expect(f, method=Conditional(), num_samples=8)(key).value) == 2


def one_key(key: Array) -> Array:
    return vt.draw(key, dist.Bernoulli(0.3)) + vt.draw(key, dist.Bernoulli(0.3))


@pytest.mark.parametrize(
    ("f", "method", "words"),
    [
        (lambda key: vt.draw(key, dist.Normal(0.0, 1.0), name="z") ** 2, Conditional(), r"of the draws \['z'\] none"),
        (lambda key: vt.draw(key, dist.Bernoulli(0.5).expand((7,))).sum(), Conditional(), "nothing to integrate out"),
        (lambda key: vt.draw(key, dist.ProjectedNormal(jnp.ones(2))), Conditional(), "nothing to integrate out"),
        (one_key, Conditional(), "nothing to integrate out"),
        (lambda key: jax.random.normal(key), Conditional(), r"of the draws \[\] none"),
        (one_key, (Conditional(), Conditional(2)), "do not go together"),
        (lambda key: vt.draw(key, dist.Bernoulli(0.5)), (Conditional(), Sobol()), "no draw to serve .* integrated out"),
    ],
)
def test_what_it_cannot_serve_is_said(f: Callable, method: Any, words: str, key: Array) -> None:
    with jax.debug_key_reuse(False), pytest.raises(ValueError, match=words):
        vt.expect(f, method=method)(key)


def test_a_wrong_limit_is_named() -> None:
    with pytest.raises(ValueError, match="limit must be a positive integer"):
        Conditional(0)
