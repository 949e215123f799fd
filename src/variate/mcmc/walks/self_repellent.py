"""The self-repellent walk: a walk on a graph that goes where it has been least."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Key

from ..base import Info, unbound
from .graph import graph_of


class State(NamedTuple):
    position: Float[Array, " 1"]  # the node
    visits: Int[Array, " n"]


class SelfRepellent(eqx.Module):
    r"""A walk on a `Graph` that shuns nodes it has visited often: $K_{ij}[x] \propto P_{ij}\, (x_j / \mu_j)^{-\alpha}$.

    P is the walk of Metropolis and Hastings, which leaves $\mu$ invariant, and x the share of each node in the visits
    so far: $x_0 = \mu$ and $x_n = x_{n-1} + (\delta_{i_n} - x_{n-1}) / (n + 1)$. With $\lambda_k$ the eigenvalues of P
    and $f_k$ the coefficients of f in its eigenvectors, the mean of f over n steps has a variance near

    $$\frac 1 n \sum_{\lambda_k < 1} \frac{1}{2 \alpha (1 + \lambda_k) + 1}\, \frac{1 + \lambda_k}{1 - \lambda_k}\,
    f_k^2,$$

    and $\alpha = 0$ is P itself. It is no Markov chain and leaves nothing invariant: means tend to those under $\mu$ as
    walks get longer. Those over n steps from the first are off by some c / n, which shows beside their spread. Means
    over n steps that come after b others whose visits count too, those of the warm-up, are off by far less where b is
    fifteen times the number of nodes or more; it costs 1 + 2 b / n times the variance.

    Steps that are near each other depend on each other as those of P do, and what makes means better is of the length
    of the walk: errors by autocorrelations are those of P, far too large. So `Draws.expect` takes the error from the
    means of walks, which do not know of each other, and more than four of them make it better known; so does
    `vt.mcmc.fold`. Effective draws, and rules that end a run, know of P only and are on the safe side.

    Choose it for means over the nodes of a graph on which one has to go from neighbour to neighbour. The wrong choice
    where any node can be drawn (`HeatBath`); for walks that cannot see each node many times; for means over so many
    walks that their bias shows, longer ones are better; for quantiles, which have no error bar; and with `thin`, as
    only the mean over all steps is better than that of P.

    Raises:
        TypeError: while it runs, a target that is no `Graph`.
        ValueError: an alpha that is negative or not finite.

    Source: Doshi, Hu and Eun (2023), Self-repellent random walks on general graphs - achieving minimal sampling
    variance via nonlinear Markov chains, ICML, PMLR 202, 8403-8423.
    """

    alpha: float | Float[Array, ""]
    log_density: Any = eqx.field(default=unbound, kw_only=True)  # a Graph

    def __check_init__(self) -> None:
        if not isinstance(self.alpha, Tracer) and not (np.isfinite(self.alpha) and self.alpha >= 0):
            raise ValueError(f"alpha must be finite and not negative, got {self.alpha}")

    @property
    def history(self) -> bool:
        """Whether a step depends on more than the one before."""
        return isinstance(self.alpha, Tracer) or bool(self.alpha != 0)

    def init(self, key: Key[Array, ""], position: Float[Array, " 1"]) -> State:
        return State(position, jnp.zeros(graph_of(self.log_density).counts, int))

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        graph = graph_of(self.log_density)
        node = graph.constrain(state.position[0])
        nodes, log_p = graph.ways(node)
        share = jnp.exp(graph.log_weights - jax.nn.logsumexp(graph.log_weights))[nodes]
        log_k = log_p - self.alpha * jnp.log1p(state.visits[nodes].astype(share.dtype) / share)
        there = nodes[jax.random.categorical(key, log_k)]
        visits = state.visits.at[there].add(1)
        moves = 1 - jax.nn.softmax(log_k)[-1]
        position = there.astype(state.position.dtype)[None]
        return State(position, visits), Info(moves, there != node, jnp.isnan(moves), jnp.sum(log_p > -jnp.inf))
