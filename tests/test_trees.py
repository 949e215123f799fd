"""What is traced comes apart from what is not, and together again."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from variate import trees

NUMBERS = [1, 2.5, 1j, np.float32(3), np.bool_(True), np.arange(3), jnp.ones(2), jax.random.key(0)]
OTHERS = [True, False, "text", jnp.tanh, (), frozenset({1})]


@pytest.mark.parametrize("leaf", NUMBERS, ids=lambda leaf: type(leaf).__name__)
def test_numbers_are_traced(leaf: Any) -> None:
    numbers, static = trees.split({"a": leaf})
    assert len(numbers) == 1
    assert numbers[0] is leaf
    assert trees.join(numbers, static)["a"] is leaf


@pytest.mark.parametrize("leaf", OTHERS, ids=lambda leaf: type(leaf).__name__)
def test_flags_and_other_objects_are_not(leaf: Any) -> None:
    numbers, static = trees.split([leaf])
    assert numbers == []
    assert trees.join([], static) == [leaf]


leaves = st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.text(), st.none())
nested = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner)
)


@given(nested)
def test_joining_undoes_splitting(tree: Any) -> None:
    assert trees.join(*trees.split(tree)) == tree


@given(nested)
def test_the_static_part_is_hashable_and_does_not_depend_on_the_numbers(tree: Any) -> None:
    numbers, static = trees.split(tree)
    same = trees.split(trees.join([0.5] * len(numbers), static))[1]
    assert static == same
    assert hash(static) == hash(same)


@pytest.mark.parametrize(
    ("a", "b"), [(0, False), (True, False), ([1], (1,)), ({"a": 1}, {"b": 1}), ("x", "y"), (jnp.sin, jnp.cos)]
)
def test_the_static_part_tells_programs_apart(a: Any, b: Any) -> None:
    assert trees.split(a)[1] != trees.split(b)[1]


def test_modules_come_back_with_new_numbers() -> None:
    module = eqx.nn.MLP(2, 1, 3, 1, key=jax.random.key(0))
    numbers, static = trees.split(module)
    doubled = trees.join([2 * x for x in numbers], static)
    assert doubled.activation is module.activation
    np.testing.assert_array_equal(doubled.layers[0].weight, 2 * module.layers[0].weight)


def test_all_of_looks_everywhere() -> None:
    for spoiled in range(4):
        flags = np.arange(4) != spoiled
        assert not trees.all_of({"a": jnp.asarray(flags[:3]), "b": (jnp.asarray(flags[3]),)})
    assert trees.all_of([jnp.ones((2, 2), bool), jnp.asarray(True), jnp.ones(0, bool)])


def test_a_row_is_finite_when_every_leaf_is_finite_there() -> None:
    tree = {
        "a": jnp.asarray([1.0, np.nan, 3.0, 4.0]),
        "b": jnp.ones((4, 2, 1)).at[3, 1, 0].set(-np.inf),
        "c": jnp.ones((4, 0)),
    }
    np.testing.assert_array_equal(trees.finite_rows(tree), [True, False, True, False])
