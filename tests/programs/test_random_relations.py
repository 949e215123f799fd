"""Relations hold for compositions of operations that nobody chose: what an element moves is what it is charged with."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array, lax

from variate.gradients.credit import Credit
from variate.programs import draw
from variate.programs.accumulation import accumulated
from variate.programs.relations import Relation, Tracing
from variate.programs.staging import stage

SHAPES = ((6,), (2, 3), (3, 2, 2), (4, 3), (12,))
SEEDS = (*range(30), 32, 51, 98, 123)  # with the last of them axes are turned, and stay so
LONGEST, LARGEST = 4, 80  # operations of a program, and elements of what they make
Step = Callable[[Array, int], Array]


def carried(reverse: bool, last: bool) -> Step:
    """A scan along the first axis whose state and increments do not commute."""

    def step(state: Array, x: Array) -> tuple[Array, Array]:
        return 0.5 * state + x, jnp.sin(state * x + x)

    def scanned(x: Array, axis: int) -> Array:
        return lax.scan(step, jnp.ones(x.shape[1:]), x, reverse=reverse)[0 if last else 1]

    return scanned


def discounted(x: Array, axis: int) -> Array:
    return lax.scan(lambda total, reward: (reward + 0.9 * total, total), jnp.zeros(x.shape[1:]), x, reverse=True)[1]


def within_lanes(x: Array, axis: int) -> Array:
    return jax.vmap(lambda row: carried(False, False)(row, 0) if row.ndim else row, axis, axis)(x)


def nested(x: Array, axis: int) -> Array:
    rows = x.reshape(len(x), -1)
    return lax.scan(lambda c, row: lax.scan(lambda d, y: (d + y, jnp.cos(d * y) + y), c, row), 0.0, rows)[1]


# Of an array and one of its axes. A split or a merge of axes is drawn apart.
STEPS: dict[str, Step] = {
    "transposed": lambda x, axis: jnp.moveaxis(x, axis, 0),
    "running sum": lambda x, axis: jnp.cumsum(x, axis),
    "running sum backwards": lambda x, axis: lax.cumsum(x, axis, reverse=True),
    "scan": carried(False, False),
    "scan backwards": carried(True, False),
    "end of a scan": carried(False, True),
    "discounted": discounted,
    "scan in lanes": within_lanes,
    "scan in a scan": nested,
    "summed": lambda x, axis: jnp.sin(jnp.sum(x, axis)),
    "a part": lambda x, axis: lax.slice_in_dim(x, x.shape[axis] // 2, None, axis=axis),
    "beside itself": lambda x, axis: jnp.concatenate([x, 2 * x], axis),
    "turned": lambda x, axis: jnp.flip(x, axis),
    "rolled": lambda x, axis: jnp.roll(x, 1, axis),
    "sorted": lambda x, axis: jnp.sort(x, axis),
    "softmax": lambda x, axis: jax.nn.softmax(x, axis),
    "differences": lambda x, axis: jnp.diff(x, axis=axis),
    "padded": lambda x, axis: jnp.pad(x, [(int(i == axis), 0) for i in range(x.ndim)]),
    "picked": lambda x, axis: jnp.take(x, jnp.array([0, x.shape[axis] - 1, 0]), axis),
    "by what came before": lambda x, axis: jnp.where(jnp.cumsum(x, axis) > 1, x, 2 * x),
    "by a branch": lambda x, axis: lax.cond(x.ravel()[0] > 0.5, jnp.sin, lambda x: jnp.cumsum(x, axis), x),
    "in a loop": lambda x, axis: lax.fori_loop(0, 2, lambda _, x: x + jnp.cumsum(x, axis), x),
    "matrix": lambda x, axis: jnp.tanh(x @ jnp.outer(jnp.arange(1.0, x.shape[-1] + 1), jnp.array([1.0, -0.5]))),
    "repeated": lambda x, axis: jnp.repeat(x, 2, axis, total_repeat_length=2 * x.shape[axis]),
}


def other_shape(size: int, numbers: np.random.Generator) -> tuple[int, ...]:
    """Its prime factors in any order, neighbours multiplied."""
    factors, shape, n = [], [], size
    for prime in (2, 3, 5, 7):
        while n % prime == 0:
            factors.append(prime)
            n //= prime
    factors = [*numbers.permutation(factors).tolist(), *([n] if n > 1 else [])]
    while factors:
        taken = int(numbers.integers(1, len(factors) + 1))
        shape.append(math.prod(factors[:taken]))
        factors = factors[taken:]
    return tuple(shape)


def composed(numbers: np.random.Generator, shape: tuple[int, ...]) -> tuple[list[str], Callable[[Array], Array]]:
    """Some operations, half of them splits and merges of axes, and then weights that tell all entries apart."""
    names, steps, now = [], [], shape
    for _ in range(LONGEST):
        name = str(numbers.choice([*STEPS, *["shape"] * (len(STEPS) // 2)]))
        axis, to = int(numbers.integers(max(len(now), 1))), other_shape(math.prod(now), numbers)
        step = (lambda x, to=to: x.reshape(to)) if name == "shape" else (lambda x, f=STEPS[name], a=axis: f(x, a))
        found = jax.eval_shape(step, jax.ShapeDtypeStruct(now, float)).shape if now else ()
        if 0 < math.prod(found) <= LARGEST and now:
            names, steps, now = [*names, f"{name} {to if name == 'shape' else axis}"], [*steps, step], found
    weights = jnp.asarray(numbers.normal(size=now))

    def result(x: Array) -> Array:
        for step in steps:
            x = step(x)
        return jnp.sin(x * weights) + x * weights

    return names, result


def uncharged(seed: int, change: Callable[[Relation], Relation] = lambda relation: relation) -> tuple[float, list[str]]:
    """The most entries of a random program that an element moves and is not charged with; and what the program does."""
    numbers = np.random.default_rng(seed)
    shape = SHAPES[seed % len(SHAPES)]
    names, result = composed(numbers, shape)

    def program(key: Array) -> Array:
        return result(draw(key, dist.Bernoulli(probs=0.5 * jnp.ones(shape))).astype(float))

    staged = accumulated(stage(program, jax.random.key(0))[0])
    (site,) = (each.index for each in staged.sites)
    relation = change(Tracing(staged, {site: shape}).environment[staged.outputs[0]].get(site, Relation()))
    credit, size = Credit(shape, frozenset(range(len(shape)))), math.prod(shape)

    def short(bits: Array) -> Array:
        def of_element(place: Array) -> Array:
            flipped = bits.ravel().at[place].set(1 - bits.ravel()[place]).reshape(shape)
            moved = (jnp.abs(result(flipped) - result(bits)) > 1e-9).astype(float)
            return jnp.sum(moved) - jnp.broadcast_to(credit.charge(moved, relation), shape).ravel()[place]

        return jax.vmap(of_element)(jnp.arange(size))

    bits = jnp.asarray(numbers.integers(0, 2, (6, *shape)).astype(float))
    return float(jnp.max(jax.jit(jax.vmap(short))(bits))), names


def before_as_at(relation: Relation) -> Relation:
    """As if what depends on all elements up to its own depended on that alone."""
    return Relation(frozenset(link._replace(causal=0) for link in relation.links), relation.stopped)


def in_one_order(relation: Relation) -> Relation:
    """As if what depends on all elements from its own on depended on those before."""
    return Relation(frozenset(link._replace(causal=abs(link.causal)) for link in relation.links), relation.stopped)


def never_turned(relation: Relation) -> Relation:
    """As if no axis were counted from its end."""
    return Relation(frozenset(link._replace(turned=False) for link in relation.links), relation.stopped)


def by_last_digit(relation: Relation) -> Relation:
    """As if the digit of an element were always the last of its axis."""
    return Relation(frozenset(link._replace(place=1) for link in relation.links), relation.stopped)


@pytest.mark.wide
@pytest.mark.parametrize("seed", SEEDS)
def test_an_element_is_charged_with_all_that_it_moves(seed: int) -> None:
    found, names = uncharged(seed)
    assert found == 0, names


@pytest.mark.wide
@pytest.mark.parametrize("mutant", [before_as_at, by_last_digit, in_one_order, never_turned])
def test_wrong_links_are_caught(mutant: Callable[[Relation], Relation]) -> None:
    assert any(uncharged(seed, mutant)[0] > 0 for seed in reversed(SEEDS))
