"""Relations between values and the elements of draws are those that perturbing one element at a time shows."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array, lax
from jax.random import split

from variate.gradients.credit import Credit
from variate.programs import draw
from variate.programs.accumulation import accumulated
from variate.programs.axes import Link
from variate.programs.interpretation import evaluate
from variate.programs.program import Operation, Program
from variate.programs.relations import Relation, Tracing, element_shape
from variate.programs.staging import stage
from variate.programs.validity import Counting

SHAPE = (3, 4)
TABLE = jnp.arange(10.0) ** 2


def bits(key: Array, shape: tuple[int, ...] = SHAPE) -> Array:
    return draw(key, dist.Bernoulli(probs=0.5 * jnp.ones(shape))).astype(float)


def walk(key: Array, reverse: bool = False) -> tuple[Array, Array]:
    def step(s: Array, k: Array) -> tuple[Array, Array]:
        s = 0.5 * s + bits(k, (2,))
        return s, s**2

    return lax.scan(step, jnp.zeros(2), split(key, 5), reverse=reverse)


def linked(key: Array) -> Array:
    k1, k2 = split(key)
    return draw(k2, dist.Poisson(1 + bits(k1))).astype(float)


def pooled(key: Array) -> Array:
    k1, k2 = split(key)
    return draw(k2, dist.Poisson(1 + jnp.sum(bits(k1)) * jnp.ones(3))).astype(float)


def chain(key: Array, shape: tuple[int, ...] = ()) -> Array:
    def step(p: Array, k: Array) -> tuple[Array, Array]:
        b = draw(k, dist.Bernoulli(probs=p)).astype(float)
        return 0.1 + 0.8 * b[::-1] if shape else 0.1 + 0.8 * b, b

    return lax.scan(step, 0.5 * jnp.ones(shape), split(key, 5))[1]


def branches(key: Array) -> Array:
    def step(s: Array, k: Array) -> tuple[Array, Array]:
        b = bits(k, ())
        s = lax.cond(b > 0, lambda s: s + 1, lambda s: 0.5 * s, s)
        return s, s * b

    return lax.scan(step, jnp.zeros(()), split(key, 5))[1]


def nested(key: Array) -> Array:
    def outer(s: Array, k: Array) -> tuple[Array, Array]:
        ends = lax.scan(lambda c, k: (c + bits(k, ()) * s, c), 1.0 + s, split(k, 2))[1]
        return s + jnp.sum(ends), ends

    return lax.scan(outer, 0.0, split(key, 3))[1]


def lanes(key: Array) -> Array:
    return jax.vmap(lambda k, x: x * bits(k, (2,)), (0, None), 1)(split(key, 3), 2.0)


# Programs of a key whose result has the words that it should have to its first draw.
PROGRAMS: dict[str, tuple[Callable[[Array], Array], str]] = {
    "elementwise": (lambda key: jnp.exp(bits(key)) * 3 + jnp.where(bits(key) > 0, 1.0, 2.0), "diagonal"),
    "transpose and reverse": (lambda key: bits(key).T[:, ::-1], "diagonal"),
    "reduction": (lambda key: jnp.sum(bits(key), axis=1) ** 2, "diagonal"),
    "all of it": (lambda key: jnp.sum(bits(key)) * jnp.ones(3), "full"),
    "product with a fixed matrix": (lambda key: jnp.tanh(bits(key) @ jnp.ones((4, 2))), "diagonal"),
    "product of both sides": (lambda key: jnp.tanh(jnp.ones((2, 3)) @ bits(key)), "diagonal"),
    "outer product": (lambda key: (lambda b: b[:, :1] * b[:, :1].T)(bits(key)), "full"),
    "batched product": (lambda key: jnp.einsum("bi,bij->bj", bits(key), jnp.ones((3, 4, 2))) ** 2, "diagonal"),
    "merged axes": (lambda key: bits(key).reshape(12) ** 2, "diagonal"),
    "one axis split in two": (lambda key: bits(key, (6,)).reshape(3, 2) ** 2, "diagonal"),
    "split, one part summed": (lambda key: jnp.sum(bits(key, (12,)).reshape(2, 3, 2), axis=1) ** 2, "diagonal"),
    "split, summed along the first": (lambda key: jnp.cumsum(bits(key, (6,)).reshape(3, 2), axis=0) ** 2, "causal"),
    "split, summed along the last": (lambda key: jnp.cumsum(bits(key, (6,)).reshape(3, 2), axis=1) ** 2, "causal"),
    "split between others": (lambda key: bits(key, (2, 6, 2)).reshape(2, 3, 4).sum(2) ** 2, "diagonal"),
    "split, turned and merged": (lambda key: bits(key, (6,)).reshape(3, 2).T.reshape(6) ** 2, "diagonal"),
    "running sum, split": (lambda key: jnp.cumsum(bits(key, (6,))).reshape(3, 2) ** 2, "causal"),
    "merged and split again": (lambda key: (bits(key).reshape(12) ** 2).reshape(3, 2, 2), "diagonal"),
    "tiled": (lambda key: jnp.tile(bits(key), (1, 2)) ** 2, "diagonal"),
    "unstacked": (lambda key: sum(x**2 for x in jnp.unstack(bits(key))), "diagonal"),
    "merged, and split elsewhere": (lambda key: bits(key).reshape(2, 6) ** 2, "full"),
    "merged, summed along all": (lambda key: jnp.cumsum(bits(key).reshape(12)) ** 2, "causal"),
    "merged, summed over a part": (lambda key: jnp.sum(bits(key).reshape(6, 2), axis=1) ** 2, "diagonal"),
    "a table": (lambda key: TABLE[bits(key).astype(int) + 3], "diagonal"),
    "along an axis": (
        lambda key: jnp.take_along_axis(jnp.ones((3, 4)), bits(key).astype(int), axis=1) * 2, "diagonal",
    ),
    "running sum": (lambda key: jnp.cumsum(bits(key), axis=1) ** 2, "causal"),
    "running sum backwards": (lambda key: lax.cumsum(bits(key, (4,)), reverse=True) ** 2, "anticausal"),
    "running sum from the end": (lambda key: jnp.cumsum(bits(key)[:, ::-1], axis=1) ** 2, "anticausal"),
    "both ways": (lambda key: (lambda b: jnp.cumsum(b) * lax.cumsum(b, reverse=True))(bits(key, (4,))), "full"),
    "turned, split and merged": (lambda key: bits(key, (6,))[::-1].reshape(3, 2).T.reshape(6) ** 2, "diagonal"),
    "beside itself turned": (lambda key: (lambda b: b * b[::-1] + b)(bits(key, (4,))), "full"),
    "sorted": (lambda key: jnp.sort(bits(key), axis=1) * jnp.arange(12.0).reshape(3, 4), "diagonal"),
    "stacked": (lambda key: jnp.stack([bits(key, (4,)), jnp.ones(4)], axis=0) ** 2, "diagonal"),
    "padded": (lambda key: jnp.pad(bits(key), ((0, 0), (1, 0))) ** 2, "diagonal"),
    "a part": (lambda key: bits(key)[:, 1:] ** 2, "diagonal"),
    "Cholesky factors": (
        lambda key: jnp.linalg.cholesky(jnp.eye(2)[None] * (1 + bits(key, (3,)))[:, None, None]), "diagonal",
    ),
    "a draw from each": (linked, "diagonal"),
    "a draw from all": (pooled, "full"),
    "drawn before a scan": (lambda key: lax.scan(lambda c, x: (0.5 * c + x, c * x), 1.0, bits(key, (5,)))[1], "causal"),
    "merged before a scan": (
        lambda key: lax.scan(lambda c, x: (0.5 * c + x, c * x), 1.0, bits(key, (2, 3)).reshape(6))[1], "causal",
    ),
    "all that a scan is handed": (
        lambda key: lax.scan(lambda c, x: (c, c * x), 1.0, bits(key, (2, 3)).reshape(6))[1], "diagonal",
    ),
    "coins linked in a scan": (chain, "causal"),
    "vectors linked in a scan": (lambda key: chain(key, (3,)), "causal"),
    "a branch in a scan": (branches, "causal"),
    "a scan": (lambda key: walk(key)[1], "causal"),
    "the end of a scan": (lambda key: walk(key)[0], "diagonal"),
    "a scan backwards": (lambda key: walk(key, reverse=True)[1], "anticausal"),
    "a scan in a scan": (nested, "causal"),
    "lanes": (lanes, "diagonal"),
    "a branch": (lambda key: (lambda b: lax.cond(b[0, 0] > 0, jnp.sin, jnp.cos, b))(bits(key)), "full"),
    "a loop": (lambda key: lax.while_loop(lambda x: x[0, 0] < 5, lambda x: x * 2 + 1, bits(key)), "full"),
}  # fmt: skip


def first_draw(program: Program) -> Operation:
    for operation in program.operations:
        if operation.site is not None:
            return operation
        for body in operation.bodies:
            if body.sites:
                return first_draw(body)
    raise AssertionError("no draw")


def traced(f: Callable[[Array], Array]) -> tuple[Program, Relation, tuple[int, ...]]:
    program, _ = stage(f, jax.random.key(0))
    program = accumulated(program)
    drawn = first_draw(program)
    loops = tuple(loop.length for loop in drawn.site.loops if loop.kind == "scan")
    shape = (*loops, *element_shape(drawn))
    relations = Tracing(program, {drawn.site.index: shape}).environment[program.outputs[0]]
    return program, relations[drawn.site.index], shape


class Flipping(Counting):
    """Samples; one element of the first draw takes its other value."""

    def __init__(self, site: int, place: tuple[int, ...] | None):
        self.site, self.place = site, place

    def draw(self, site: jax.Array, index: tuple, operands: list) -> tuple:
        (value,), record = super().draw(site, index, operands)
        if site.index == self.site and self.place is not None:
            here = jnp.all(jnp.asarray([a == b for a, b in zip(index, self.place, strict=False)], bool))
            value = jnp.where(here, value.at[self.place[len(index) :]].set(1 - value[self.place[len(index) :]]), value)
        return [value], record


@pytest.mark.wide
@pytest.mark.parametrize("name", PROGRAMS)
def test_what_an_element_moves_is_what_its_links_say(name: str, key: Array) -> None:
    f, word = PROGRAMS[name]
    with jax.debug_key_reuse(False):
        program, relation, shape = traced(f)
        assert relation.word == word
        assert relation.stopped is not None or relation.links
        site, credit = first_draw(program).site.index, Credit(shape, frozenset(range(len(shape))))
        for seed in split(key, 3):

            def run(place: tuple[int, ...] | None, seed: Array = seed) -> Array:
                environment, _ = evaluate(program, [jax.random.clone(seed)], Flipping(site, place))
                return environment[program.outputs[0]]

            before = run(None)
            for place in np.ndindex(*shape):
                moved = (run(place) != before).astype(float)
                # All that moves has to be charged to the element that moved it.
                charged = jnp.broadcast_to(credit.charge(moved, relation), shape)
                assert float(charged[place]) == float(jnp.sum(moved)), place


def test_a_charge_is_the_sum_of_what_is_linked() -> None:
    entries = jnp.arange(24.0).reshape(6, 4)
    credit = Credit((2, 4, 3), frozenset({0, 1, 2}))
    merged = Relation(frozenset({Link(0, 0, 2, stride=3), Link(1, 1, 4, causal=1)}))
    expected = jnp.sum(entries.reshape(2, 3, 4), axis=1)
    expected = jnp.flip(jnp.cumsum(jnp.flip(expected, 1), axis=1), 1)[:, :, None]
    assert jnp.array_equal(credit.charge(entries, merged), expected)
    log_probs = jnp.ones((2, 4, 3))
    assert Credit((2, 4, 3), frozenset({1})).summed(log_probs, 0).shape == (1, 4, 1)


def test_totals_become_sums_of_their_increments() -> None:
    def f(key: Array) -> Array:
        def step(carry: tuple, k: Array) -> tuple[tuple, Array]:
            total, other, used = carry
            b = bits(k, ())
            return (total + b - 2.0 * b**2, other * 2, used + b), used

        (total, other, used), seen = lax.scan(step, (jnp.ones(()), jnp.ones(()), jnp.zeros(())), split(key, 4))
        return total * 3 + other + used + jnp.sum(seen)

    plain, _ = stage(f, jax.random.key(0))
    split_up = accumulated(plain)
    (before,), (after,) = ([op for op in p.operations if op.name == "scan"] for p in (plain, split_up))
    assert len(after.outputs) == len(before.outputs) + 2  # of the three carries two only accumulate
    values = [evaluate(p, [jax.random.key(3)], Counting())[0][p.outputs[0]] for p in (plain, split_up)]
    assert jnp.allclose(*values, rtol=1e-12)


def returned(key: Array, reverse: bool, ends: bool) -> tuple[Array, Array]:
    """What a discounted sum of costs is by a recurrence, and by products; some steps may end it."""

    def cost(s: Array, k: Array) -> tuple[Array, Array]:
        b = bits(k, ())
        return 0.5 * s + b, s * b

    costs = lax.scan(cost, jnp.ones(()), split(key, 6))[1]
    kept = jnp.where(costs > 1, 0.0, 0.8) if ends else jnp.full(6, 0.8)

    def add(total: Array, step: tuple[Array, Array]) -> tuple[Array, None]:
        return step[0] + (0.1 + total) * step[1] * 0.5, None

    order = slice(None, None, -1) if reverse else slice(None)
    factors, added = 0.5 * kept[order], (costs + 0.05 * kept)[order]
    by_hand = jnp.prod(factors) * 2 + sum(added[i] * jnp.prod(factors[i + 1 :]) for i in range(6))
    return lax.scan(add, jnp.array(2.0), (costs, kept), reverse=reverse)[0], by_hand


@pytest.mark.parametrize(("reverse", "ends"), [(True, True), (True, False), (False, True), (False, False)])
def test_discounted_totals_become_sums_too(reverse: bool, ends: bool) -> None:
    program = accumulated(stage(lambda key: returned(key, reverse, ends), jax.random.key(0))[0])
    *_, recurrence = (operation for operation in program.operations if operation.name == "scan")
    assert len(recurrence.outputs) == 3  # the total, what is added and what it is multiplied by
    total, by_hand = (evaluate(program, [jax.random.key(3)], Counting())[0][place] for place in program.outputs)
    assert jnp.allclose(total, by_hand, rtol=1e-12)
