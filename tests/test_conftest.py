"""What conftest.py switches on is on, and the key checker neither sleeps nor cries wolf."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jaxtyping
import pytest
import typechecking
from beartype import beartype
from jax import Array, lax, random
from jaxtyping import Shaped

from variate.checks import check_positive_int


def test_floats_are_64_bits_wide_and_nothing_is_promoted_in_silence() -> None:
    assert jnp.ones(()).dtype == jnp.float64
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones((2, 3)) + jnp.ones(3)
    with pytest.raises(ValueError, match="dtype promotion"):
        jnp.ones(3) + jnp.ones(3, jnp.float32)


@pytest.mark.spared
def test_types_are_checked_when_the_package_runs() -> None:
    assert check_positive_int("n", 3) == 3
    with pytest.raises(jaxtyping.TypeCheckError):
        check_positive_int(3, 3)


@typechecking.jaxtyped(typechecker=beartype)
def first(x: Shaped[Array, " n"], *, y: Shaped[Array, " n"], wrong: bool = False) -> Shaped[Array, " n"]:
    def inner(scale: float, wrong: bool) -> Shaped[Array, " n"]:
        return scale * (x[1:] if wrong else x)

    return inner(2.0, wrong) + 0 * y[:1]


@typechecking.jaxtyped(typechecker=beartype)
@dataclasses.dataclass
class Sized:
    size: int
    name: str | None = None


def test_the_checker_of_types_sees_what_is_wrong_and_nothing_else() -> None:
    two, three = jnp.ones(2), jnp.ones(3)
    assert first(two, y=two).shape == (2,)
    assert first(three, y=three).shape == (3,)  # what a dimension was in one call does not reach the next
    assert (first.__name__, first.__wrapped__.__name__) == ("first", "first")
    for wrong in (lambda: first(2.0, y=two), lambda: first(two, y=three), lambda: first(three, y=three, wrong=True)):
        with pytest.raises(jaxtyping.TypeCheckError, match="first"):
            wrong()
    with pytest.raises(TypeError, match="missing"):
        first(two)
    assert Sized(3).size == Sized(3, "three").size == 3
    for wrong in (lambda: Sized("3"), lambda: Sized(3, name=3)):
        with pytest.raises(jaxtyping.TypeCheckError, match="Sized"):
            wrong()


class Item(NamedTuple):
    nodeid: str
    wide: bool = False

    def get_closest_marker(self, name: str) -> bool:
        return self.wide and name == "wide"


def test_of_each_test_one_case_in_so_many_runs(request: pytest.FixtureRequest) -> None:
    (conftest,) = (plugin for plugin in request.config.pluginmanager.get_plugins() if hasattr(plugin, "some_cases"))
    items = [Item(name) for name in ["alone", "few[a]", "few[b]", *(f"many[{i}]" for i in range(9)), "last"]]
    assert conftest.some_cases(1, items, 0) == items
    chosen = [conftest.some_cases(4, items, seed) for seed in range(4)]
    for kept in chosen:
        assert kept == [item for item in items if item in kept]
        counts = Counter(item.nodeid.partition("[")[0] for item in kept)
        assert counts["many"] in (2, 3)
        assert counts["alone"] == counts["few"] == counts["last"] == 1
    assert {item for kept in chosen for item in kept} == set(items)  # other seeds, other cases: none is never run
    parts = [conftest.one_test_in(3, items, seed) for seed in range(3)]
    assert sorted(item for part in parts for item in part) == sorted(items)  # each once, with all of its cases
    assert sum("many[0]" in {item.nodeid for item in part} for part in parts) == 1
    assert all(Counter(item.nodeid.partition("[")[0] for item in part)["many"] in (0, 9) for part in parts)
    kept = [conftest.in_turn(items, 4, 2, turn) for turn in range(8)]
    assert {item for part in kept for item in part} == set(items)
    table = [Item(f"table[{i}]", wide=True) for i in range(9)]
    assert conftest.some_cases(1, items + table, 0) == items + table
    assert conftest.some_cases(4, items + table, 1) == chosen[1] + conftest.some_cases(4, table, 1)
    nights = [conftest.some_cases(None, items + table, seed) for seed in range(conftest.WIDE)]
    assert all(kept[: len(items)] == items for kept in nights)
    assert sorted(item for kept in nights for item in kept[len(items) :]) == table


def total(key: Array) -> Array:
    return lax.scan(lambda s, k: (s + random.normal(k), None), 0.0, random.split(key, 3))[0]


def backwards(key: Array) -> Array:
    return lax.scan(lambda s, k: (s + random.normal(k), None), 0.0, random.split(key, 3), reverse=True)[0]


def branches(key: Array) -> Array:
    k1, k2 = random.split(key)
    return lax.cond(random.normal(k1) > 0, random.normal, random.uniform, k2)


def until_large(key: Array) -> Array:
    def body(state: tuple[Array, Array]) -> tuple[Array, Array]:
        key, k = random.split(state[0])
        return key, state[1] + jnp.abs(random.normal(k))

    return lax.while_loop(lambda state: state[1] < 2, body, (key, jnp.zeros(())))[1]


def folded(key: Array) -> Array:
    return lax.fori_loop(0, 3, lambda i, s: s + random.normal(random.fold_in(key, i)), 0.0)


def indexed(key: Array) -> Array:
    keys = random.split(key, 3)
    return lax.fori_loop(0, 3, lambda i, s: s + random.normal(keys[i]), 0.0)


def lanes(key: Array) -> Array:
    return jnp.sum(jax.vmap(total)(random.split(key, 3)))


def cloned(key: Array) -> Array:
    return random.normal(random.clone(key)) - random.normal(key)


def twice(key: Array) -> Array:
    return random.normal(key) + random.uniform(key)


def two_scans(key: Array) -> Array:
    keys = random.split(key, 3)
    return sum(lax.scan(lambda s, k: (s + random.normal(k), None), 0.0, keys)[0] for _ in range(2))


def one_of_many_twice(key: Array) -> Array:
    def body(i: Array, s: Array) -> Array:
        key = keys[i]
        return s + random.normal(key) + random.uniform(key)

    keys = random.split(key, 3)
    return lax.fori_loop(0, 3, body, 0.0)


def closed_over(key: Array) -> Array:
    return lax.scan(lambda s, _: (s + random.normal(key), None), 0.0, length=3)[0]


MODES = {
    "eager": lambda f: lambda key: f(random.fold_in(key, 0)),
    "jit": lambda f: lambda key: jax.jit(f)(random.fold_in(key, 0)),
    "vmap": lambda f: lambda key: jax.vmap(f)(random.split(key, 2)),
    "jit of vmap of vmap": lambda f: lambda key: jax.jit(jax.vmap(jax.vmap(f)))(random.split(key, (2, 2))),
}


@pytest.mark.wide
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("program", [total, backwards, branches, until_large, folded, indexed, lanes, cloned])
def test_the_key_checker_lets_right_programs_pass(program: Callable[[Array], Array], mode: str, key: Array) -> None:
    assert jnp.all(jnp.isfinite(MODES[mode](program)(key)))


# Not under an eager vmap, which moves copies of the keys out of the checker's sight; the tests' programs are staged.
@pytest.mark.parametrize("mode", ["eager", "jit", "jit of vmap of vmap"])
@pytest.mark.parametrize("program", [twice, two_scans, one_of_many_twice, closed_over])
def test_the_key_checker_catches_a_key_used_twice(program: Callable[[Array], Array], mode: str, key: Array) -> None:
    with pytest.raises(jax.errors.KeyReuseError):
        MODES[mode](program)(key)
