"""Reverse diffusion Monte Carlo: noise taken away step by step, by estimates of what was there before."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from variate.checks import check_at_least, check_positive_int
from variate.mcmc.base import check_scale

from . import cloud
from .paths import Drawn, Normal, PathProposals, log_normal, normal


class ReverseDiffusion(PathProposals):
    r"""Reverse diffusion Monte Carlo: proposes the end of a path from $N(0, I)$ back to the target, and accepts or not.

    Forward, $x_t = e^{-t} x_0 + \sqrt{1 - e^{-2t}}\, z$ forgets the target. Backward from $t_K$ to $t_{K-1}$ and on to
    0, each step is a normal law with the mean and covariance of $x_s$ given $x_t$, s < t. These follow from the moments
    of $x_0$ given $x_t$, of density proportional to $\pi(x_0)\, N(x_0; e^t x_t, e^{2t} - 1)$, which are estimated by
    `num_samples` points $e^t x_t + \sqrt{e^{2t} - 1}\, z_i$ weighted by $\pi$; with `num_steps`, by as many points
    drawn by these weights and moved on by Langevin steps. Nothing is learnt, and no step looks where the chain is.

    Paths that are discretized and estimated end near the target, not in it. So an end is proposed, and accepted with
    probability $\min(1, w' / w)$: w' is $\pi$ times the density of the path forward over that of the path backward, w
    the same of a new path forward from where the chain is. This leaves $\pi$ invariant, reversibly, for all times and
    numbers of points; `acceptance` says how good they are. `proposal` gives an end alone, and $\log w'$.

    Choose it for a few dimensions and modes that are so far apart that no chain goes from one to the other: a proposal
    knows all of them, and their weights. The wrong choice in many dimensions, where few points meet the target, and for
    one mode, as a step costs twice `num_samples` densities for each time.

    The paper's steps freeze the score $(e^{-t} E[x_0 \mid x_t] - x_t) / (1 - e^{-2t})$ and have the variance
    $e^{2 (t - s)} - 1$, to which these tend for short steps; and it takes what they end with as draws, with a bias that
    goes away with more of both.

    Raises:
        ValueError: times that do not increase from above 0, fewer than two points, negative steps, or a step size that
            is not positive.

    Sources: Huang, Dong, Hao, Ma and Zhang (2024), Reverse diffusion Monte Carlo, ICLR, algorithms 1 and 2; the weight:
    Wu, Han, Naesseth and Cunningham (2025), Reverse diffusion sequential Monte Carlo samplers, arXiv:2508.05926.
    """

    times: Float[Array, " times"]  # the first: noise below the least scale of the target; e to the last: above its size
    num_samples: int = eqx.field(static=True, default=1_000)
    num_steps: int = eqx.field(static=True, default=0)  # of Langevin, for each point
    step_size: float | Float[Array, ""] = 0.5  # of these, in units of the position, where there is no noise

    def __check_init__(self) -> None:
        check_times(self.times)
        check_at_least("num_samples", self.num_samples, 2)
        if self.num_steps:
            check_positive_int("num_steps", self.num_steps)
        check_scale("step_size", self.step_size)

    def log_odds(self, key: Key[Array, ""], position: Float[Array, " d"]) -> Float[Array, ""]:
        def forth(x: Float[Array, " d"], at: tuple) -> tuple[Float[Array, " d"], Float[Array, ""]]:
            (s, t), key = at
            key_noise, key_back = jax.random.split(key)
            noise = jnp.sqrt(-jnp.expm1(-2 * (t - s))) * jax.random.normal(key_noise, x.shape, x.dtype)
            later = jnp.exp(s - t) * x + noise
            return later, gained(self._back(key_back, later, s, t), later, x, t - s)

        spans = self._spans(position)
        last, weights = lax.scan(forth, position, (spans, jax.random.split(key, len(spans[0]))))
        return jnp.sum(weights) - log_normal(last, jnp.ones_like(last[0]))

    def proposal(self, key: Key[Array, ""], position: Float[Array, " d"]) -> Drawn:
        def back(x: Float[Array, " d"], at: tuple) -> tuple[Float[Array, " d"], Float[Array, ""]]:
            (s, t), key = at
            key_draw, key_back = jax.random.split(key)
            law = self._back(key_back, x, s, t)
            earlier = law.sample(key_draw)
            return earlier, gained(law, x, earlier, t - s)

        key_first, key_rest = jax.random.split(key)
        spans = self._spans(position)
        first = jax.random.normal(key_first, position.shape, position.dtype)
        keys = jax.random.split(key_rest, len(spans[0]))
        x, weights = lax.scan(back, first, (spans, keys), reverse=True)
        log_density = self.log_density(x)
        return Drawn(x, log_density, log_density + jnp.sum(weights) - log_normal(first, jnp.ones_like(first[0])))

    def evaluations(self) -> int:
        return self.times.shape[0] * self.num_samples * (1 + self.num_steps)

    def _spans(self, like: Float[Array, " d"]) -> tuple[Float[Array, " times"], Float[Array, " times"]]:
        times = jnp.asarray(self.times, like.dtype)
        return jnp.append(jnp.zeros(1, like.dtype), times[:-1]), times

    def _back(self, key: Key[Array, ""], x: Float[Array, " d"], s: Float[Array, ""], t: Float[Array, ""]) -> Normal:
        """The law of the path at s given where it is at t, as far as it can be told."""
        key_points, key_moves = jax.random.split(key)
        toward = jnp.exp(t) * x, jnp.sqrt(jnp.expm1(2 * t))
        z = jax.random.normal(key_points, (self.num_samples, x.size), x.dtype)
        found = cloud.around(self.log_density, *toward, z)
        if self.num_steps:
            found = cloud.moved(self.log_density, found, key_moves, toward, (self.num_steps, self.step_size))
        mean, covariance = found.moments()
        late, early, step = (-jnp.expm1(-2 * u) for u in (t, s, t - s))
        pull = jnp.exp(-s) * step / late  # of x_0 on the bridge from 0 to t, beside that of x_t
        # Few points have too small a spread, and a single one none: as much is added as the mean of all is off.
        spread = covariance + jnp.expm1(2 * t) / self.num_samples * jnp.eye(x.size, dtype=x.dtype)
        bridge = early * step / late * jnp.eye(x.size, dtype=x.dtype)
        return normal(pull * mean + jnp.exp(s - t) * early / late * x, pull**2 * spread + bridge)


def gained(law: Normal, later: Float[Array, " d"], x: Float[Array, " d"], span: Float[Array, ""]) -> Float[Array, ""]:
    """How much likelier a step is forward than backward."""
    return log_normal(later - jnp.exp(-span) * x, -jnp.expm1(-2 * span)) - law.log_prob(x)


def check_times(times: Any) -> None:
    if isinstance(times, Tracer):
        return
    found = np.asarray(times)
    if found.dtype == object:
        return
    if found.ndim != 1 or not found.size or not (found[0] > 0 and np.all(np.diff(found) > 0) and found[-1] < np.inf):
        raise ValueError(f"times must increase from above 0, got {times}")
