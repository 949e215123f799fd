"""The rewriting of relaxed draws: a run is what it was, and with other weights an average over the values."""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array, lax
from jax.random import split

import variate as vt
from variate.programs import distributions, samplers
from variate.programs.interpretation import run
from variate.programs.primitive import over_lanes, sample_leaves
from variate.programs.program import Program, every_operation
from variate.programs.relaxation import relaxed
from variate.programs.simulation import log_prob
from variate.programs.staging import stage

TABLE = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4)))
THETA, EXACT = jnp.array([0.3, -0.5, 0.8]), 1e-12


def coin(key: Array, logits: Any) -> Array:
    return vt.draw(key, dist.Bernoulli(logits=logits))


def dice(key: Array, t: Array, *shape: int) -> Array:
    return vt.draw(key, dist.Categorical(logits=t).expand(shape))


def real(x: Any) -> Array:
    return jnp.asarray(x).astype(float)


def total(numbers: Sequence[Array], t: Array) -> Array:
    flat = jnp.concatenate([jnp.ravel(real(x)) for x in numbers])  # each with a weight of its own
    return jnp.cos(jnp.arange(1.0, 1.0 + flat.size)) @ flat * t[2]


def choices(key: Array, t: Array) -> Array:
    x = dice(key, t)
    inner = jnp.where(x == 0, t[1], jnp.where(x == 1, jnp.sin(t[2]), 3.0))
    arrays = jnp.where(x == 0, jnp.cos(TABLE), jnp.where(x == 1, TABLE, 2 * TABLE * t[0]).T)
    return inner + jnp.select([x == 2, x > 0], [t[0], t[1]], 0.5) + jnp.where(x != 1, real(x), t[0]) + jnp.sum(arrays)


def moved_choices(key: Array, t: Array) -> Array:
    x = dice(key, t, 3)
    inner = jnp.where(x == 1, jnp.stack([t[0], 2.0, 3.0]), jnp.sin(t))
    outer = jnp.where((x == 0)[:, None], 1.0, jnp.broadcast_to(inner[:, None], (3, 2)))
    return jnp.sum(outer @ jnp.array([1.0, 3.0]))


def comparisons(key: Array, t: Array) -> Array:
    x = dice(key, t, 2)
    tests = [(x > 0) & (x < 2), ~(x == 1) | (x >= 2), (x != 2) ^ (x <= 0), jnp.isin(x, jnp.array([0, 2]))]
    return total([*tests, jax.nn.one_hot(x, 3), jax.nn.one_hot(x, 4, axis=0)], t)


def arithmetic(key: Array, t: Array) -> Array:
    x = dice(key, t, 2)
    divided = [x // 2, x % 2, (7 - x) // (x + 1), jnp.minimum(x, 1), jnp.clip(x, 1, 2), x << 1, x & 1, 2**x]
    return total([x**2, x * x - 3 * x, -x, jnp.abs(x - 1), jnp.sign(x - 1), jnp.square(x), *divided], t)


def lookups(key: Array, t: Array) -> Array:
    x = dice(key, t, 2)
    rows = [TABLE[x] * t[0], TABLE[:, x], jnp.take(TABLE, x, axis=1), TABLE[0][-x - 1], TABLE[x[0]], jnp.exp(t)[x]]
    columns = [TABLE[x, 1], TABLE[x, jnp.arange(2)], TABLE[x, (x + 1) % 3], jnp.outer(t, t)[x, 2]]
    along = [jnp.take_along_axis(TABLE[:2], x[:, None], axis=1), lax.dynamic_slice(TABLE, (x[1], 0), (2, 2))]
    whole = jnp.array([3, 1, 2])[x]
    return total([*rows, *columns, *along, whole, TABLE[1][whole], jnp.take(t, x, mode="fill")], t)


def shapes(key: Array, t: Array) -> Array:
    x = dice(key, t, 4)
    y, (a, b), (c, d) = x.reshape(2, 2), x[:2], jnp.split(x, 2)
    turned = [y.T, y[::-1], y[:, :1], jnp.squeeze(y[:1]), y[None], a, b, y.ravel(), jnp.flip(y), jnp.stack([b, a])]
    copied = [c, d, jnp.tile(x, 2), jnp.repeat(x, 2), jnp.broadcast_to(x, (2, 4)), jnp.roll(x, 1), x[jnp.array([2, 0])]]
    made = [*turned, *copied, jnp.take(x, jnp.array([3, 1])), jnp.concatenate([x, jnp.array([2])])]
    return total(made, t) + total([z > 0 for z in made], t)


def several(key: Array, t: Array) -> Array:
    ka, kb, kc = split(key, 3)
    a, b, c = coin(ka, t[0]), coin(kb, t[1]), dice(kc, t)
    return total([a + b, 2 * a - b * c, jnp.sum(jnp.stack([a, b, c])), (a - c) * 3, jnp.stack([a, 1 - b]) == 1], t)


def sums(key: Array, t: Array) -> Array:
    x = coin(key, t)
    made = [jnp.sum(x), jnp.prod(x), jnp.sum(2 * x - 1), jnp.mean(x), jnp.sum(x == 1), jnp.cumsum(x), jnp.pad(x, 1)]
    return total([*made, jnp.concatenate([x, jnp.array([2])]), jnp.cumprod(x), jnp.where(t > 0, x, 3)], t)


def linked(key: Array, t: Array) -> Array:
    k1, k2 = split(key)
    a = dice(k1, t)
    p = jnp.where(a == 0, jax.nn.sigmoid(t[0]), jnp.where(a == 1, jax.nn.sigmoid(t[1]), 0.3))
    return jnp.where(vt.draw(k2, dist.Bernoulli(probs=p)) == 1, t[0], t[2])


def lanes(key: Array, t: Array) -> Array:
    def one(key: Array, row: Array, s: Array) -> Array:
        x = dice(key, jnp.stack([s, jnp.zeros(()), -s]))
        looked_up = row[x] + TABLE[x, 1] + jnp.sum(jax.nn.one_hot(x, 4) * row)
        return jnp.where(x == 1, s, TABLE[1][x]) + real(x**2) + looked_up

    return jax.vmap(one)(split(key, 2), TABLE[:2], t[:2]) @ jnp.array([1.0, 3.0])


def walk(key: Array, t: Array) -> Array:
    def step(c: Array, key: Array) -> tuple[Array, Array]:
        b, d = coin(key, t[:2])
        return jnp.where(b == 1, 0.5 * c + 1, t[1] * c), TABLE[0][d]

    c, ys = lax.scan(step, jnp.asarray(0.3), split(key, 3))
    return c + ys @ t


def branches(key: Array, t: Array) -> Array:
    def cast(key: Array) -> Array:
        return real(dice(key, t))

    def choose(key: Array) -> Array:
        return jnp.where(coin(key, t[0]) == 1, t[1], 2.0)

    return lax.cond(t[0] > 0, choose, cast, key) * lax.cond(t[1] > 0, choose, cast, jax.random.fold_in(key, 1))


def kept_whole(key: Array, t: Array) -> Array:
    @jax.custom_jvp
    def with_a_rule(key: Array, t: Array) -> Array:
        return real(coin(key, t[0])) * t[1]

    with_a_rule.defjvp(lambda primals, tangents: (with_a_rule(*primals), jnp.zeros(())))
    k1, k2 = split(key)
    return jax.checkpoint(lambda k, t: TABLE[1][dice(k, t)] * t[0])(k1, t) + with_a_rule(k2, t)


def other_laws(key: Array, t: Array) -> Array:
    k1, k2, k3 = split(key, 3)
    n, m = vt.draw(k1, dist.Binomial(3, logits=t[0])), vt.draw(k2, dist.DiscreteUniform(-1, 2))
    event = vt.draw(k3, dist.Bernoulli(probs=jnp.stack([t[2], 1.0])).to_event(1))
    with distributions.numpyro_promotion():
        log_probs = dist.Bernoulli(logits=t[0]).log_prob(event)
    uniform = [log_probs, real(m) * t[0], jnp.where(m < 0, t[1], TABLE[0][m + 1]), m // 2]
    return total([jnp.where(n > 1, t[0], real(n)), TABLE[n], (n - 1) ** 2, *uniform, event], t)


def single_precision(key: Array, t: Array) -> Array:
    k1, k2 = split(key)
    a, b = coin(k1, t[0].astype(jnp.float32)), dice(k2, t)
    single = jnp.where(a == 1, jnp.float32(0.1), t[0].astype(jnp.float32)) + a.astype(jnp.float32)
    return total([single, a + b, (a * b).astype(jnp.int32), TABLE[a, 1], jnp.stack([a, a])], t)


def mixed(key: Array, t: Array) -> Array:
    """A run is a run where it is not linear in the weights of each draw, or the integers themselves are used."""
    x, y = dice(key, t, 2), coin(jax.random.fold_in(key, 1), t)
    s = jnp.sum(y)
    bent = [s**2, jnp.square(s - 1), jnp.exp(real(s)), jnp.sin(real(y) @ t), 1 / (1 + real(x[0])), (x[0] > s)]
    used = [jnp.argmax(jnp.bincount(x, length=3)), (x[:, None] == 1) & (x[None, :] > 0), jnp.sort(x), x == x[::-1]]
    return total([*bent, *used, lax.switch(x[0], [lambda: 1.0, lambda: 2.0, lambda: 3.0]), TABLE[x[0], y[0]]], t)


def not_finite(key: Array, t: Array) -> Array:
    """What is not chosen is not finite; what is may be infinite."""
    x = dice(key, t, 2)
    logs = jnp.where(x > 0, jnp.log(real(x)), t[0])
    table = jnp.array([-jnp.inf, 1.0, jnp.nan])
    return jnp.sum(logs) + jnp.sum(jnp.where(x == 1, table[x], 2.0)) + jnp.array([0.0, 1.0, jnp.inf])[x[0]]


LINEAR = (choices, moved_choices, comparisons, arithmetic, lookups, shapes, several, sums, linked, lanes, walk,
          branches, kept_whole, other_laws)  # fmt: skip
ALL = (*LINEAR, single_precision, mixed, not_finite)


def probabilities(distribution: Any) -> Array:
    return jnp.moveaxis(distributions.element_probs(distribution), 0, -1)


class Forced:
    """A handler that gives every element the value that its digit says, and weights if it is told how."""

    def __init__(self, digits: Array, offsets: dict[int, int], weights: Callable | None = None):
        self.digits, self.offsets, self.weights = digits, offsets, weights

    def draw(self, site: Any, index: tuple[Array, ...], operands: Sequence[Array]) -> tuple[list[Array], Any]:
        (like,) = jax.eval_shape(sample_leaves(site.structure, site.lanes), *operands)
        step, size = jnp.asarray(0), math.prod(like.shape)
        for n, loop in zip(index, (loop for loop in site.loops if loop.kind == "scan"), strict=True):
            step = step * loop.length + n
        digits = lax.dynamic_slice(self.digits, (self.offsets[site.index] + step * size,), (size,))

        def one(digits: Array, key: Array, *arrays: Array) -> tuple[Array, Array]:
            distribution = site.structure.build(arrays)
            with distributions.numpyro_promotion():
                support = distributions.support(distribution)
                assert support is not None
                drawn = jax.nn.one_hot(digits, len(support), dtype=probabilities(distribution).dtype)
                weights = drawn if self.weights is None else self.weights(distribution, drawn, key)
                return support[digits].astype(like.dtype), weights

        value, weights = over_lanes(one, site.lanes, 1)(digits.reshape(like.shape), *operands)
        return [value] if self.weights is None else [value, weights], log_prob(site, [value], operands)

    def loop(self, *_: Any) -> Any:
        raise AssertionError


def of_the_drawn(distribution: Any, drawn: Array, key: Array) -> Array:
    return drawn


def of_all(distribution: Any, drawn: Array, key: Array) -> Array:
    return probabilities(distribution)


class Staged(NamedTuple):
    """A program, the same relaxed, where the digits of its draws begin, and all outcomes as digits."""

    plain: Program
    soft: Program
    offsets: dict[int, int]
    outcomes: np.ndarray


@functools.cache
def staged(f: Callable[[Array, Array], Array]) -> Staged:
    plain, _ = stage(f, jax.random.key(0), THETA)
    supports, offsets, sizes = {}, {}, []
    for operation in (op for op in every_operation(plain) if op.site):
        site, support = operation.site, samplers.support(operation)
        assert site is not None
        steps = math.prod(loop.length or 1 for loop in site.loops if loop.kind == "scan")
        supports[site.index], offsets[site.index] = support, len(sizes)
        sizes += [len(support)] * (steps * math.prod(operation.avals[0].shape))
    outcomes = np.array(list(itertools.product(*map(range, sizes))))
    return Staged(plain, relaxed(plain, supports), offsets, outcomes)


def values(f: Callable, program: Program, weights: Any, theta: Array = THETA, key: Any = None) -> tuple[Array, Array]:
    """Over all outcomes [outcomes, *result], with their log probabilities."""

    @jax.jit
    @jax.vmap
    def one(digits: Array) -> tuple[Array, Array]:
        own = jax.random.key(0) if key is None else key
        outputs, records = run(program, [own, theta], Forced(digits, staged(f).offsets, weights))
        return outputs[0], sum((jnp.sum(record).astype(float) for record in records.values()), start=jnp.zeros(()))

    return one(jnp.asarray(staged(f).outcomes))


def mean(f: Callable, theta: Array) -> Array:
    found, log_probs = values(f, staged(f).plain, None, theta)
    # A draw in a branch that is not taken has no probability, and each of its outcomes counts the same.
    return jnp.tensordot(jax.nn.softmax(log_probs) if f is branches else jnp.exp(log_probs), found, 1)


@pytest.fixture(autouse=True)
def one_key_for_all() -> Any:
    with jax.debug_key_reuse(False):
        yield


def change(f: Callable) -> float:
    """How much a relaxed program is another with the weights of what was drawn."""
    plain, found = (
        np.asarray(values(f, staged(f).plain, None)[0]),
        np.asarray(values(f, staged(f).soft, of_the_drawn)[0]),
    )
    finite = np.isfinite(plain)
    assert np.array_equal(plain[~finite], found[~finite], equal_nan=True)
    return float(np.max(np.abs(found[finite] - plain[finite])))


@pytest.mark.parametrize("f", ALL, ids=lambda f: f.__name__)
def test_a_run_is_what_it_was(f: Callable) -> None:
    assert change(f) <= (1e-6 if f is single_precision else EXACT)


@pytest.mark.wide
@pytest.mark.parametrize("f", LINEAR, ids=lambda f: f.__name__)
def test_with_the_probabilities_for_weights_it_is_the_expectation(f: Callable) -> None:
    def averaged(f: Callable, theta: Array) -> Array:
        return values(f, staged(f).soft, of_all, theta)[0][0]  # the same for every outcome

    wanted, found = (jax.jit(jax.value_and_grad(functools.partial(each, f)))(THETA) for each in (mean, averaged))
    for want, got in zip(jax.tree.leaves(wanted), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(got, want, rtol=EXACT, atol=EXACT)
