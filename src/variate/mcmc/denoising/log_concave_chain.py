"""The chain of log-concave Markov chains: noisy measurements one after another, and what they tell of the target."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from variate.checks import check_at_least, check_positive_int
from variate.mcmc.base import Info, LogDensity, check_scale, unbound
from variate.mcmc.random_walk import State

from . import cloud

Smoothed = Callable[[Float[Array, " d"], Float[Array, ""]], Float[Array, ""]]


class LogConcaveChain(eqx.Module):
    r"""A chain of log-concave Markov chains: draws measurements $y_1, \dots, y_m$, and ends at $E[x \mid y_{1:m}]$.

    Of x with density $\pi$, $y_k = x + \sigma z_k$. Where $\sigma$ is large, the law of $y_1$ is log-concave, and so
    is that of each $y_k$ given those before. Its score is $(E[x \mid y_{1:k}] - y_k) / \sigma^2$, and
    $E[x \mid y_{1:k}]$ depends on the mean $\bar y_k$ only: it is $\bar y_k + s^2 \nabla \log p_s(\bar y_k)$, where
    $p_s$ is the target with noise $s = \sigma / \sqrt k$. `smoothed(y, s)` is $\log p_s(y)$ up to a constant, where it
    is known, of a mixture of normal laws say; else the expectation is estimated by `num_samples` points
    $\bar y_k + s z_i$ weighted by $\pi$. Each $y_k$ starts at $E[x \mid y_{1:k-1}] + \sigma z$, 0 in place of the
    expectation at first, and makes `num_steps` steps
    $y \mathrel{+}= \epsilon^2 (E[x \mid y_{1:k}] - y) / 2 + \epsilon \sigma z$. A draw does not depend on those before.

    It is biased by an amount that no error bar tells, and refused unless `allow_bias`. The end is a mean, so that the
    covariance of draws falls short of that of the target by that of x given $y_{1:m}$, of up to $\sigma^2 / m$ in each
    direction; the steps have no accept step, whose errors, of a share $\epsilon^2 / 4$ of the variance, measurements
    after it inherit; each has few steps; and expectations of points are biased where few of these meet the target.
    `ReverseDiffusion` takes noise away likewise, and weighs its paths.

    Choose it where the smoothed target is known and modes are far apart. The wrong choice where it is not, in more than
    a few dimensions, and for error bars.

    Raises:
        TypeError: `allow_bias` is not given; a smoothed density that is no function.
        ValueError: no measurements, no steps, fewer than two points, or a sigma or step size that is not positive.

    Source: Saremi, Park and Bach (2024), Chain of log-concave Markov chains, ICLR, algorithm 1 and equations 2.3,
    4.3 and 4.8.
    """

    sigma: float | Float[Array, ""]  # of each measurement, in units of the position: about the size of the target
    num_measurements: int = eqx.field(static=True)  # m
    num_steps: int = eqx.field(static=True, default=20)  # for each
    step_size: float | Float[Array, ""] = 0.5  # epsilon, in units of sigma
    num_samples: int = eqx.field(static=True, default=1_000)
    smoothed: Smoothed | None = eqx.field(default=None, kw_only=True)
    allow_bias: bool = eqx.field(static=True, default=False, kw_only=True)
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        check_scale("sigma", self.sigma)
        check_positive_int("num_measurements", self.num_measurements)
        check_positive_int("num_steps", self.num_steps)
        check_scale("step_size", self.step_size)
        check_at_least("num_samples", self.num_samples, 2)
        if not self.allow_bias:
            raise TypeError(
                "LogConcaveChain neither accepts nor rejects, so that its draws are biased by an amount that no error "
                "bar tells; allow_bias=True is the way to insist"
            )

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        return State(position, self.log_density(position))

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_measures, key_end, key_init = jax.random.split(key, 3)
        zero = jnp.zeros_like(state.position)
        counts = jnp.arange(1, self.num_measurements + 1)
        keys = jax.random.split(key_measures, self.num_measurements)
        mean, _ = lax.scan(self._measured, zero, (counts, keys))
        found = self.init(key_init, self.expected(key_end, mean, counts[-1]))
        lost: Bool[Array, ""] = ~jnp.all(jnp.isfinite(found.position)) | jnp.isnan(found.log_density)
        kept = jax.tree.map(lambda new, old: jnp.where(lost, old, new), found, state)
        acceptance = jnp.where(lost, 0, jnp.ones_like(state.log_density))
        evaluations = self.num_measurements * (self.num_steps + 1) * (1 if self.smoothed else self.num_samples) + 1
        return kept, Info(acceptance, ~lost, lost, evaluations)

    def expected(self, key: Key[Array, ""], mean: Float[Array, " d"], count: Int[Array, ""]) -> Float[Array, " d"]:
        """Of x, given the mean of so many measurements."""
        noise = jnp.asarray(self.sigma, mean.dtype) / jnp.sqrt(count.astype(mean.dtype))
        if self.smoothed is not None:
            return mean + noise**2 * jax.grad(self.smoothed)(mean, noise)
        z = jax.random.normal(key, (self.num_samples, mean.size), mean.dtype)
        return cloud.around(self.log_density, mean, noise, z).moments()[0]

    def _measured(
        self, mean: Float[Array, " d"], at: tuple[Int[Array, ""], Key[Array, ""]]
    ) -> tuple[Float[Array, " d"], None]:
        """The mean with one more measurement."""
        count, key = at
        key_start, key_before, key_steps = jax.random.split(key, 3)
        sigma = jnp.asarray(self.sigma, mean.dtype)

        def joined(y: Float[Array, " d"]) -> Float[Array, " d"]:
            return mean + (y - mean) / count.astype(mean.dtype)

        def once(y: Float[Array, " d"], key: Key[Array, ""]) -> tuple[Float[Array, " d"], None]:
            key_noise, key_points = jax.random.split(key)
            pull = self.expected(key_points, joined(y), count) - y
            noise = jax.random.normal(key_noise, y.shape, y.dtype)
            return y + 0.5 * self.step_size**2 * pull + self.step_size * sigma * noise, None

        before = jnp.where(count > 1, self.expected(key_before, mean, jnp.maximum(count - 1, 1)), 0)
        y = before + sigma * jax.random.normal(key_start, mean.shape, mean.dtype)
        y, _ = lax.scan(once, y, jax.random.split(key_steps, self.num_steps))
        return joined(y), None
