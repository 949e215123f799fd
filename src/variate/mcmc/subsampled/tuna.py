"""Metropolis's random walk on a minibatch of the data, exactly."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from variate.checks import check_fraction, check_positive, check_positive_int
from variate.mcmc.base import Info, Scale, check_scale, given, metropolis, stretched, unbound

from .control import Control, check_center
from .sum import Parts


class State(NamedTuple):
    position: Float[Array, " d"]
    control: Control


class _Batch(NamedTuple):
    """What is known after some chunks of items."""

    key: Key[Array, ""]
    time: Float[Array, ""]  # of the last arrival
    chunks: Int[Array, ""]
    log_ratio: Float[Array, ""]
    violated: Bool[Array, ""]


class TunaMH(eqx.Module):
    r"""A random walk $x' = x + \epsilon S z$ that looks at a random few of the items of a `Sum`, and is exact.

    The user bounds each item: $K_i$ is a Lipschitz constant of the k-th derivative of $\ell(\cdot, y_i)$, in Euclidean
    norms of the position, k the `order`. What $\ell_i$ gains from x to x' beyond its Taylor polynomial of order k about
    the center c, $r_i$, is then at most $K_i M$, $M = |x' - x| \max(|x - c|, |x' - c|)^k / k!$. With
    $C = \sum_i K_i$, $\lambda = \chi C^2 M^2 + C M$ items are looked at on average: a Poisson number of them, each
    drawn in proportion to $K_i$ and kept with probability

    $$\frac{\chi K_i C M^2 + (K_i M - r_i) / 2}{\chi K_i C M^2 + K_i M},$$

    and x' is accepted by the ratio of the priors and of the polynomials, whose sum is known, times
    $\exp\left(2 \sum_{\text{kept}} \operatorname{artanh} \frac{r_i}{K_i M (1 + 2 \chi C M)}\right)$.
    The chain is reversible with respect to the full posterior for all $\epsilon$, S, c and $\chi$. Where
    $\lambda \ge n$ all items are looked at instead, and x' is accepted by the full ratio: that depends on x and x'
    alike, and so it is exact too. Items come in chunks, as many as it takes: no minibatch is cut short.

    A bound that an item is seen to violate is told as `divergent`: the draws are then those of another target. In each
    step one item more, any with the same probability, is looked at for that alone. `evaluations` counts items, of which
    a full density has n: those of all chunks, at x, at x' and, with a center, there.

    Choose it for many items and tight bounds, with the mode as the center (order 1 or 2): on steps of the order of
    $n^{-1/2}$, $C M$ is then of the order 1 or $n^{-1/2}$. The wrong choice without a center, since $C M$ grows like
    $n^{1/2}$; for bounds that are guesses; and where the gradient of all items is affordable and d is more than a few,
    for it is a random walk (`NUTS`).

    Raises:
        ValueError: bounds that are negative, not finite, or not one for each item; a scale, step size or $\chi$ that is
            not positive; no center where the order asks for one.
        TypeError: while it runs, a target that is no `Sum`.

    Sources: Zhang, Cooper and De Sa (2020), Asymptotically optimal exact minibatch Metropolis-Hastings, NeurIPS 33,
    algorithm 2; the polynomials: Cornish, Vanetti, Bouchard-Cote, Deligiannidis and Doucet (2019), Scalable
    Metropolis-Hastings for exact Bayesian inference with large datasets, ICML, and Prado, Nemeth and Sherlock (2024),
    Metropolis-Hastings with scalable subsampling, arXiv:2407.19602.
    """

    bounds: Float[Array, " n"]  # K, one for each item
    center: PyTree = None  # c: a position, best the mode
    order: int = eqx.field(static=True, default=0)  # k: 0, or 1 or 2 with a center
    step_size: float | Float[Array, ""] | None = eqx.field(default=None, kw_only=True)  # epsilon, in units of S
    scale: Scale | None = eqx.field(default=None, kw_only=True)  # S: of each coordinate, or a lower triangle
    chi: float = eqx.field(static=True, default=1.0, kw_only=True)  # more items, and less noise in what is accepted
    chunk: int = eqx.field(static=True, default=32, kw_only=True)  # items that are looked at together
    acceptance: float = eqx.field(static=True, default=0.6, kw_only=True)  # aimed at; long steps cost items
    log_density: Any = eqx.field(default=unbound, kw_only=True)  # a Sum

    def __check_init__(self) -> None:
        check_bounds(self.bounds)
        check_center(self.center, self.order, (0, 1, 2))
        check_scale("step_size", self.step_size)
        check_scale("scale", self.scale)
        check_positive("chi", self.chi)
        check_positive_int("chunk", self.chunk)
        check_fraction("acceptance", self.acceptance)

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        parts = Parts.of(self.log_density)
        if self.bounds.shape != (parts.size,):
            raise ValueError(f"bounds must be one for each of {parts.size} items, got shape {self.bounds.shape}")
        return State(position, Control.about(parts, self.center, self.order))

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_move, key_items, key_accept = jax.random.split(key, 3)
        parts, x = Parts.of(self.log_density), state.position
        step_size, scale = given("step_size", self.step_size), given("scale", self.scale)
        proposal = state._replace(
            position=x + step_size * stretched(scale, jax.random.normal(key_move, x.shape, x.dtype))
        )
        y = proposal.position
        batch = self._batch(key_items, parts, state, y)
        log_ratio = parts.prior(y) - parts.prior(x) + state.control.between(x, y) + batch.log_ratio
        state, acceptance, accepted = metropolis(key_accept, log_ratio, proposal, state)
        evaluations = (1 + batch.chunks * self.chunk) * (2 if self.order == 0 else 3)
        return state, Info(acceptance, accepted, jnp.isnan(log_ratio) | batch.violated, evaluations)

    def _batch(self, key: Key[Array, ""], parts: Parts, state: State, y: Float[Array, " d"]) -> _Batch:
        """The items' part of the log ratio: arrivals of a Poisson process of rate lambda until time 1, or all items."""
        key, key_any = jax.random.split(key)
        bounds = self.bounds.astype(y.dtype)
        reach, below = state.control.reach(state.position, y), jnp.cumsum(bounds)
        reached = below[-1] * reach  # C M
        rate = self.chi * reached**2 + reached
        whole = ~(rate < parts.size)

        def more(batch: _Batch) -> Bool[Array, ""]:
            return jnp.where(whole, batch.chunks * self.chunk < parts.size, batch.time < 1)

        def looked(batch: _Batch) -> _Batch:
            key, key_gaps, key_items, key_keep = jax.random.split(batch.key, 4)
            times = batch.time + jnp.cumsum(jax.random.exponential(key_gaps, (self.chunk,), y.dtype)) / rate
            drawn = jnp.searchsorted(
                below, below[-1] * jax.random.uniform(key_items, (self.chunk,), y.dtype), side="right"
            )
            turn = batch.chunks * self.chunk + jnp.arange(self.chunk, dtype=jnp.int32)
            indices = jnp.minimum(jnp.where(whole, turn, drawn), parts.size - 1)
            rest, rounding = state.control.rest(parts, indices, state.position, y)
            bound = bounds[indices] * reach
            beyond = ~(jnp.abs(rest) <= bound + rounding)
            rest = jnp.where(whole | beyond, rest, jnp.clip(rest, -bound, bound))
            most = bound * (1 + 2 * self.chi * reached)
            kept = jax.random.uniform(key_keep, (self.chunk,), y.dtype) * (most + bound) < most - rest
            gain = jnp.where(kept, 2 * jnp.arctanh(rest / most), 0)
            # Where an item is so far beyond its bound that no probability keeps it, there is no ratio either.
            gain = jnp.where(jnp.abs(rest) > most, jnp.nan, gain)
            here = jnp.where(whole, turn < parts.size, times < 1)
            return _Batch(
                key,
                times[-1],
                batch.chunks + 1,
                batch.log_ratio + jnp.sum(jnp.where(here, jnp.where(whole, rest, gain), 0)),
                batch.violated | jnp.any(here & beyond),
            )

        # One item more, any alike, is looked at for its bound only: one that is 0 is else never tried.
        one = jax.random.randint(key_any, (1,), 0, parts.size)
        rest, rounding = state.control.rest(parts, one, state.position, y)
        violated = jnp.any(~(jnp.abs(rest) <= bounds[one] * reach + rounding))
        zero = jnp.zeros((), y.dtype)
        return lax.while_loop(more, looked, _Batch(key, zero, jnp.zeros((), jnp.int32), zero, violated))


def check_bounds(bounds: Any) -> None:
    """Raise ValueError unless what is known of the bounds of all items is finite and not negative."""
    if not isinstance(bounds, Tracer) and not (np.all(bounds >= 0) and np.all(np.isfinite(bounds))):
        raise ValueError(f"bounds must be finite and not negative, got {bounds}")
