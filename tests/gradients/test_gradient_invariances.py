"""What must not change a gradient does not change it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import finite_programs, sampled_programs
from jax import Array

import variate as vt
from variate.gradients import NoBaseline, Score

NAMES = ["gate", "mixture by indexing", "25 linked Gaussians in a scan"]


def program(name: str) -> Any:
    return sampled_programs.PROGRAMS[name]


def leaves(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def assert_near(a: Any, b: Any, rtol: float = 1e-9) -> None:
    for x, y in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol)


@pytest.mark.wide
@pytest.mark.parametrize("name", NAMES)
def test_jit_vmap_and_the_key_alone_decide(name: str, key: Array) -> None:
    case = program(name)
    estimate = vt.value_and_grad(case.program, num_samples=6)
    seeds = jax.random.key_data(jax.random.split(key, 3))

    def at(seed: Array) -> Any:
        return estimate(jax.random.wrap_key_data(seed), *case.args)

    first = at(seeds[0])
    assert_near(first, at(seeds[0]), rtol=0)
    assert_near(first, jax.jit(at)(seeds[0]))
    mapped = jax.jit(jax.vmap(at))(seeds)
    for i in range(3):
        assert_near(jax.tree.map(lambda x, i=i: x[i], mapped), at(seeds[i]))


@pytest.mark.parametrize("name", ["smooth", "20 flips in a fori_loop"])
def test_the_size_of_blocks_changes_no_draw(name: str, key: Array) -> None:
    case = program(name)
    seed = jax.random.key_data(key)
    # Leave-one-out is taken within a block, so it is what the size of blocks does change.
    rules = {"b": Score(NoBaseline())} if "flips" in name else None
    found = [
        vt.value_and_grad(case.program, num_samples=12, block_size=size, rules=rules)(
            jax.random.wrap_key_data(seed), *case.args
        )
        for size in (12, 5, 1)
    ]
    assert_near(found[0], found[1])
    assert_near(found[0], found[2])


@pytest.mark.parametrize("name", NAMES)
def test_error_bars_do_not_change_the_gradient(name: str, key: Array) -> None:
    case = program(name)
    seed = jax.random.key_data(key)
    with_bars, without = (
        vt.grad(case.program, num_samples=6, stderr=stderr)(jax.random.wrap_key_data(seed), *case.args)
        for stderr in (True, False)
    )
    assert_near(with_bars.value, without.value)
    assert without.stderr is None
    assert "no error bar" in str(without)


def test_grad_is_the_gradient_of_value_and_grad_with_and_without_an_auxiliary(key: Array) -> None:
    case = program("gate")
    seed = jax.random.key_data(key)

    def auxiliary(key: Array, t: Array) -> tuple[Array, dict]:
        result = case.program(key, t)
        return result, {"result": result, "count": jnp.array(2)}

    def at(transformed: Any) -> Any:
        return transformed(jax.random.wrap_key_data(seed), *case.args)

    value, gradient = at(vt.value_and_grad(case.program, num_samples=5))
    assert_near(gradient, at(vt.grad(case.program, num_samples=5)))
    (same, extra), again = at(vt.value_and_grad(auxiliary, num_samples=5, has_aux=True))
    assert_near((value, gradient), (same, again))
    assert extra["result"].shape == extra["count"].shape == (5,)
    np.testing.assert_allclose(np.mean(extra["result"]), value.value)
    third, extra = at(vt.grad(auxiliary, num_samples=5, has_aux=True))
    assert_near(gradient, third)
    assert extra["count"].dtype == int


def test_a_tuple_of_argnums_gives_a_tuple_of_gradients(key: Array) -> None:
    case = finite_programs.PROGRAMS["a tuple of argnums"]
    seed = jax.random.key_data(key)

    def at(argnums: Any) -> Any:
        return vt.grad(case.program, argnums, num_samples=4)(jax.random.wrap_key_data(seed), *case.args).value

    both = at((3, 1))
    assert isinstance(both, tuple)
    assert len(both) == 2
    assert isinstance(at((1,)), tuple)
    assert not isinstance(at(1), tuple)


@pytest.mark.parametrize("name", NAMES)
def test_single_precision_stays_single(name: str, key: Array) -> None:
    case = program(name)
    with jax.enable_x64(False):
        args = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float32), case.args)
        fresh = lambda key, *args: case.program(key, *args)  # noqa: E731
        value, gradient = vt.value_and_grad(fresh, num_samples=6)(key, *args)
        for leaf in jax.tree.leaves((value.value, value.stderr, gradient.value, gradient.stderr)):
            assert leaf.dtype == jnp.float32
            assert np.all(np.isfinite(leaf))
