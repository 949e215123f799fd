"""All outcomes of a finite program, so that an expectation over what the library does with it is a sum."""

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
from jax import Array

from variate import trees
from variate.programs import distributions, interpretation, primitive, samplers, staging
from variate.programs.primitive import over_lanes, sample_leaves

# Room for the elements of one draw, and for the values of one element.
ELEMENTS, VALUES = 3, 4
# Outcomes that are run at once while the cells are looked for, so that this compiles once.
BATCH = 64


class Noise(NamedTuple):
    """The uniform numbers behind the draws, cut into cells within which no draw changes, whatever came before it.

    A replay gives a draw another distribution and the same noise, so it is the noise that is to be summed over.
    """

    keys: np.ndarray  # [keys, 2]
    numbers: np.ndarray  # [outcomes, keys, ELEMENTS], one of each cell
    weights: np.ndarray  # [outcomes], the volumes of the cells


def cdf(distribution: Any) -> tuple[Array, Array]:
    """The support of one element, and each element's cumulative probabilities, padded to [ELEMENTS, VALUES]."""
    support = distribution.enumerate_support(expand=False)
    with distributions.numpyro_promotion():
        below = jnp.cumsum(jnp.exp(distributions.log_prob(distribution, support)), axis=0).reshape(len(support), -1).T
    shape = ELEMENTS - below.shape[0], VALUES - below.shape[1]
    return jnp.ravel(jnp.asarray(support)), jnp.pad(below, [(0, shape[0]), (0, shape[1])], constant_values=1)


@contextmanager
def forced(keys: Any, numbers: Array) -> Iterator[None]:
    """Sampling with the key `keys[i]` inverts the distribution function at `numbers[i]`, with another key at 1/2."""

    def sample(distribution: Any, key: Array) -> Array:
        here = jnp.all(jax.random.key_data(jax.random.clone(key))[None] == jnp.asarray(keys), axis=1)
        row = jnp.where(jnp.any(here), numbers[jnp.argmax(here)], 0.5)
        support, below = cdf(distribution)
        places = jnp.sum(row[:, None] >= below[:, : len(support) - 1], axis=1)
        shape = distribution.batch_shape
        return support[places[: math.prod(shape)].reshape(shape)]

    with sampling_by(sample):
        yield


@contextmanager
def sampling_by(sample: Callable[[Any, Array], Any]) -> Iterator[None]:
    """Draws are made by `sample(distribution, key)`, which may hold tracers, so no trace outlives the context."""

    @functools.cache
    def traced_once(function: Callable, static: tuple) -> Callable:
        return jax.jit(functools.partial(function, *static))

    with (
        mock.patch.object(distributions, "sample", sample),
        mock.patch.object(primitive, "_traced_once", traced_once),
        mock.patch.object(samplers, "_cached", functools.cache(samplers._nature)),
    ):
        yield


class Recording:
    """A handler of draws that keeps the key and the distribution function of each."""

    def draw(self, site: Any, index: tuple[Array, ...], operands: Sequence[Array]) -> tuple[list[Array], Any]:
        def one(key: Array, *arrays: Array) -> tuple[Array, Array]:
            return jax.random.key_data(jax.random.clone(key)), cdf(site.structure.build(arrays))[1]

        return sample_leaves(site.structure, site.lanes)(*operands), over_lanes(one, site.lanes)(*operands)

    def loop(self, run: Any, operation: Any, inputs: list[Array]) -> Any:
        raise AssertionError("a while loop has no finite number of outcomes")


def noise(f: Callable[..., Any], args: tuple, runs: Array) -> Noise:
    """Of the runs of `f(key, *args)` with these keys; which keys `f` uses may not depend on what it draws."""
    numbers, static = trees.split(args)
    program, _ = staging.stage(
        lambda key, *numbers: f(key, *trees.join(list(numbers), static)), jax.random.key(0), *numbers
    )

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, None, 0))
    def record(run: Array, keys: Array, values: Array) -> tuple[Array, Array]:
        with forced(keys, values):
            inputs = [jax.random.wrap_key_data(run), *numbers]
            found = interpretation.run(program, inputs, Recording())[1].values()
        keys = jnp.concatenate([key.reshape(-1, 2) for key, _ in found])
        return keys, jnp.concatenate([below.reshape(-1, ELEMENTS, VALUES) for _, below in found])

    cells = [cells_of(functools.partial(record, run)) for run in np.asarray(jax.random.key_data(runs))]
    return Noise(
        np.concatenate([one.keys for one in cells]),
        np.stack([np.concatenate(x) for x in itertools.product(*(one.numbers for one in cells))]),
        np.array([math.prod(x) for x in itertools.product(*(one.weights for one in cells))]),
    )


def cells_of(record: Callable[[np.ndarray, np.ndarray], tuple[Array, Array]]) -> Noise:
    """Of one run. Other outcomes show other distributions and, in branches, other keys: repeat until all are known."""
    positions = record(np.zeros((1, 2), np.uint32), np.full((BATCH, 1, ELEMENTS), 0.5))[0].shape[1]
    cuts: dict[tuple[int, ...], list[set[float]]] = {}
    while True:
        known = np.zeros((positions, 2), np.uint32)
        known[: len(cuts)] = np.array(list(cuts), np.uint32).reshape(-1, 2)
        edges = [[0.0, *sorted(inner), 1.0] for of_key in cuts.values() for inner in of_key]
        middles = list(itertools.product(*([(a + b) / 2 for a, b in itertools.pairwise(x)] for x in edges)))
        volumes = itertools.product(*([b - a for a, b in itertools.pairwise(x)] for x in edges))
        numbers = np.array(middles).reshape(len(middles), len(cuts), ELEMENTS)
        before = sum(map(len, edges))
        for start in range(0, len(numbers), BATCH):
            rows = np.full((BATCH, positions, ELEMENTS), 0.5)
            rows[: len(part), : len(cuts)] = (part := numbers[start : start + BATCH])
            for key, below in zip(*(np.concatenate(np.asarray(x)) for x in record(known, rows)), strict=True):
                if np.any(key):
                    of_key = cuts.setdefault(tuple(key), [set() for _ in range(ELEMENTS)])
                    for inner, new in zip(of_key, below, strict=True):
                        inner |= {float(x) for x in np.round(new, 13) if x < 1 - 1e-9}
        if sum(len(inner) + 2 for of_key in cuts.values() for inner in of_key) == before:
            return Noise(np.array(list(cuts)), numbers, np.array([math.prod(x) for x in volumes]))


class Sum(NamedTuple):
    """Of what an estimator returns, over all outcomes of all its runs."""

    mean: Any
    second: Any  # of squares

    @property
    def variance(self) -> Any:
        return jax.tree.map(lambda second, mean: second - mean**2, self.second, self.mean)


def over_all(estimator: Callable[[], Any], noise: Noise) -> Sum:
    """The exact expectation of `estimator()`, a function that makes the runs of `noise` and returns arrays."""

    @jax.jit
    @jax.vmap
    def results(numbers: Array) -> Any:
        with forced(noise.keys, numbers):
            return estimator()

    rows = results(jnp.asarray(noise.numbers))
    mean = jax.tree.map(lambda x: np.tensordot(noise.weights, x, 1), rows)
    return Sum(mean, jax.tree.map(lambda x: np.tensordot(noise.weights, np.square(x), 1), rows))
