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
    products: Float[Array, "p p"]  # of the deviations of the controls
    cross: PyTree  # of deviations of value and controls, [*value, p] in place of each array of the value

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
        c = _deviations(rows.controls, moments.spread.controls, used)

        def with_controls(leaf: Array, spread: Spread) -> Array:
            return jnp.tensordot(_deviations(leaf, spread, used), c.astype(leaf.dtype), axes=(0, 0))

        return cls(moments, c.T @ c, jax.tree.map(with_controls, rows.value, moments.spread.value))

    def add(self, x: Controlled, log_weight: Any = 0.0) -> "ControlledMoments":
        single = ControlledMoments.of_rows(jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], x))
        return self.merge(ControlledMoments(Moments.empty(x).add(x, log_weight), single.products, single.cross))

    def merge(self, other: "ControlledMoments") -> "ControlledMoments":
        a, b = self.moments, other.moments
        n, m = a.num_samples, b.num_samples
        both = jnp.maximum(n + m, 1)
        delta = _difference(a.spread.controls, b.spread.controls, n, m)

        def factor(dtype: Any) -> Array:
            return n.astype(dtype) * m.astype(dtype) / both.astype(dtype)

        def joined(x: Array, y: Array, one: Spread, two: Spread) -> Array:
            between = _difference(one, two, n, m)[..., None] * jnp.broadcast_to(
                delta.astype(x.dtype), (*one.mean.shape, delta.size)
            )
            return x + y + factor(x.dtype) * between

        products = self.products + other.products + factor(delta.dtype) * jnp.outer(delta, delta)
        cross = jax.tree.map(joined, self.cross, other.cross, a.spread.value, b.spread.value)
        return ControlledMoments(a.merge(b), products, cross)

    def off(self, degrees: int) -> Float[Array, " p"]:
        """How far the means of the controls are from 0, in units of what chance allows but once in ten million."""
        limit = special.stdtrit(degrees, 1 - 0.5e-7 / max(len(self.products), 1))
        n = self.moments.num_samples.astype(self.products.dtype)
        controls = self.moments.spread.controls
        stderr = jnp.sqrt(jnp.diag(self.products) / (n * (n - 1)))
        mean = jnp.abs(controls.center + controls.mean)
        # A control that does not vary is a constant, known to its rounding.
        rounding = jnp.finfo(mean.dtype).eps * 64
        return jnp.where(stderr > 0, mean / (limit * stderr), jnp.where(mean > rounding, jnp.inf, 0.0))

    def read(self) -> Estimate:
        plain = self.moments.read()
        n, p = plain.num_samples, self.products.shape[0]
        mean, inverse = plain.value.controls, jnp.linalg.pinv(self.products, hermitian=True)
        pull = inverse @ mean
        leverage = 1 / n.astype(mean.dtype) + mean @ pull

        def value(x: Array, cross: Array) -> Array:
            return x - cross @ pull.astype(x.dtype)

        def stderr(cross: Array, spread: Spread) -> Array:
            explained = jnp.sum((cross @ inverse.astype(cross.dtype)) * cross, axis=-1)
            left = jnp.maximum(spread.squares - explained, 0) / (n - p - 1).astype(cross.dtype)
            return jnp.where(n > p + 1, jnp.sqrt(left * leverage.astype(cross.dtype)), jnp.inf)

        adjusted = jax.tree.map(value, plain.value.value, self.cross)
        return Estimate(
            adjusted,
            jax.tree.map(stderr, self.cross, self.moments.spread.value),
            n,
            plain.converged & all_finite(adjusted),
            plain.nonfinite,
        )


def _deviations(rows: Array, spread: Spread, used: Array) -> Array:
    used = used.reshape(-1, *(1,) * (rows.ndim - 1))
    return jnp.where(used, rows - spread.center[None] - spread.mean[None], jnp.zeros_like(rows))


def _difference(a: Spread, b: Spread, n: Array, m: Array) -> Array:
    """Of two means, one of which may be of nothing."""
    delta = (b.center - a.center) + (b.mean - a.mean)
    return jnp.where((n > 0) & (m > 0), delta, jnp.zeros_like(delta))
