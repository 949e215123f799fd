"""Walks on graphs: every path with its probability, errors of what remembers, and graphs that are none."""

import dataclasses
import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernels.law import LIMIT
from scipy import sparse, stats

import variate as vt
from variate.mcmc import Graph, HeatBath, SelfRepellent
from variate.mcmc.choice import chosen
from variate.protocols import Kernel, Target

KITE = np.array([[1, 2, -1], [0, 2, -1], [0, 1, 3], [2, -1, -1]])  # a triangle, and a node that hangs on it
WEIGHTS = np.array([1.0, 2.0, 0.5, 1.5])
GRAPH = Graph(KITE, WEIGHTS)
ALPHA, STEPS, PATHS = 1.5, 4, 40_000


def walk() -> np.ndarray:
    """P of Metropolis and Hastings, entry by entry."""
    degrees, matrix = (KITE >= 0).sum(1), np.zeros((4, 4))
    for i, row in enumerate(KITE):
        for j in row[row >= 0]:
            matrix[i, j] = min(1, WEIGHTS[j] * degrees[i] / (WEIGHTS[i] * degrees[j])) / degrees[i]
    return matrix + np.diag(1 - matrix.sum(1))


def paths() -> dict[tuple[int, ...], float]:
    """The probability of each path from node 0, by the definition."""
    matrix, mu, found = walk(), WEIGHTS / WEIGHTS.sum(), {}
    for path in itertools.product(range(4), repeat=STEPS):
        at, shares, probability = 0, mu.copy(), 1.0
        for n, node in enumerate(path):
            row = matrix[at] * (shares / mu) ** -ALPHA
            probability *= row[node] / row.sum()
            shares += (np.eye(4)[node] - shares) / (n + 2)
            at = node
        if probability > 0:
            found[path] = probability
    return found


class Attracted(SelfRepellent):
    """It goes where it has been."""

    def step(self, key: jax.Array, state: Any) -> tuple:
        turned: Any = SimpleNamespace(alpha=-self.alpha, log_density=self.log_density)
        return SelfRepellent.step(turned, key, state)


class Forgetful(SelfRepellent):
    """Visits do not count."""

    def step(self, key: jax.Array, state: Any) -> tuple:
        after, info = SelfRepellent.step(self, key, state)
        return after._replace(visits=state.visits), info


class Late(SelfRepellent):
    """Visits count where a step begins, not where it ends."""

    def step(self, key: jax.Array, state: Any) -> tuple:
        after, info = SelfRepellent.step(self, key, state)
        return after._replace(visits=state.visits.at[state.position[0].astype(int)].add(1)), info


class Even(SelfRepellent):
    """Weights of nodes are forgotten where visits are compared."""

    def step(self, key: jax.Array, state: Any) -> tuple:
        mu = jnp.asarray(WEIGHTS / WEIGHTS.sum())
        after, info = SelfRepellent.step(self, key, state._replace(visits=4 * mu * state.visits.astype(float)))
        return after._replace(visits=state.visits.at[after.position[0].astype(int)].add(1)), info


def p_value(kernel: Any, key: jax.Array) -> float:
    """Of the numbers of paths, beside their probabilities."""

    def path(key: jax.Array) -> jax.Array:
        own, rest = jax.random.split(key)

        def step(state: Any, key: jax.Array) -> tuple:
            state = kernel.step(key, state)[0]
            return state, state.position[0].astype(int)

        return jax.lax.scan(step, kernel.init(own, jnp.zeros(1)), jax.random.split(rest, STEPS))[1]

    found = np.asarray(jax.jit(jax.vmap(path))(jax.random.split(key, PATHS)))
    known = paths()
    counts = dict.fromkeys(known, 0)
    for row in map(tuple, found.tolist()):
        if row not in counts:
            return 0.0
        counts[row] += 1
    expected, observed = PATHS * np.array(list(known.values())), np.array(list(counts.values()))
    rare = expected < 10
    expected, observed = (np.append(x[~rare], x[rare].sum()) for x in (expected, observed))
    return float(stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue)


def test_paths_are_as_likely_as_the_definition_says(key: jax.Array) -> None:
    assert p_value(SelfRepellent(ALPHA, log_density=GRAPH), key) > 1e-6


@pytest.mark.parametrize("mutant", [Attracted, Forgetful, Late, Even])
def test_a_wrong_walk_is_seen(mutant: Any, key: jax.Array) -> None:
    assert p_value(mutant(ALPHA, log_density=GRAPH), key) < 1e-6


def test_the_walk_below_is_that_of_metropolis_and_hastings() -> None:
    def row(node: jax.Array) -> jax.Array:
        nodes, log_p = GRAPH.ways(node)
        return jnp.zeros(4).at[nodes].add(jnp.exp(log_p))

    found = jax.jit(jax.vmap(row))(jnp.arange(4))
    assert jnp.allclose(found, walk(), rtol=0, atol=1e-15)
    flows = WEIGHTS[:, None] * np.asarray(found)
    assert np.allclose(flows, flows.T, rtol=0, atol=1e-15)
    # On a graph whose nodes are all alike it never stays, not even by rounding.
    ring = Graph(np.stack([(np.arange(7) + 1) % 7, (np.arange(7) - 1) % 7], 1), np.full(7, 0.3))
    assert jnp.all(jnp.isneginf(jax.jit(jax.vmap(lambda node: ring.ways(node)))(jnp.arange(7))[1][:, -1]))


def test_a_graph_is_a_target_however_it_is_written() -> None:
    matrix = np.zeros((4, 4))
    for i, row in enumerate(KITE):
        matrix[i, row[row >= 0]] = 1
    assert isinstance(GRAPH, Target)
    for form in (matrix, sparse.csr_array(matrix), matrix.tolist()):
        assert np.array_equal(Graph.of_adjacency(form, WEIGHTS).neighbours, KITE)
    assert jnp.allclose(jax.vmap(GRAPH.log_density)(jnp.arange(4.0)), jnp.log(WEIGHTS))
    assert jnp.all(jnp.isneginf(jax.vmap(GRAPH.log_density)(jnp.array([-1.0, 0.5, 4.0]))))


def test_errors_are_those_of_means_of_walks(key: jax.Array, tmp_path: Any) -> None:
    kernel, true = SelfRepellent(10.0), float(WEIGHTS[3] / WEIGHTS.sum())
    draws = vt.sample(key, GRAPH, kernel=kernel, num_samples=400, num_warmup=100, num_chains=8)
    assert isinstance(kernel, Kernel)
    assert draws.values.dtype == np.int64
    last = (draws.values == 3).astype(float)
    found = draws.expect(lambda node: node == 3)
    assert found.degrees == 7
    assert np.isclose(found.stderr, last.mean(1).std(ddof=1) / 8**0.5, rtol=1e-12)
    assert abs(found.value - true) < stats.t.isf(0.5e-6, 7) * found.stderr
    assert draws.summary(lambda node: node == 3).rows[0].error == found.stderr
    assert kernel.history
    assert not SelfRepellent(0.0).history
    assert jnp.isnan(draws.quantile(0.5).stderr)
    assert not draws.quantile(0.5).converged
    means = vt.mcmc.fold(jax.random.clone(key), GRAPH, lambda node: node == 3, kernel=kernel, num_samples=400)
    assert abs(means.expect().value - true) < LIMIT * means.expect().stderr
    with pytest.raises(TypeError, match="kernel must forget"):
        vt.mcmc.stream(key, GRAPH, tmp_path / "walk.zarr", kernel=kernel)


def test_without_a_kernel_nodes_are_drawn_independently(key: jax.Array) -> None:
    kernel = dataclasses.replace(chosen(GRAPH), log_density=lambda x: GRAPH.log_density(x[0]))
    assert isinstance(kernel, HeatBath)
    k1, k2 = jax.random.split(key)
    start = kernel.init(k1, jnp.zeros(1))
    drawn = jax.jit(jax.vmap(lambda key: kernel.step(key, start)[0].position[0]))(jax.random.split(k2, 4_000))
    counts = np.bincount(np.asarray(drawn).astype(int), minlength=4)
    assert stats.chisquare(counts, 4_000 * WEIGHTS / WEIGHTS.sum()).pvalue > 1e-6


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_walk_keeps_to_its_precision(dtype: Any, key: jax.Array) -> None:
    graph = Graph(KITE, WEIGHTS.astype(dtype))
    kernel = SelfRepellent(ALPHA, log_density=graph)
    k1, k2 = jax.random.split(key)
    state, info = jax.jit(lambda key, state: kernel.step(key, state))(k2, kernel.init(k1, jnp.zeros(1, dtype)))
    assert {x.dtype for x in (state.position, info.acceptance)} == {jnp.dtype(dtype)}


def test_another_target_is_refused(key: jax.Array) -> None:
    with pytest.raises(TypeError, match="log_density must be of the nodes of a graph"):
        SelfRepellent(1.0, log_density=lambda x: -x @ x).init(key, jnp.zeros(1))


REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: SelfRepellent(-1.0), ValueError, "alpha must be finite and not negative"),
    (lambda: Graph(KITE / 1.0), TypeError, "neighbours must be integers"),
    (lambda: Graph(KITE + 2), ValueError, "neighbours must be rows of nodes 0 to n - 1"),
    (lambda: Graph(np.array([[1], [2], [1]])), ValueError, "neighbours must be mutual, got nodes 0 and 1"),
    (lambda: Graph(np.array([[1, 1], [0, 0]])), ValueError, "neighbours must be other nodes, each once"),
    (lambda: Graph(np.array([[0, 1], [0, -1]])), ValueError, "neighbours must be other nodes, each once"),
    (lambda: Graph(np.array([[1], [0], [3], [2]])), ValueError, "neighbours must make one piece, got 2"),
    (lambda: Graph(KITE, WEIGHTS[:3]), ValueError, "weights must be one for each of 4 nodes"),
    (lambda: Graph(KITE, WEIGHTS - 1), ValueError, "weights must be positive and finite"),
    (lambda: Graph.of_adjacency(np.ones((2, 3))), ValueError, r"matrix must be square, got shape \(2, 3\)"),
]


@pytest.mark.parametrize(("make", "kind", "words"), REFUSED)
def test_what_makes_no_sense_is_refused(make: Callable[[], Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        make()
