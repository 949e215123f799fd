"""Targets on the nodes of a graph, and the walk of Metropolis and Hastings that leaves them invariant."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Key
from scipy import sparse

from variate.checks import describe
from variate.running.chains import Flat
from variate.trees import as_float


class Graph(eqx.Module):
    r"""The law $\mu_i \propto w_i$ on the nodes $i = 0, \dots, n - 1$ of an undirected, connected graph.

    A `Target` whose values are nodes, integers; `SelfRepellent` walks on it from neighbour to neighbour. Without a
    kernel `vt.sample` draws nodes from $\mu$ itself, independently (`HeatBath`): where all weights are at hand and any
    node may be gone to, no walk is better.

    `Graph.of_adjacency(matrix, weights)` makes it of a matrix, dense or of SciPy's sparse ones, that is not 0 where two
    nodes are neighbours.

    Args:
        neighbours: of each node, in any order; rows of nodes with fewer than the most end with -1.
        weights: w, of each node, all alike if left out: means are then those over nodes. With their degrees as weights
            the walk is the simple one.

    Raises:
        TypeError: neighbours that are no integers.
        ValueError: neighbours that are not mutual, are twice the same, or are the node itself; a graph in more than one
            piece; weights that are not positive or not one for each node; more nodes than their dtype counts.

    Wrong for a graph whose edges have directions or weights of their own.
    """

    log_weights: Float[Array, " n"]
    neighbours: Int[Array, "n most"]

    def __init__(self, neighbours: Any, weights: Any = None):
        rows = np.asarray(neighbours)
        if not np.issubdtype(rows.dtype, np.integer):
            raise TypeError(f"neighbours must be integers, got {describe(neighbours)}")
        if rows.ndim != 2 or not rows.size or np.any((rows < -1) | (rows >= len(rows))):
            raise ValueError(f"neighbours must be rows of nodes 0 to n - 1, and -1 for none, got shape {rows.shape}")
        _check_edges(rows)
        weights = jnp.ones(len(rows)) if weights is None else as_float(jnp.asarray(weights))
        if weights.shape != (len(rows),):
            raise ValueError(f"weights must be one for each of {len(rows)} nodes, got shape {weights.shape}")
        if not isinstance(weights, Tracer) and not bool(jnp.all((weights > 0) & jnp.isfinite(weights))):
            raise ValueError(f"weights must be positive and finite, got {weights}")
        if len(rows) > 1 / jnp.finfo(weights.dtype).eps:
            raise ValueError(f"neighbours must be of nodes that {weights.dtype} can count, got {len(rows)}")
        self.log_weights, self.neighbours = jnp.log(weights), jnp.asarray(rows)

    @staticmethod
    def of_adjacency(matrix: Any, weights: Any = None) -> "Graph":
        """Of a square matrix that is not 0 where two nodes are neighbours."""
        if (shape := np.shape(matrix) or getattr(matrix, "shape", ())) != 2 * shape[:1]:
            raise ValueError(f"matrix must be square, got shape {shape}")
        found = sparse.csr_array(matrix)
        found.eliminate_zeros()
        degrees = np.diff(found.indptr)
        rows = np.full((len(degrees), max(1, degrees.max(initial=0))), -1)
        rows[np.arange(rows.shape[1]) < degrees[:, None]] = found.indices
        return Graph(rows, weights)

    @property
    def counts(self) -> int:
        """How many values its one coordinate has."""
        return len(self.neighbours)

    def start(self, key: Key[Array, ""]) -> Float[Array, ""]:
        return jax.random.randint(key, (), 0, self.counts).astype(self.log_weights.dtype)

    def log_density(self, position: Float[Array, ""]) -> Float[Array, ""]:
        node = self.constrain(position)
        # A sampler of real numbers finds no mass between nodes, and stands still.
        there = (position == node.astype(position.dtype)) & (node >= 0) & (node < self.counts)
        return jnp.where(there, self.log_weights[node], -jnp.inf).astype(position.dtype)

    def constrain(self, position: Float[Array, ""]) -> Int[Array, ""]:
        return jnp.round(position).astype(int)

    def unconstrain(self, values: Any) -> Float[Array, ""]:
        return jnp.asarray(values, self.log_weights.dtype)

    def ways(self, node: Int[Array, ""]) -> tuple[Int[Array, " ways"], Float[Array, " ways"]]:
        r"""Where the walk of Metropolis and Hastings goes next, the node itself last, and $\log P$ of each.

        $P_{ij} = \frac{1}{d_i} \min\left(1, \frac{w_j d_i}{w_i d_j}\right)$ for neighbours, d their numbers of
        neighbours; else it stays.

        Source: Hastings (1970), Biometrika 57(1), 97-109, section 2.
        """
        nodes = self.neighbours[node]
        there, others = nodes >= 0, jnp.maximum(nodes, 0)
        per_degree = self.log_weights[others] - jnp.log(self._degree(others))
        degree = self._degree(node)
        log_ratio = jnp.minimum(per_degree - self.log_weights[node] + jnp.log(degree), 0)
        stays = jnp.sum(jnp.where(there, -jnp.expm1(log_ratio), 0)) / degree
        log_p = jnp.append(jnp.where(there, log_ratio - jnp.log(degree), -jnp.inf), jnp.log(stays))
        return jnp.append(others, node), log_p

    def _degree(self, nodes: Int[Array, "*nodes"]) -> Float[Array, "*nodes"]:
        return jnp.sum(self.neighbours[nodes] >= 0, -1).astype(self.log_weights.dtype)


def graph_of(log_density: Any) -> Graph:
    """What a kernel was given as its density; raises TypeError unless it is known as a graph."""
    target = log_density.target if isinstance(log_density, Flat) else log_density
    if not isinstance(target, Graph):
        raise TypeError(
            "log_density must be of the nodes of a graph, vt.mcmc.Graph(neighbours, weights), for a kernel that walks "
            f"from neighbour to neighbour, got {describe(target)}"
        )
    return target


def _check_edges(rows: np.ndarray) -> None:
    node, slot = np.nonzero(rows >= 0)
    matrix = sparse.csr_array((np.ones(len(node)), (node, rows[node, slot])), shape=(len(rows), len(rows)))
    matrix.sum_duplicates()
    if np.any(matrix.data > 1) or np.any(matrix.diagonal() > 0):
        raise ValueError("neighbours must be other nodes, each once")
    if (matrix != matrix.T).nnz:
        one, other = (x[0] for x in (matrix != matrix.T).nonzero())
        raise ValueError(f"neighbours must be mutual, got nodes {one} and {other}, of which only one has the other")
    if (pieces := sparse.csgraph.connected_components(matrix)[0]) > 1:
        raise ValueError(f"neighbours must make one piece, got {pieces}: no walk goes from one to another")
