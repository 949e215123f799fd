"""Dataflow: what a draw reaches, and where a derivative is lost, on programs whose answers are plain."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest

from variate.programs import continuity, draw
from variate.programs.dataflow import ARGUMENT, Analysis, Flow, bit
from variate.programs.interpretation import evaluate
from variate.programs.keys import shared_keys
from variate.programs.staging import stage
from variate.programs.terms import Terms
from variate.programs.validity import Counting


def normal(key: jax.Array, mean: Any = 0.0) -> jax.Array:
    return draw(key, dist.Normal(mean, 1.0))


def coin(key: jax.Array, logit: Any = 0.0) -> jax.Array:
    return draw(key, dist.Bernoulli(logits=logit)).astype(float)


def analysed(f: Callable, order: int = 1) -> Analysis:
    program, _ = stage(f, jax.random.key(0), 0.3)
    return Analysis(program, [Flow(), Flow(tangent=ARGUMENT)], order)


SMOOTH: dict[str, Callable] = {
    "square": lambda z: z**2,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "celu": jax.nn.celu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "log_sigmoid": jax.nn.log_sigmoid,
    "hard_tanh": jax.nn.hard_tanh,
    "logsumexp": lambda z: jax.nn.logsumexp(jnp.stack([z, 2 * z])),
    "softmax": lambda z: jax.nn.softmax(jnp.stack([z, 2 * z]))[0],
    "clip": lambda z: jnp.clip(z, -1.0, 1.0),
    "abs": jnp.abs,
    "sort": lambda z: jnp.sort(jnp.stack([z, -z]))[0],
    "two pieces that meet": lambda z: jnp.where(z > 1.0, 2 * z - 1, z**2),
    "in a scan": lambda z: jax.lax.scan(lambda c, _: (jnp.tanh(c), None), z, None, length=3)[0],
    "in a cond on a constant": lambda z: jax.lax.cond(jnp.asarray(True), jnp.sin, jnp.cos, z),
    "solve with a fixed matrix": lambda z: jnp.linalg.solve(2 * jnp.eye(2), z * jnp.ones(2))[0],
    "solve with a definite matrix": lambda z: jax.scipy.linalg.solve(
        jnp.eye(2) * (2 + z**2), jnp.ones(2), assume_a="pos"
    )[0],
    "eigenvalues": lambda z: jnp.linalg.eigvalsh(_matrix(z) + _matrix(z).T)[0],
    "singular values": lambda z: jnp.linalg.svd(_matrix(z))[1][0],
    "over what is positive": lambda z: z / (1 + z**2) + 1 / jax.nn.softplus(z) + z / (1e-3 + jax.nn.relu(z)),
    "over a draw that is positive": lambda z: z / draw(jax.random.key(1), dist.Gamma(jnp.exp(z), 1.0)),
    "standardised": lambda z: jax.nn.standardize(jnp.stack([z, 2 * z, z**2]))[0],
    "over a norm": lambda z: z / jnp.linalg.norm(jnp.stack([z, z + 1, z**2])),
    "over a scaled Cholesky factor": lambda z: dist.MultivariateNormal(
        jnp.zeros(2), scale_tril=jnp.exp(z) * jnp.eye(2)
    ).log_prob(jnp.ones(2)),
    "checkpointed": jax.checkpoint(jnp.sin),
}
BROKEN: dict[str, Callable] = {
    "comparison": lambda z: jnp.where(z > 0, 1.0, 0.0),
    "two pieces apart": lambda z: jnp.where(z > 1.0, 2 * z, z**2),
    "floor": jnp.floor,
    "round": jnp.round,
    "sign": jnp.sign,
    "integer cast": lambda z: z.astype(int).astype(float),
    "argmax": lambda z: jnp.argmax(jnp.stack([z, -z])).astype(float),
    "branch": lambda z: jax.lax.cond(z > 0, lambda: 1.0, lambda: 0.0),
    "switch": lambda z: jax.lax.switch(jnp.clip(z.astype(int), 0, 1), [lambda: 1.0, lambda: 2.0]),
    "while": lambda z: jax.lax.while_loop(lambda c: c < 3, lambda c: c + 1, z),
    "carried by a scan": lambda z: jax.lax.scan(lambda c, _: (jnp.floor(c), None), z, None, length=3)[0],
    "on the second round": lambda z: jax.lax.fori_loop(0, 3, lambda i, c: (c[1], jnp.sign(c[0])), (z, z))[0],
    "one comparison for equals and for others": lambda z: _twice(z > 0, z),
    "mod": lambda z: jnp.mod(z, 1.0),
    "straight-through": lambda z: _straight(z),
    "carried along by a sort": lambda z: jax.lax.sort((jnp.stack([z, -z]), jnp.array([1.0, 3.0])), num_keys=1)[1][0],
    "eigenvectors": lambda z: jnp.linalg.eigh(_matrix(z) + _matrix(z).T)[1][0, 0],
    "singular vectors": lambda z: jnp.linalg.svd(_matrix(z))[0][0, 0],
    "pivots": lambda z: jax.scipy.linalg.lu(_matrix(z))[2][0, 0],
    "reflections": lambda z: jnp.linalg.qr(_matrix(z))[1][0, 0],
    "branch cut": lambda z: jnp.imag(jnp.log(jax.lax.complex(z - 1, z))),
    "pole": lambda z: jnp.tanh(1 / z),
    "pole of a power": lambda z: jnp.tanh(z**-3) + jnp.tanh(z**-1.0),
    "sign by division": lambda z: z / jnp.abs(z),
    "sign by a root": lambda z: z * jax.lax.rsqrt(z**2),
    "pole after a sum": lambda z: jnp.tanh(1 / jnp.sum(jnp.stack([jnp.exp(z), -2.0 * jnp.ones(())]))),
    "pole in a scan": lambda z: jax.lax.scan(lambda c, _: (jnp.tanh(1 / c), None), z, None, length=2)[0],
    "singular matrix": lambda z: jnp.linalg.solve(jnp.eye(2) * (2 + z), jnp.ones(2))[0],
    "triangular matrix": lambda z: jax.scipy.linalg.solve_triangular(jnp.eye(2) * z, jnp.ones(2))[0],
}


def _matrix(z: jax.Array) -> jax.Array:
    return jnp.array([[1.0, 2.0], [3.0, 4.0]]) * z + jnp.array([[0.0, 1.0], [0.0, 0.0]])


def _twice(positive: jax.Array, z: jax.Array) -> jax.Array:
    return jnp.where(positive, 1.0, 0.0) + jnp.where(positive, z, 0.0)


@jax.custom_jvp
def _straight(z: jax.Array) -> jax.Array:
    return jnp.round(z)


@_straight.defjvp
def _(primals: tuple, tangents: tuple) -> tuple:
    return _straight(*primals), tangents[0]


@pytest.mark.parametrize("name", SMOOTH)
def test_a_smooth_path_is_not_refused(name: str) -> None:
    (flow,) = analysed(lambda key, t: SMOOTH[name](normal(key, t))).outputs
    assert not flow.broken
    assert flow.tangent & bit(0)


@pytest.mark.parametrize("name", BROKEN)
def test_a_break_is_seen(name: str) -> None:
    analysis = analysed(lambda key, t: BROKEN[name](normal(key, t)))
    assert analysis.outputs[0].broken & bit(0)
    assert "test_dataflow.py:" in str(analysis.breaks[bit(0)][0])


@pytest.mark.parametrize("name", ["relu", "abs", "clip", "leaky_relu"])
def test_a_kink_breaks_the_second_derivative(name: str) -> None:
    assert analysed(lambda key, t: SMOOTH[name](normal(key, t)), order=2).outputs[0].broken & bit(0)


def test_a_test_of_continuity_that_always_says_yes_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuity, "agrees_at_switch", lambda *_: True)
    assert not analysed(lambda key, t: BROKEN["comparison"](normal(key, t))).outputs[0].broken


def test_an_argument_is_broken_only_where_random_values_shift_it() -> None:
    assert not analysed(lambda key, t: jnp.where(t > 0, t, 2.0) + normal(key)).outputs[0].broken & ARGUMENT
    assert analysed(lambda key, t: jnp.where(normal(key) > t, 1.0, 0.0)).outputs[0].broken & ARGUMENT
    assert analysed(lambda key, t: (jax.random.uniform(key) < t).astype(float)).outputs[0].broken & ARGUMENT
    assert not analysed(lambda key, t: jnp.where(coin(key) > t, 1.0, 0.0)).outputs[0].broken & ARGUMENT


def test_a_pole_counts_only_where_a_derivative_moves_it() -> None:
    def raw(key: jax.Array, t: jax.Array) -> jax.Array:
        return jnp.tanh(1 / (t * jax.random.normal(key)))

    def shifted(key: jax.Array, t: jax.Array) -> jax.Array:
        return jnp.tanh(1 / (t + jax.random.normal(key)))

    assert not analysed(raw).outputs[0].broken
    assert analysed(shifted).outputs[0].broken & ARGUMENT
    assert not analysed(lambda key, t: normal(key) / t).outputs[0].broken


def reaches(f: Callable) -> list[set[int]]:
    """The draws that each term of a program reaches."""
    analysis = analysed(f)
    terms = Terms(analysis.program, analysis.program.outputs[0], analysis.environment, -1)
    return sorted(({i for i in range(9) if mask & bit(i)} for mask in terms.masks()), key=sorted)


def test_terms_are_told_apart_by_what_reaches_them() -> None:
    def linear(key: jax.Array, t: jax.Array) -> jax.Array:
        a, b, c = (coin(k, t) for k in jax.random.split(key, 3))
        return (2 * (a - b) + jnp.sum(jnp.stack([b * c, b])) / t).reshape(())

    assert reaches(linear) == [{0}, {1}, {1, 2}]
    assert reaches(lambda key, t: sum(map(coin, jax.random.split(key, 2))) ** 2) == [{0, 1}]

    def chained(key: jax.Array, t: jax.Array) -> jax.Array:
        k1, k2 = jax.random.split(key)
        a = coin(k1, t)
        return a + coin(k2, a)

    assert reaches(chained) == [{0}, {0, 1}]


def test_terms_add_up_to_the_result() -> None:
    def f(key: jax.Array, t: jax.Array) -> jax.Array:
        k1, k2 = jax.random.split(key)
        a, b = normal(k1, jnp.ones((2, 3)) * t), normal(k2, jnp.zeros(3))
        return jnp.mean((a.sum(axis=0) - 3 * b[::-1]).T / 4 - t * b)

    program, _ = stage(f, jax.random.key(0), 0.3)
    analysis = Analysis(program, [Flow(), Flow()])
    environment, _ = evaluate(program, [jax.random.key(3), jnp.asarray(0.3)], Counting())
    values = Terms(program, program.outputs[0], analysis.environment, -1).values(environment)
    assert len(values) == 2
    assert jnp.allclose(sum(values.values()), environment[program.outputs[0]], rtol=1e-12)


def test_staging_is_linear_in_the_size_of_a_program() -> None:
    def chain(n: int) -> Callable:
        def f(key: jax.Array, t: jax.Array) -> jax.Array:
            for k in jax.random.split(key, n):
                t = t + normal(k, t)
            return t

        return f

    counts = [len(stage(chain(n), jax.random.key(0), 0.3)[0].operations) for n in (20, 40)]
    assert counts[1] <= 2 * counts[0]


def key_cases() -> dict[str, tuple[Callable, int]]:
    """Programs, and how many of their draws share a key."""

    def loop(split: bool) -> Callable:
        def f(key: jax.Array, t: jax.Array) -> jax.Array:
            def step(i: int, total: jax.Array) -> jax.Array:
                return total + coin(jax.random.fold_in(key, i) if split else key, t)

            return jax.lax.fori_loop(0, 3, step, 0.0)

        return f

    def carried(split: bool) -> Callable:
        def f(key: jax.Array, t: jax.Array) -> jax.Array:
            def step(carry: tuple, _: None) -> tuple:
                key, total = carry
                key, own = jax.random.split(key) if split else (key, key)
                return (key, total + coin(own, t)), None

            return jax.lax.scan(step, (key, 0.0), None, length=3)[0][1]

        return f

    def twice(first: Callable, second: Callable) -> Callable:
        return lambda key, t: coin(first(key), t) + coin(second(key), t)

    def beside(noise: Callable) -> Callable:
        return lambda key, t: coin(key, t) * noise(key)

    def beside_in_a_scan(split: bool) -> Callable:
        def step(total: jax.Array, key: jax.Array) -> tuple:
            one, two = jax.random.split(key) if split else (key, key)
            return total + coin(one) * jax.random.uniform(two), key

        return lambda key, t: jax.lax.scan(step, 0.0, jax.random.split(key, 3))[0]

    def branches(key: jax.Array, t: jax.Array) -> jax.Array:
        return jax.lax.cond(t > 0, lambda: coin(key, t), lambda: 2 * coin(key, t))

    def unpacked(key: jax.Array) -> jax.Array:
        _, second = split(key)
        return second

    split = jax.random.split
    return {
        "one key": (twice(lambda k: k, lambda k: k), 2),
        "split twice alike": (twice(lambda k: split(k)[0], lambda k: split(k)[0]), 2),
        "unpacked twice alike": (twice(unpacked, unpacked), 2),
        "unpacked and indexed alike": (twice(unpacked, lambda k: split(k)[1]), 2),
        "unpacked and indexed": (twice(unpacked, lambda k: split(k)[0]), 0),
        "split": (twice(lambda k: split(k)[0], lambda k: split(k)[1]), 0),
        "folded": (twice(lambda k: jax.random.fold_in(k, 1), lambda k: jax.random.fold_in(k, 2)), 0),
        "folded alike": (twice(lambda k: jax.random.fold_in(k, 1), lambda k: jax.random.fold_in(k, 1)), 2),
        "branches": (branches, 0),
        "loop": (loop(False), 1),
        "loop that splits": (loop(True), 0),
        "carried": (carried(False), 1),
        "carried and split": (carried(True), 0),
        "beside a uniform": (beside(jax.random.uniform), 1),
        "beside a gamma": (beside(lambda k: jax.random.gamma(k, 2.0)), 1),
        "beside a poisson": (beside(lambda k: jax.random.poisson(k, 2.0).astype(float)), 1),
        "before a split": (beside(lambda k: jax.random.uniform(split(k)[0])), 1),
        "before a fold": (beside(lambda k: jax.random.uniform(jax.random.fold_in(k, 3))), 1),
        "a clone": (beside(lambda k: jax.random.uniform(jax.random.clone(k))), 1),
        "its data": (beside(lambda k: jax.random.uniform(jax.random.wrap_key_data(jax.random.key_data(k)))), 1),
        "beside another, in a scan": (beside_in_a_scan(False), 1),
        "split in a scan that returns its keys": (beside_in_a_scan(True), 0),
        "lanes": (lambda key, t: jnp.sum(jax.vmap(lambda q: coin(key, q))(t * jnp.ones(3))), 1),
    }


@pytest.mark.parametrize("name", key_cases())
def test_shared_keys_are_found(name: str) -> None:
    f, expected = key_cases()[name]
    with jax.debug_key_reuse(False):
        program, _ = stage(f, jax.random.key(0), 0.3)
        assert len(shared_keys(program)) == expected
