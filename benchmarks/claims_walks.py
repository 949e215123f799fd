"""The claims of papers on walks on graphs."""

import jax
import jax.numpy as jnp
import numpy as np
from claim import Claim, verdict

import variate as vt

# Zachary (1977), An information flow model for conflict and fission in small groups, figure 3: members of a karate club
# who met outside of it, numbered from 0; of each pair, the larger number in the row of the smaller.
CLUB = {
    0: (1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 17, 19, 21, 31),
    1: (2, 3, 7, 13, 17, 19, 21, 30),
    2: (3, 7, 8, 9, 13, 27, 28, 32),
    3: (7, 12, 13),
    4: (6, 10),
    5: (6, 10, 16),
    6: (16,),
    8: (30, 32, 33),
    **dict.fromkeys((9, 13, 19, 27, 32), (33,)),
    **dict.fromkeys((14, 15, 18, 20, 22, 29, 30, 31), (32, 33)),
    23: (25, 27, 29, 32, 33),
    24: (25, 27, 31),
    25: (31,),
    26: (29, 33),
    28: (31, 33),
}
NODES, STEPS = 34, 10_000
ALPHAS = (0.0, 1.0, 5.0, 20.0)


def club() -> vt.mcmc.Graph:
    matrix = np.zeros((NODES, NODES), int)
    for one, others in CLUB.items():
        matrix[one, list(others)] = matrix[list(others), one] = 1
    return vt.mcmc.Graph.of_adjacency(matrix)


def theory(graph: vt.mcmc.Graph, alpha: float) -> float:
    """The asymptotic variances of the shares of nodes in the visits, summed; all nodes are alike, P is symmetric."""

    def row(node: jax.Array) -> jax.Array:
        nodes, log_p = graph.ways(node)
        return jnp.zeros(NODES).at[nodes].add(jnp.exp(log_p))

    values = jnp.linalg.eigvalsh(jax.vmap(row)(jnp.arange(NODES)))[:-1]
    return float(jnp.sum((1 + values) / (1 - values) / (2 * alpha * (1 + values) + 1)) / NODES)


def measured(graph: vt.mcmc.Graph, alpha: float, walks: int) -> tuple[float, float, float]:
    """The same of walks, its standard error, and the squared bias in units of the variance."""
    kernel = vt.mcmc.SelfRepellent(alpha, log_density=graph)

    def shares(key: jax.Array) -> jax.Array:
        k1, k2, k3 = jax.random.split(key, 3)
        state = kernel.init(k1, jax.random.randint(k2, (1,), 0, NODES).astype(float))
        keys = jax.random.split(k3, STEPS)
        return jax.lax.scan(lambda state, key: (kernel.step(key, state)[0], None), state, keys)[0].visits / STEPS

    found = jax.jit(jax.vmap(shares))(jax.random.split(jax.random.key(10), walks))
    squares = STEPS * jnp.sum((found - jnp.mean(found, 0)) ** 2, 1) * walks / (walks - 1)
    variance, off = float(jnp.mean(squares)), float(jnp.sum((jnp.mean(found, 0) - 1 / NODES) ** 2))
    return variance, float(jnp.std(squares) / walks**0.5), (STEPS * off - variance / walks) / variance


def self_repellent(walks: int) -> Claim:
    graph, said, holds = club(), [], []
    for alpha in ALPHAS:
        known, (variance, error, bias) = theory(graph, alpha), measured(graph, alpha, walks)
        said.append(f"{alpha:g}: {variance:.3g} ± {error:.1g} where {known:.3g} is predicted, bias {bias:.2g}")
        holds.append(abs(variance - known) < 3 * error)
    return Claim(
        "Doshi, Hu and Eun (2023), self-repellent random walks",
        "the asymptotic variance is less the larger alpha is, and of the order 1 / alpha",
        f"a karate club of {NODES} members, all alike, {walks} walks of {STEPS} steps; variances of the shares of all "
        "nodes in the visits, summed, times steps, and the squared bias in units of it, by alpha; " + "; ".join(said),
        verdict(all(holds), "within three errors of the formula from the eigenvalues of the walk below"),
    )
