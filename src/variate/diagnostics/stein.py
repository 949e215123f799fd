"""Whether draws may be of a density known up to its constant: the kernel Stein discrepancy, and its test."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key

from variate import checks
from variate.estimates import Estimate
from variate.programs.targets import target_of

_BATCHES = 16  # of a chain: each of six effective draws, where a chain has the hundred that its verdict asks for
_MOST = 512  # batches of independent points
_AT_ONCE = 2**16  # pairs: more are slower, beyond what a cache holds
_TELLING = 512  # points of which the scale is found


class SteinTest(eqx.Module):
    """The squared discrepancy, and what it is with random signs, which is how it varies where there is none."""

    distance: Estimate
    signed: Float[Array, " signs"]

    @property
    def p_value(self) -> Float[Array, ""]:
        """The share of signs, all the same among them, with which it is as large or larger; NaN where it is not known.

        Where the draws are of the target, a p-value of at most $\\alpha$ has a probability that comes to $\\alpha$ as
        there are more batches.
        """
        value = self.distance.value
        p = (1 + jnp.sum(self.signed >= value)) / (1 + len(self.signed))
        return jnp.where(jnp.isfinite(value), p, jnp.nan)

    def __repr__(self) -> str:
        if isinstance(self.signed, Tracer) or self.signed.ndim != 1:
            return f"SteinTest of {checks.describe(self.signed)}"
        return f"p = {float(self.p_value):.3g} (squared discrepancy {self.distance})"


class Points(NamedTuple):
    """Batches of points and of the scores there."""

    at: Float[Array, "batches size d"]
    score: Float[Array, "batches size d"]


def kernel_stein(
    draws: Any, target: Any, *, scale: float | None = None, num_signs: int = 999
) -> Callable[[Key[Array, ""]], SteinTest]:
    r"""The kernel Stein discrepancy between draws and a target, and its test, as a function of a key.

    With the score $s = \nabla \log \pi$ and $k(x, y) = (c^2 + |x - y|^2)^{-1/2}$,

    $$u(x, y) = k\, s(x)^\top s(y) + s(x)^\top \nabla_y k + s(y)^\top \nabla_x k + \mathrm{tr}\, \nabla_x \nabla_y k$$

    has the mean 0 over x of $\pi$ for every y, and $E\, u(X, Y)$ for two independent draws of one law is 0 for $\pi$
    and no other. It asks for no draws of $\pi$ and no constant, and sees what effective sizes and R-hat cannot: chains
    that agree on something else than the target, as those of a biased sampler do. The value is the mean of u over all
    pairs of different batches, 16 consecutive ones of each chain and at most 512 of independent points, its error bar
    the jackknife's over batches, which is too wide where the discrepancy is 0; the test signs batches at random. Time
    grows with the square of the number of draws, memory does not.

    Args:
        draws: what `vt.sample` returned, or independent points: values of the target with one leading axis.
        target: a `Target`, a distribution, or a log density of the values. Of a target with bounds the discrepancy is
            that of its unbounded positions.
        scale: c; the median distance between points if left out.
        num_signs: time grows little with it, and p-values are multiples of one by it and one more.

    Raises:
        TypeError: no target, or values that are no real arrays.
        ValueError: fewer than four batches, a scale that is not positive, or a `num_signs` that is not.

    Wrong for chains of fewer than a hundred effective draws each, whose batches are not independent of each other. It
    hardly sees that modes far apart have the wrong weights, since the score there is the same.

    Sources: Gorham and Mackey (2017), Measuring sample quality with kernels, ICML, eq. 3 and theorem 8 for the kernel;
    Liu, Lee and Jordan (2016), A kernelized Stein discrepancy for goodness-of-fit tests, ICML, theorem 3.6;
    Chwialkowski, Strathmann and Gretton (2016), A kernel test of goodness of fit, ICML, section 3, for signs of
    dependent draws.
    """
    signs = checks.check_positive_int("num_signs", num_signs)
    width = None if scale is None else checks.check_positive("scale", scale)
    chains = hasattr(draws, "divergent") and hasattr(draws, "of")
    values = jax.tree.map(jnp.asarray, draws.values if chains else draws)
    count = checks.check_leading_axis("draws", values)
    size = jax.tree.leaves(values)[0].shape[1] if chains else count
    length = max(size // _BATCHES, 1) if chains else -(-size // _MOST)
    checks.check_at_least("the number of batches", size // length * (count if chains else 1), 4)

    def batched(x: Array) -> Array:
        """What is left over of the draws of a chain is left out at its beginning."""
        x = x if chains else x[None]
        x = x[:, size % length :]
        return x.reshape(-1, length, *x.shape[2:])

    values = jax.tree.map(batched, values)
    points = _points(target_of(target, jax.tree.map(lambda x: x[0, 0], values)), values)

    def test(key: Any) -> SteinTest:
        checks.check_key(key)
        value, error, signed = tested(key, points, width, signs)
        known = jnp.isfinite(value) & jnp.isfinite(error)
        return SteinTest(Estimate(value, error, points.at.shape[0] * points.at.shape[1], known), signed)

    return test


@eqx.filter_jit
def tested(key: Key[Array, ""], points: Points, scale: float | None, signs: int) -> tuple[Array, Array, Array]:
    """The value, its standard error, and values with random signs of the batches."""
    at = points.at - jnp.mean(points.at, (0, 1), keepdims=True)  # for what rounding leaves of differences
    squared = _median_square(at) if scale is None else jnp.asarray(scale**2, at.dtype)
    means = _between(Points(at, points.score), squared)
    count = len(means)
    means = means - jnp.diag(jnp.diag(means))
    own = jnp.sum(means, axis=1) / (count - 1)
    value = jnp.mean(own)
    error = 2 / (count - 2) * jnp.sqrt((count - 1) / count * jnp.sum((own - value) ** 2))
    random = jax.random.rademacher(key, (signs, count), at.dtype)
    return value, error, jnp.sum((random @ means) * random, axis=1) / (count * (count - 1))


def stein_kernel(x: Points, y: Points, squared: Float[Array, ""]) -> Float[Array, "n m"]:
    """u of each point of one batch and each of another, with c²."""
    inner = x.at @ y.at.T
    apart = jnp.sum(x.at**2, 1)[:, None] + jnp.sum(y.at**2, 1)[None] - 2 * inner
    apart = jnp.maximum(apart, 0)
    k = jax.lax.rsqrt(squared + apart)
    # (x - y) . (s(x) - s(y)), the sum of both terms with one gradient of k but for the factor
    own = jnp.sum(x.at * x.score, 1)[:, None] + jnp.sum(y.at * y.score, 1)[None]
    across = own - x.at @ y.score.T - x.score @ y.at.T
    cubed = k * k * k
    return k * (x.score @ y.score.T) + cubed * (across + x.at.shape[1] - 3 * k * k * apart)


def _between(points: Points, squared: Float[Array, ""]) -> Float[Array, "batches batches"]:
    """The mean of u over the pairs of each two batches."""
    count, size, d = points.at.shape
    flat = Points(*(x.reshape(-1, d) for x in points))

    def with_all(one: Points) -> Array:
        if size * len(flat.at) <= _AT_ONCE:
            return jnp.mean(stein_kernel(one, flat, squared).reshape(size, count, size), (0, 2))
        return jax.lax.map(lambda other: jnp.mean(stein_kernel(one, other, squared)), points)

    return jax.lax.map(with_all, points)


def _median_square(at: Float[Array, "batches size d"]) -> Float[Array, ""]:
    flat = at.reshape(-1, at.shape[-1])
    some = flat[np.linspace(0, len(flat) - 1, min(len(flat), _TELLING)).round().astype(int)]
    square = jnp.sum(some**2, 1)
    apart = square[:, None] + square[None] - 2 * some @ some.T
    return jnp.median(apart[np.triu_indices(len(some), 1)])


@eqx.filter_jit
def _points(target: Any, values: Any) -> Points:
    one = target.unconstrain(jax.tree.map(lambda x: x[0, 0], values))
    unravel = ravel_pytree(one)[1]
    at = jax.vmap(jax.vmap(lambda own: ravel_pytree(target.unconstrain(own))[0]))(values)
    return Points(at, jax.vmap(jax.vmap(jax.grad(lambda x: target.log_density(unravel(x)))))(at))
