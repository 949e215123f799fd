"""All outcomes of a finite program, so that an expectation over what the library does with it is a sum."""

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
from variate.programs import distributions, interpretation, staging
from variate.programs.primitive import over_lanes, sample_leaves


class Outcomes(NamedTuple):
    """Every way in which one run can come out.

    A draw, at one step of its loops and in one lane, is a slot; it has a key for each run that is looked at.
    """

    keys: np.ndarray  # [runs, slots, 2]
    values: np.ndarray  # [outcomes, slots, elements], as places in the support
    probabilities: np.ndarray  # [outcomes]


def support(distribution: Any) -> Array:
    return jnp.ravel(jnp.asarray(distribution.enumerate_support(expand=False)))


@contextmanager
def forced(keys: Any, values: Array) -> Iterator[None]:
    """Sampling with the key `keys[i]` gives the elements `values[i]` of the support, with another key the first."""

    def sample(distribution: Any, key: Array) -> Array:
        here = jnp.all(jax.random.key_data(jax.random.clone(key))[None] == jnp.asarray(keys), axis=1)
        row = jnp.where(jnp.any(here), values[jnp.argmax(here)], 0)
        shape = distribution.batch_shape
        return support(distribution)[row[: math.prod(shape)].reshape(shape)]

    with mock.patch.object(distributions, "sample", sample):
        yield


class Recording:
    """A handler of draws that keeps the key and the log probability of each slot."""

    def __init__(self) -> None:
        # By the index of the draw: the size of its support and its elements, and in how many slots it is.
        self.sizes: dict[int, tuple[int, int]] = {}
        self.slots: dict[int, int] = {}

    def draw(self, site: Any, index: tuple[Array, ...], operands: Sequence[Array]) -> tuple[list[Array], Any]:
        def one(key: Array, *arrays: Array) -> tuple[Array, Array]:
            distribution = site.structure.build(arrays)
            self.sizes[site.index] = support(distribution).size, math.prod(distribution.batch_shape)
            with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
                log_prob = jnp.sum(distribution.log_prob(distributions.sample(distribution, key)))
            return jax.random.key_data(jax.random.clone(key)), log_prob

        return sample_leaves(site.structure, site.lanes)(*operands), over_lanes(one, site.lanes)(*operands)

    def loop(self, run: Any, operation: Any, inputs: list[Array]) -> Any:
        raise AssertionError("a while loop has no finite number of outcomes")


def outcomes(f: Callable[..., Any], args: tuple, runs: Array) -> Outcomes:
    """Of `f(key, *args)` for every key of `runs`; which keys it uses may not depend on what it draws."""
    runs = jax.random.key_data(runs)
    numbers, static = trees.split(args)
    program, _ = staging.stage(
        lambda key, *numbers: f(key, *trees.join(list(numbers), static)), jax.random.key(0), *numbers
    )
    handler = Recording()

    @jax.jit
    def record(run: Array, keys: Array, values: Array) -> tuple[Array, Array]:
        def one(values: Array) -> tuple[Array, Array]:
            with forced(keys, values):
                _, records = interpretation.run(program, [jax.random.wrap_key_data(run), *numbers], handler)
            found = [records[site] for site in sorted(records)]
            for site, (_, log_prob) in records.items():
                handler.slots[site] = log_prob.size
            return (
                jnp.concatenate([key.reshape(-1, 2) for key, _ in found]),
                jnp.concatenate([log_prob.reshape(-1) for _, log_prob in found]),
            )

        return jax.vmap(one)(values)

    jax.eval_shape(record, runs[0], jnp.zeros((1, 2), jnp.uint32), jnp.zeros((1, 1, 64), int))
    values = every_value([handler.sizes[site] for site in sorted(handler.slots) for _ in range(handler.slots[site])])
    keys = np.zeros((len(runs), values.shape[1], 2), np.uint32)
    while True:  # a slot in a branch shows its key only once the branch is taken
        found, log_probs = zip(*(record(run, known, values) for run, known in zip(runs, keys, strict=True)), strict=True)
        keys, known = np.max(found, axis=1), keys
        if np.array_equal(known, keys):
            break
    # Slots in different branches may share a key; the first of them speaks for all.
    same = np.all(keys[0][:, None] == keys[0][None], axis=2)
    speaks = np.argmax(same, axis=1) == np.arange(len(same))
    used = np.any(np.asarray(found[0]) != 0, axis=2) @ same & speaks
    kept = np.all(used[:, :, None] | (values == 0), axis=(1, 2))
    probabilities = np.exp(np.sum(np.asarray(log_probs[0]), axis=1))[kept]
    np.testing.assert_allclose(np.sum(probabilities), 1, rtol=1e-12)
    return Outcomes(keys, values[kept], probabilities)


def every_value(slots: Sequence[tuple[int, int]]) -> np.ndarray:
    """[outcomes, slots, elements]"""
    width = max(elements for _, elements in slots)
    ranges = [range(size if e < elements else 1) for size, elements in slots for e in range(width)]
    return np.array(list(itertools.product(*ranges))).reshape(-1, len(slots), width)


class Sum(NamedTuple):
    """Of what an estimator returns, over all outcomes of all its runs."""

    mean: Any
    second: Any  # of squares

    @property
    def variance(self) -> Any:
        return jax.tree.map(lambda second, mean: second - mean**2, self.second, self.mean)


def over_all(estimator: Callable[[], Any], found: Outcomes) -> Sum:
    """The exact expectation of `estimator()`, a function that makes the runs of `found` and returns arrays."""
    runs, slots = found.keys.shape[:2]
    joint = np.array(list(itertools.product(range(len(found.probabilities)), repeat=runs)))
    weights = np.prod(found.probabilities[joint], axis=1)
    values = found.values[joint].reshape(len(joint), runs * slots, -1)

    @jax.jit
    def results(values: Array) -> Any:
        def one(values: Array) -> Any:
            with forced(found.keys.reshape(-1, 2), values):
                return estimator()

        return jax.vmap(one)(values)

    rows = results(jnp.asarray(values))
    mean = jax.tree.map(lambda x: np.tensordot(weights, x, 1), rows)
    return Sum(mean, jax.tree.map(lambda x: np.tensordot(weights, np.square(x), 1), rows))
