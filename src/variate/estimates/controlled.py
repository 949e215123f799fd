"""The mean of draws adjusted by controls: numbers drawn beside them whose mean is known to be zero."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree
from scipy import special

from variate.trees import all_finite, as_float

from .estimate import Estimate
from .moments import Moments, Spread, is_spread


class Controlled(NamedTuple):
    """A draw, or draws along a leading axis, and the controls that belong to it."""

    value: PyTree[Array]
    controls: Float[Array, "*n p"]


class ControlledMoments(eqx.Module):
    r"""The mean of $x$ given that the controls $c$ have the mean 0, as a fold.

    $\hat\mu = \bar x - \hat\beta^\top \bar c$ with the least-squares $\hat\beta = S_{cc}^{-1} S_{cx}$, which is the
    intercept of the regression of $x$ on $c$, and has its standard error,
    $s^2\,(1/n + \bar c^\top S_{cc}^{-1} \bar c)$ squared with $s^2$ the residual sum of squares over $n - p - 1$. Exact
    (value unbiased, interval Student's) for jointly normal draws; else the value has a bias of order $1/n$, which is
    small beside the error where n is many times p.

    Raises `ValueError` on `add`ing a weight.

    Source: Lavenberg and Welch (1981), A perspective on the use of control variables to increase the efficiency of
    Monte Carlo simulations, Management Science 27(3), 322-335; Owen (2013), Monte Carlo theory, methods and examples,
    section 8.9.
    """

    moments: Moments  # of the pair of value and controls
    correlations: Float[Array, "p p"]  # of the controls; those of what has not varied are 0
    cross: PyTree  # correlations of value and controls, [*value, p] in place of each array of the value

    @classmethod
    def empty(cls, example: Controlled) -> "ControlledMoments":
        p = jnp.shape(example.controls)[-1]
        moments = Moments.empty(example)
        zero = moments.spread.controls.mean
        cross = jax.tree.map(
            lambda s: jnp.zeros((*s.mean.shape, p), s.mean.dtype), moments.spread.value, is_leaf=is_spread
        )
        return cls(moments, jnp.zeros((p, p), zero.dtype), cross)

    @classmethod
    def of_rows(cls, rows: Controlled, count: Int[Array, ""] | int | None = None) -> "ControlledMoments":
        rows = jax.tree.map(as_float, rows)
        moments = Moments.of_rows(rows, count)
        used = jnp.arange(rows.controls.shape[0]) < moments.num_samples
        c = _units(rows.controls, moments.spread.controls, used)

        def with_controls(leaf: Array, spread: Spread) -> Array:
            return jnp.tensordot(_units(leaf, spread, used), c.astype(leaf.dtype), axes=(0, 0))

        return cls(moments, c.T @ c, jax.tree.map(with_controls, rows.value, moments.spread.value))

    def add(self, x: Controlled, log_weight: Any = 0.0) -> "ControlledMoments":
        single = ControlledMoments.of_rows(jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], x))
        return self.merge(ControlledMoments(Moments.empty(x).add(x, log_weight), single.correlations, single.cross))

    def merge(self, other: "ControlledMoments") -> "ControlledMoments":
        a, b, both = self.moments, other.moments, self.moments.merge(other.moments)
        n, m = a.num_samples, b.num_samples

        def shares(one: Spread, two: Spread, whole: Spread) -> tuple[Array, Array, Array]:
            """Of both sets and of what is between their means, in the deviations of all."""
            number = n.astype(whole.root.dtype) * (m / jnp.maximum(n + m, 1)).astype(whole.root.dtype)
            between = _difference(one, two, n, m) * jnp.sqrt(number)
            return _over(one.root, whole), _over(two.root, whole), _over(between, whole)

        c = shares(a.spread.controls, b.spread.controls, both.spread.controls)

        def joined(x: Array, y: Array, one: Spread, two: Spread, whole: Spread) -> Array:
            terms = zip((x, y, jnp.ones_like(x)), shares(one, two, whole), c, strict=True)
            return jnp.sum(jnp.stack([z * jnp.multiply.outer(of, on.astype(z.dtype)) for z, of, on in terms]), axis=0)

        each = (self.correlations, other.correlations, jnp.ones_like(self.correlations))
        correlations = jnp.sum(jnp.stack([z * jnp.outer(on, on) for z, on in zip(each, c, strict=True)]), axis=0)
        spreads = (a.spread.value, b.spread.value, both.spread.value)
        return ControlledMoments(both, correlations, jax.tree.map(joined, self.cross, other.cross, *spreads))

    def off(self, degrees: int) -> Float[Array, " p"]:
        """How far the means of the controls are from 0, in units of what chance allows but once in ten million."""
        limit = special.stdtrit(degrees, 1 - 0.5e-7 / max(len(self.correlations), 1))
        n = self.moments.num_samples.astype(self.correlations.dtype)
        controls = self.moments.spread.controls
        stderr = controls.root / jnp.sqrt(n * (n - 1))
        mean = jnp.abs(controls.center + controls.mean)
        # A control that does not vary is a constant, known to its rounding.
        rounding = jnp.finfo(mean.dtype).eps * 64
        return jnp.where(stderr > 0, mean / (limit * stderr), jnp.where(mean > rounding, jnp.inf, 0.0))

    def read(self) -> Estimate:
        plain = self.moments.read()
        n, p = plain.num_samples, self.correlations.shape[0]
        mean = _over(plain.value.controls, self.moments.spread.controls)
        tiny = jnp.finfo(mean.dtype).tiny
        # Small beside the largest, what varies may be rounding, as of means over points that mirror each other.
        size = self.moments.spread.controls.root / jnp.max(self.moments.spread.controls.root, initial=tiny)
        sizes = jnp.outer(size, size)
        inverse = jnp.linalg.pinv(self.correlations * sizes, hermitian=True) * sizes
        pull = inverse @ mean
        leverage = 1 / n.astype(mean.dtype) + mean @ pull

        def value(x: Array, cross: Array, spread: Spread) -> Array:
            return x - spread.root * (cross @ pull.astype(x.dtype))

        def stderr(cross: Array, spread: Spread) -> Array:
            explained = jnp.sum((cross @ inverse.astype(cross.dtype)) * cross, axis=-1)
            left = jnp.maximum(1 - explained, 0) / (n - p - 1).astype(cross.dtype)
            return jnp.where(n > p + 1, spread.root * jnp.sqrt(left * leverage.astype(cross.dtype)), jnp.inf)

        adjusted = jax.tree.map(value, plain.value.value, self.cross, self.moments.spread.value)
        return Estimate(
            adjusted,
            jax.tree.map(stderr, self.cross, self.moments.spread.value),
            n,
            plain.converged & all_finite(adjusted),
            plain.nonfinite,
        )


def _units(rows: Array, spread: Spread, used: Array) -> Array:
    """Deviations, of which the squares add up to 1."""
    used = used.reshape(-1, *(1,) * (rows.ndim - 1))
    deviations = jnp.where(used, rows - spread.center[None] - spread.mean[None], jnp.zeros_like(rows))
    return _over(deviations, jax.tree.map(lambda leaf: leaf[None], spread))


def _over(x: Array, spread: Spread) -> Array:
    """In units of the spread; what has not varied has none."""
    return jnp.where(spread.root == 0, jnp.zeros_like(x), x / jnp.where(spread.root == 0, 1, spread.root))


def _difference(a: Spread, b: Spread, n: Array, m: Array) -> Array:
    """Of two means, one of which may be of nothing."""
    delta = (b.center - a.center) + (b.mean - a.mean)
    return jnp.where((n > 0) & (m > 0), delta, jnp.zeros_like(delta))
