"""Sums of integers that become reals are, to the last bit, sums of reals, wherever nothing overflows or is rounded."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array, lax
from jax.random import split

import variate as vt
from variate.gradients import NoBaseline, Score
from variate.programs import draw, integers
from variate.programs.accumulation import accumulated
from variate.programs.integers import real_sums
from variate.programs.interpretation import evaluate
from variate.programs.program import Program
from variate.programs.staging import stage
from variate.programs.validity import Counting


def coins(key: Array, t: Array | float = 0.0) -> Array:
    return draw(key, dist.Bernoulli(logits=t * jnp.ones((3, 4)))).astype(int)


def counted(key: Array) -> Array:
    step = lambda total, k: (total + 2 * draw(k, dist.Bernoulli(probs=0.4)).astype(int) - 1, None)  # noqa: E731
    return lax.scan(step, jnp.zeros((), int), split(key, 6))[0]


def digits(key: Array) -> Array:
    return draw(key, dist.Categorical(logits=jnp.zeros((3, 4, 5)))).astype(int)


# Integers of a key, and whether what becomes real is a sum of reals.
PROGRAMS: dict[str, tuple[Callable[[Array], Array], bool]] = {
    "a sum": (lambda key: jnp.sum(coins(key)), True),
    "along an axis": (lambda key: jnp.sum(digits(key), axis=1), True),
    "weighted": (lambda key: jnp.sum(digits(key) * jnp.arange(-6, 6).reshape(3, 4)), True),
    "of squares": (lambda key: jnp.sum((digits(key) - 2) ** 2), True),
    "of booleans": (lambda key: jnp.sum(digits(key) > 1), True),
    "of differences": (lambda key: (lambda d: -jnp.sum(d[1:] - 2 * d[:-1]))(digits(key)), True),
    "chosen": (lambda key: (lambda d: jnp.sum(jnp.where(d > 1, d, -7)))(digits(key)), True),
    "in a scan": (counted, True),
    "that wraps": (lambda key: jnp.sum(coins(key).astype(jnp.int8) * jnp.int8(100), dtype=jnp.int8), False),
    "below zero without a sign": (lambda key: (lambda b: b[0] - b[1])(coins(key).astype(jnp.uint32)), False),
    "unbounded": (lambda key: jnp.sum(draw(key, dist.Poisson(2.0 * jnp.ones(3)))), False),
    "as long as float32 is exact": (lambda key: jnp.sum(coins(key)) * 2**20, True),
    "longer than that": (lambda key: jnp.sum(coins(key)) * (2**21 + 1), False),
    "no sum": (lambda key: coins(key) * 2, False),
}


def made(name: str) -> tuple[Program, Program]:
    plain, _ = stage(lambda key: PROGRAMS[name][0](key).astype(jnp.float32), jax.random.key(0))
    return plain, real_sums(accumulated(plain))


def values(program: Program, seed: int) -> np.ndarray:
    (output,) = program.outputs
    assert isinstance(output, int)
    with jax.debug_key_reuse(False):
        return np.asarray(evaluate(program, [jax.random.key(seed)], Counting())[0][output])


def is_of_reals(program: Program) -> bool:
    (last,) = (op for op in program.operations if program.outputs[0] in op.outputs)
    return last.name != "convert_element_type"


@pytest.mark.wide
@pytest.mark.parametrize("name", PROGRAMS)
def test_sums_of_reals_are_the_same_numbers(name: str) -> None:
    plain, real = made(name)
    assert is_of_reals(real) is PROGRAMS[name][1]
    for seed in range(3):
        before, after = values(plain, seed), values(real, seed)
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("name", ["that wraps", "below zero without a sign"])
def test_overflow_that_is_not_seen_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integers, "_fitting", lambda bounds, dtype: bounds if bounds else (0, 1))
    plain, real = made(name)
    assert any(np.any(values(plain, seed) != values(real, seed)) for seed in range(3))


def test_constants_are_looked_at_inside_compiled_functions(key: Array) -> None:
    weights = jnp.arange(12).reshape(3, 4) - 3

    def program(key: Array, t: Array) -> Array:
        return jnp.sum(coins(key, t) * weights).astype(float)

    (row,) = vt.explain(program, num_samples=2)(key, 0.3).rows
    assert row.reaches.endswith("diagonal")


def test_each_coin_of_a_count_is_charged_with_itself(key: Array) -> None:
    """The gradient of a run is then, by hand, the score of each coin times that coin."""

    def program(key: Array, t: Array) -> tuple[Array, Array]:
        b = vt.draw(key, dist.Bernoulli(logits=t), rule=Score(NoBaseline()))
        return jnp.sum(b).astype(float), b

    at = jnp.linspace(-1, 1, 4)
    (row,) = vt.explain(lambda *args: program(*args)[0], num_samples=1)(key, at).rows
    assert row.reaches.endswith("diagonal")
    gradient, (b,) = vt.grad(program, num_samples=1, has_aux=True)(jax.random.clone(key), at)
    coins = b.astype(float)
    np.testing.assert_allclose(gradient.value, (coins - jax.nn.sigmoid(at)) * coins, rtol=1e-12)
