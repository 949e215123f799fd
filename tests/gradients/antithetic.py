"""Programs of coins and dice, and the exact error of rules that replay all of their elements at once."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from gradients import finite_programs, law_programs
from gradients.coins import Finite, mean_over_flips
from gradients.dice_programs import dice_programs, elements_apart
from gradients.exactness import SEED, arrays_of, exact, fresh, largest
from gradients.outcomes import ELEMENTS, forced, noise, sampling_by
from jax import Array
from jax.random import split

import variate as vt
from variate.gradients import NoBaseline, Score
from variate.gradients.base import _ALTERNATIVES
from variate.gradients.rules import arsm, disarm
from variate.programs import distributions, interpretation, staging
from variate.programs.primitive import over_lanes, sample_leaves

EXACT = 1e-10
FACES = 3  # of the dice: their shares are in a triangle, which lines cut into polygons


def of_probabilities(key: Array, t: Array) -> Array:
    """Coins that are given by probabilities: expanded, in an event, and one that is certain."""
    k1, k2 = split(key)
    a = vt.draw(k1, dist.Bernoulli(probs=t[0]).expand((2,)).to_event(1), name="a").astype(float)
    b = vt.draw(k2, dist.Bernoulli(probs=jnp.stack([t[1] * a[0], t[1]])), name="b").astype(float)
    return (a[0] - 3 * a[1] * b[0]) ** 2 + b[0] * b[1] * t[0]


def of_probabilities_mean(t: Array) -> Array:
    def weighted(a: Array, b: Array, c: Array, d: Array) -> Array:
        def of(value: Array, p: Array) -> Array:
            return jnp.where(value == 1, p, 1 - p)

        p = of(a, t[0]) * of(b, t[0]) * of(c, t[1] * a) * of(d, t[1])
        return p * ((a - 3 * b * c) ** 2 + c * d * t[0])

    return mean_over_flips(4, weighted)


COINS = {
    **{
        name: finite_programs.PROGRAMS[name]
        for name in (
            "linked coins", "a vector of coins", "scan in vmap", "vmap in scan", "nested conditionals",
        )
    },
    "probabilities": Finite(of_probabilities, (jnp.array([0.3, 0.6]),), of_probabilities_mean, "ab"),
}  # fmt: skip
DICE = dice_programs(jnp.array([0.3, -0.4, 0.8]))
EVERY = COINS | DICE | law_programs.FINITE
AT_ONCE = 2048
RUNS = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(SEED), jnp.arange(1))


def row_of(key: Array, keys: Any, numbers: Array) -> Array:
    here = jnp.all(jax.random.key_data(jax.random.clone(key))[None] == jnp.asarray(keys), axis=1)
    return numbers[jnp.argmax(here)]


def of_rules(keys: np.ndarray) -> Array:
    """The keys that rules have beside those of the sampler."""
    return jax.random.key_data(jax.vmap(lambda k: jax.random.fold_in(k, _ALTERNATIVES))(jax.random.wrap_key_data(keys)))


class Sums(NamedTuple):
    """Random numbers to run a program with, and the probability of each."""

    keys: np.ndarray
    numbers: tuple[np.ndarray, ...]
    weights: np.ndarray


def mean_of(case: Finite, rules: dict[str, Any], sums: Sums, forcing: Callable[..., Any]) -> list[np.ndarray]:
    def one(numbers: tuple[Array, ...]) -> Any:
        # Nothing that was traced with other numbers may be used again.
        estimate = vt.value_and_grad(fresh(case), case.argnums, num_samples=1, rules=rules)
        with forcing(sums.keys, *numbers):
            value, gradient = estimate(jax.random.key(SEED), *case.args)
        return arrays_of(value.value, gradient.value)

    # Whole batches, by rows that weigh nothing: a last one of another size would be compiled by itself.
    more = -len(sums.weights) % AT_ONCE if len(sums.weights) > AT_ONCE else 0
    numbers = tuple(jnp.asarray(np.concatenate([x, x[:more]])) for x in sums.numbers)
    rows = jax.jit(functools.partial(jax.lax.map, one, batch_size=AT_ONCE))(numbers)
    return [np.tensordot(np.append(sums.weights, np.zeros(more)), np.asarray(x), 1) for x in rows]


def rules_of(case: Finite, rule: Any, scored: str) -> dict[str, Any]:
    return {name: Score(NoBaseline()) if name in scored else rule for name in case.draws}


# Coins: the numbers inside the side of u that the coin shows are cut where a twin changes; in between ARM is linear.


@functools.cache
def coin_sums(name: str) -> Sums:
    case = EVERY[name]
    with elements_apart():
        found = noise(case.program, case.args, RUNS)
    middles = [[np.unique(found.numbers[:, k, i]) for i in range(ELEMENTS)] for k in range(len(found.keys))]
    rule_cells = [[cells(twin_edges(edges_of(x))) for x in of_key] for of_key in middles]
    flat = [cell for of_key in rule_cells for cell in of_key]
    inside = np.array(list(itertools.product(*(x for x, _ in flat)))).reshape(-1, len(found.keys), ELEMENTS)
    volumes = np.array([math.prod(x) for x in itertools.product(*(v for _, v in flat))])
    n, m = len(found.weights), len(volumes)
    numbers = np.repeat(found.numbers, m, axis=0), np.tile(inside, (n, 1, 1))
    return Sums(found.keys, numbers, np.repeat(found.weights, m) * np.tile(volumes, n))


def edges_of(middles: np.ndarray) -> list[float]:
    """Of the cells with these middles, without 0 and 1."""
    edges = [0.0]
    for middle in middles:
        edges.append(2 * middle - edges[-1])
    return edges[1:-1]


def twin_edges(tails: Sequence[float]) -> list[float]:
    """Where twins come to differ, of coins with these probabilities of tails."""
    ratios = sorted(min(q / (1 - q), (1 - q) / q) for q in tails)
    return [x for i, x in enumerate(ratios) if x < 1 - 1e-9 and (i == 0 or x - ratios[i - 1] > 1e-11)]


def cells(edges: Sequence[float]) -> tuple[list[float], list[float]]:
    pairs = list(itertools.pairwise([0.0, *edges, 1.0]))
    return [(a + b) / 2 for a, b in pairs], [b - a for a, b in pairs]


@contextmanager
def forced_coins(keys: np.ndarray, numbers: Array, inside: Array) -> Iterator[None]:
    def given(key: Array, like: Array) -> Array:
        return row_of(key, of_rules(keys), inside)[: like.size].reshape(like.shape)

    with elements_apart(), forced(keys, numbers), mock.patch.object(disarm, "inside", given):
        yield


def coin_error(name: str, rule: Any, scored: str = "") -> float:
    case = EVERY[name]
    return largest(mean_of(case, rules_of(case, rule, scored), coin_sums(name), forced_coins), exact(case))


def triangle_cells(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centroids and probabilities of the polygons of shares within which no comparison changes, for any of these p."""
    pairs = list(itertools.permutations(range(FACES), 2))
    normals = [
        p[k] * np.eye(FACES)[a] - p[i] * np.eye(FACES)[b] for p in probabilities for i, k in pairs for a, b in pairs
    ]
    polygons = [np.eye(FACES)]
    for normal in normals:
        polygons = [part for polygon in polygons for part in halves(polygon, normal / np.linalg.norm(normal))]
    found = [centroid(polygon) for polygon in polygons]
    return np.array([x for x, _ in found]), np.array([area for _, area in found])


def halves(polygon: np.ndarray, normal: np.ndarray) -> list[np.ndarray]:
    heights = polygon @ normal
    if np.all(heights > -1e-12) or np.all(heights < 1e-12):
        return [polygon]
    parts: tuple[list, list] = [], []
    for x, y, h, g in zip(polygon, np.roll(polygon, -1, 0), heights, np.roll(heights, -1), strict=True):
        for part, sign in zip(parts, (1, -1), strict=True):
            if sign * h >= 0:
                part.append(x)
            if h * g < 0:
                part.append((x * g - y * h) / (g - h))
    return [np.array(part) for part in parts]


def centroid(polygon: np.ndarray) -> tuple[np.ndarray, float]:
    fan = [np.stack([polygon[0], x, y]) for x, y in itertools.pairwise(polygon[1:])]
    areas = np.array([abs(np.linalg.det(corners)) for corners in fan])  # that of the whole triangle is 1
    middles = np.array([np.mean(corners, axis=0) for corners in fan])
    area = np.sum(areas)
    return (areas @ middles / area if area > 0 else middles[0]), area


def table_of(distribution: Any) -> Array:
    """The probabilities of each element, [ELEMENTS, FACES], padded by even ones."""
    probabilities = jnp.moveaxis(distributions.element_probs(distribution), 0, -1)
    probabilities = probabilities.reshape(-1, probabilities.shape[-1])
    missing = ELEMENTS - probabilities.shape[0], FACES - probabilities.shape[1]
    padded = jnp.pad(probabilities, [(0, 0), (0, missing[1])])
    return jnp.concatenate([padded, jnp.tile(jnp.eye(FACES)[:1], (missing[0], 1))])


@contextmanager
def forced_dice(keys: np.ndarray, shares: Array) -> Iterator[None]:
    def sample(distribution: Any, key: Array) -> Array:
        element = distributions.elementwise(distribution)
        faces = jnp.argmin(row_of(key, keys, shares) / table_of(distribution), axis=-1)
        return faces[: math.prod(element.batch_shape)].reshape(element.batch_shape)

    def given(key: Array, value: Array, probabilities: Array) -> Array:
        return row_of(key, of_rules(keys), shares)[: value.size].reshape(probabilities.shape)

    with sampling_by(sample), mock.patch.object(arsm, "exponentials_of", given):
        yield


class Recording:
    """A handler of draws that keeps the key and the probabilities of each."""

    def draw(self, site: Any, index: tuple[Array, ...], operands: Sequence[Array]) -> tuple[list[Array], Any]:
        def one(key: Array, *arrays: Array) -> tuple[Array, Array]:
            with distributions.numpyro_promotion():
                return jax.random.key_data(jax.random.clone(key)), table_of(site.structure.build(arrays))

        return sample_leaves(site.structure, site.lanes)(*operands), over_lanes(one, site.lanes)(*operands)

    def loop(self, run: Any, operation: Any, inputs: list[Array]) -> Any:
        raise AssertionError("a while loop has no finite number of outcomes")


@functools.cache
def dice_sums(name: str) -> Sums:
    case = EVERY[name]
    program, _ = staging.stage(lambda key, *args: case.program(key, *args), jax.random.key(0), *case.args)
    run = jax.random.key_data(RUNS)[0]

    def record(keys: np.ndarray, shares: Array) -> tuple[Array, Array]:
        with forced_dice(keys, shares):
            inputs = [jax.random.wrap_key_data(run), *case.args]
            found = list(interpretation.run(program, inputs, Recording())[1].values())
        return (
            jnp.concatenate([key.reshape(-1, 2) for key, _ in found]),
            jnp.concatenate([p.reshape(-1, ELEMENTS, FACES) for _, p in found]),
        )

    keys = np.asarray(record(np.zeros((1, 2), np.uint32), jnp.full((1, ELEMENTS, FACES), 1 / FACES))[0])
    # Any way in which the dice can fall shows what the later ones can be like: 500 show them all.
    shares = np.random.default_rng(0).dirichlet(np.ones(FACES), (500, len(keys), ELEMENTS))
    tables = np.asarray(jax.lax.map(functools.partial(record, keys), jnp.asarray(shares), batch_size=100)[1])
    found = []
    for of_element in tables.reshape(len(tables), -1, FACES).swapaxes(0, 1):
        seen = np.unique(np.round(of_element, 14), axis=0)
        certain = np.any(np.isclose(seen, 1))
        found.append((np.full((1, FACES), 1 / FACES), np.ones(1)) if certain else triangle_cells(seen))
    numbers = np.stack([np.stack(x) for x in itertools.product(*(centres for centres, _ in found))])
    weights = functools.reduce(np.multiply.outer, [areas for _, areas in found]).ravel()
    return Sums(keys, (numbers.reshape(-1, len(keys), ELEMENTS, FACES),), weights)


def dice_error(name: str, rule: Any) -> float:
    case = EVERY[name]
    return largest(mean_of(case, rules_of(case, rule, "c"), dice_sums(name), forced_dice), exact(case))
