"""Expectations: the same draws however they are run, in the memory of one block, compiled once."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.random import clone

from variate.estimates import Estimate, Moments, StdErr, expect
from variate.running.base import environment


def program(key: jax.Array, theta: Any) -> dict[str, jax.Array]:
    """A pytree with a quotient by a parameter, which XLA rounds differently when it knows the parameter."""
    z = jax.random.normal(key, (3,), jnp.result_type(theta))
    return {"ratio": jnp.exp(z[0] / theta) + theta * 1.7, "square": z**2}


def draws(key: jax.Array, n: int, theta: float) -> dict[str, np.ndarray]:
    many = jax.vmap(lambda key, i: program(jax.random.fold_in(key, i), theta), (None, 0))
    return jax.tree.map(np.asarray, jax.jit(many)(key, np.arange(n)))


def same_bits(a: Any, b: Any) -> bool:
    return all(
        np.array_equal(x, y, equal_nan=True) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


@pytest.mark.wide
@pytest.mark.parametrize("block_size", [1, 7, 64, 100, 101, 5_000, None])
def test_the_draws_do_not_depend_on_the_block_size(key: jax.Array, block_size: int | None) -> None:
    got, rows = expect(program, num_samples=100, block_size=block_size)(clone(key), 1.3), draws(key, 100, 1.3)
    for name in rows:
        np.testing.assert_allclose(got.value[name], rows[name].mean(0), rtol=1e-12)
        np.testing.assert_allclose(got.stderr[name], rows[name].std(0, ddof=1) / 10, rtol=1e-12)
    assert (got.num_samples, got.nonfinite, got.converged, got.degrees) == (100, 0, True, 99)


def agrees_to_the_bit(keys: jax.Array, **how: Any) -> bool:
    """Whether a key has one answer: run twice, inside another `jit`, and there with the parameter a constant."""
    theta = np.float32(0.3)
    f = lambda key, theta: program(key, theta)  # noqa: E731 (fresh, so that nothing compiled earlier is used again)
    run = expect(f, block_size=64, **how)
    within, constant = jax.jit(run), jax.jit(lambda key: run(key, theta))
    others = (run, within, lambda key, _: constant(key))
    return all(same_bits(run(clone(key), theta), other(clone(key), theta)) for key in keys for other in others)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("num_samples=1_000", id="fixed"),
        pytest.param("until=StdErr(0.5), max_samples=1_100", id="until", marks=[pytest.mark.slow, pytest.mark.table]),
    ],
)
def test_the_answer_is_the_same_bit_for_bit(how: str) -> None:
    """As users compile: a test's options of the compiler are chosen to compile soon, and some have other last bits."""
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_expectation import *
print(agrees_to_the_bit(jax.random.split(jax.random.key(0), 64), {how}))
"""
    env = environment() | {"XLA_FLAGS": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    run = subprocess.run([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, check=True, text=True)
    assert run.stdout == "True\n"


def test_without_barriers_the_last_bit_would_depend_on_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax.lax, "optimization_barrier", lambda x: x)
    assert not agrees_to_the_bit(jax.random.key(3)[None], num_samples=1_792)


def test_works_under_jit_vmap_and_scan(key: jax.Array) -> None:
    run = expect(program, num_samples=50, block_size=16)
    keys, thetas = jax.random.split(key, 3), jnp.asarray([0.5, 1.0, 2.0])
    one_by_one = [run(clone(k), theta).value for k, theta in zip(keys, thetas, strict=True)]
    mapped = jax.vmap(run)(clone(keys), thetas)
    _, scanned = jax.lax.scan(lambda carry, x: (carry, run(*x)), None, (keys, thetas))
    for batch in (mapped, scanned):
        assert batch.num_samples.shape == (3,)
        for i, alone in enumerate(one_by_one):
            jax.tree.map(lambda x, y, i=i: np.testing.assert_allclose(x[i], y, rtol=1e-12), batch.value, alone)


def test_lanes_of_a_vmap_stop_each_for_itself(key: jax.Array) -> None:
    run = expect(lambda key, scale: scale * jax.random.normal(key), until=StdErr(0.1))
    keys, scales = jax.random.split(key, 2), jnp.asarray([0.1, 3.0])
    mapped = jax.vmap(run)(clone(keys), scales)
    alone = [run(keys[i], scales[i]) for i in range(2)]
    assert list(mapped.num_samples) == [estimate.num_samples for estimate in alone]
    assert mapped.num_samples[0] < mapped.num_samples[1]
    np.testing.assert_allclose(mapped.value, [estimate.value for estimate in alone], rtol=1e-12)


def test_a_program_may_close_over_what_is_traced(key: jax.Array) -> None:
    def value(theta: jax.Array) -> jax.Array:
        return expect(lambda key: theta + jax.random.normal(key), num_samples=10)(clone(key)).value

    np.testing.assert_allclose(np.diff(jax.jit(jax.vmap(value))(jnp.asarray([0.0, 1.0, 3.0]))), [1, 2], rtol=1e-12)


def test_the_default_is_about_a_thousand_samples(key: jax.Array) -> None:
    assert expect(jax.random.normal)(key).num_samples == 1_024


@pytest.mark.parametrize(("num_samples", "runs"), [(3, 3), (16, 16), (20, 32)])
def test_no_more_is_computed_than_the_blocks_need(key: jax.Array, num_samples: int, runs: int) -> None:
    seen = []

    def counted(key: jax.Array) -> jax.Array:
        x = jax.random.normal(key)
        jax.debug.callback(lambda x: seen.append(x), x)
        return x

    jax.block_until_ready(expect(counted, num_samples=num_samples, block_size=16)(key))
    jax.effects_barrier()
    assert len(seen) == runs


def test_memory_is_that_of_one_block(key: jax.Array) -> None:
    def temporaries(num_samples: int, block_size: int) -> int:
        run = expect(lambda key: jax.random.normal(key, (100,)), num_samples=num_samples, block_size=block_size)
        return jax.jit(run).lower(key).compile().memory_analysis().temp_size_in_bytes

    assert temporaries(100_000, 100) <= 1.01 * temporaries(1_000, 100)
    assert temporaries(1_000, 1_000) > 5 * temporaries(1_000, 100)


class Traces:
    """A program that counts how often it is traced, in a list: an object of other numbers would be another program."""

    def __init__(self, f: Callable) -> None:
        self.f, self.traced = f, []

    @property
    def count(self) -> int:
        return len(self.traced)

    def __call__(self, key: jax.Array, *args: Any) -> Any:
        self.traced.append(key)
        return self.f(key, *args)


def test_compiles_once_for_a_structure(key: jax.Array) -> None:
    traces = Traces(lambda key, a, flag: jax.random.normal(key) * a["x"] if flag else 1.0)
    run = expect(traces, num_samples=10)
    run(clone(key), {"x": 1.0}, True)
    once = traces.count
    run(clone(key), {"x": 2.0}, True)
    expect(traces, num_samples=10)(clone(key), {"x": 3.0}, True)  # another wrapper of the same function
    assert traces.count == once
    assert run(clone(key), {"x": 2.0}, False).value == 1.0  # booleans are flags, and may steer Python
    assert traces.count == 2 * once


class Net(eqx.Module):
    layer: eqx.nn.MLP
    dropout: eqx.nn.Dropout
    activation: Callable = jnp.tanh

    def __call__(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return self.activation(self.layer(self.dropout(x, key=key)))[0]


def test_arguments_and_programs_may_be_equinox_modules(key: jax.Array) -> None:
    net = Net(eqx.filter_jit(eqx.nn.MLP)(2, 1, 4, 1, key=jax.random.key(1)), eqx.nn.Dropout(0.5))
    by_argument = expect(lambda key, net, x: net(key, x), num_samples=200)(clone(key), net, jnp.ones(2))
    by_itself = expect(net, num_samples=200)(clone(key), jnp.ones(2))
    outcomes = np.array([[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 2.0]])
    truth = np.mean(np.tanh(jax.jit(jax.vmap(net.layer))(outcomes)))
    assert same_bits(by_argument, by_itself)
    assert abs(by_itself.value - truth) < 4.9 * by_itself.stderr  # z-test, α = 1e-6
    steady = eqx.tree_at(lambda net: net.dropout.inference, net, True)
    assert expect(steady, num_samples=5)(clone(key), jnp.ones(2)).stderr == 0


@pytest.mark.wide
@pytest.mark.parametrize(
    ("result", "mean", "dtype"),
    [
        (lambda z: z > 0, 0.5, np.float64),
        (lambda z: jnp.where(z > 0, 3, 1), 2.0, np.float64),
        (lambda z: (z > 0).astype(jnp.float16), 0.5, np.float32),
        (lambda z: (z > 0).astype(jnp.bfloat16), 0.5, np.float32),
        (lambda z: z.astype(jnp.float32), 0.0, np.float32),
    ],
)
def test_results_are_averaged_as_floats(key: jax.Array, result: Callable, mean: float, dtype: Any) -> None:
    got = expect(lambda key: result(jax.random.normal(key)), num_samples=4_000)(key)
    assert got.value.dtype == got.stderr.dtype == dtype
    assert abs(got.value - mean) < 4.9 * got.stderr  # z-test, α = 1e-6


def test_constants_have_no_error(key: jax.Array) -> None:
    got = expect(lambda key: {"one": 1, "true": True, "half": 0.5}, num_samples=3)(key)
    assert got.value == {"one": 1.0, "true": 1.0, "half": 0.5}
    assert got.stderr == {"one": 0.0, "true": 0.0, "half": 0.0}


def log_of_a_coin(key: jax.Array) -> jax.Array:
    return jnp.log(jax.random.bernoulli(key, 0.9).astype(float))


def test_what_is_not_finite_is_counted_and_said(key: jax.Array) -> None:
    got = expect(lambda key: (log_of_a_coin(key), 1.0), num_samples=300, block_size=64)(clone(key))
    coins = jax.jit(jax.vmap(lambda key, i: log_of_a_coin(jax.random.fold_in(key, i)), (None, 0)))(key, np.arange(300))
    zeros = np.sum(np.isneginf(coins))
    assert got.nonfinite == zeros > 0
    assert not got.converged
    assert jnp.isneginf(got.value[0])
    notes = f"no two draws differ in 1 of 2, not converged, {zeros} of 300 draws not finite"
    assert str(got) == f"(-inf ± nan, 1 ± 0) (n=300, {notes})"


def test_sampling_ends_with_the_first_block_that_cannot_be_mended(key: jax.Array) -> None:
    got = expect(log_of_a_coin, until=StdErr(1e-3), block_size=500)(key)
    assert (got.num_samples, got.converged) == (500, False)


@pytest.mark.parametrize("block_size", [64, 1_000])
def test_a_spent_budget_returns_what_it_bought(key: jax.Array, block_size: int) -> None:
    run = expect(jax.random.normal, until=StdErr(1e-6), max_samples=1_500, block_size=block_size)
    got, fixed = run(clone(key)), expect(jax.random.normal, num_samples=1_500)(clone(key))
    assert (got.num_samples, got.converged) == (1_500, False)
    np.testing.assert_allclose(got.value, fixed.value, rtol=1e-12)
    assert got.stderr > fixed.stderr
    assert "n=1500, not converged" in str(got)


def test_stops_at_the_first_look_that_is_good_enough(key: jax.Array) -> None:
    rule = StdErr(0.04)
    got = expect(jax.random.normal, until=rule, block_size=100)(clone(key))

    @jax.jit
    def looks(key: jax.Array) -> Estimate:
        rows = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i)))(jnp.arange(4_000))
        return jax.vmap(lambda n: rule.assess(Moments.of_rows(rows, n).read()))(jnp.arange(100, 4_000, 100))

    found = looks(key)
    first = jax.tree.map(lambda leaf: leaf[np.argmax(found.converged)], found)
    assert first.converged
    assert got.converged
    assert got.num_samples == first.num_samples > 1_000
    assert got.stderr <= 0.04
    np.testing.assert_allclose(got.stderr, first.stderr, rtol=1e-12)


@dataclasses.dataclass(frozen=True)
class AtLeast:
    """A user's own rule."""

    num_samples: int

    def assess(self, estimate: Estimate) -> Estimate:
        return dataclasses.replace(estimate, converged=estimate.num_samples >= self.num_samples)


def test_any_rule_will_do(key: jax.Array) -> None:
    assert expect(jax.random.normal, until=AtLeast(700), block_size=100)(key).num_samples == 700
