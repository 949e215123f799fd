"""Smooth functions of several expectations: ratios, variances, covariances, odds."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

from variate import checks
from variate.trees import all_finite, as_float

from .controlled import Controlled, ControlledMoments
from .estimate import Estimate
from .moments import length


class FunctionOfMeans(eqx.Module):
    r"""$g(E x)$ from draws of $x$, as a fold: the delta method, its first bias taken off.

    $\hat\theta = g(\bar x) - \tfrac{1}{2n} \mathrm{tr}(S\, \nabla^2 g(\bar x))$ with the standard error
    $\sqrt{\nabla g^\top S\, \nabla g / n}$, S the covariance of the draws. The bias that is left is of order $n^{-2}$,
    and the interval is right as far as g is linear over the error of $\bar x$: the wrong choice where it is not, for a
    ratio whose denominator may be 0 say. Memory and time are those of the matrix S.

    Derivatives leave the range of floats before g does, those of a ratio of numbers near $10^{-20}$ in single precision
    say. In their place are then central differences over a standard error along the principal axes of S.

    Source: Cochran (1977), Sampling techniques, section 6.8 (ratios); Oehlert (1992), A note on the delta method, Am.
    Stat. 46(1), 27-29, eq. 4.
    """

    function: Callable[[PyTree], PyTree] = eqx.field(static=True)
    example: PyTree  # like a draw
    fold: ControlledMoments  # with all numbers of a draw as controls of nothing

    def empty(self, example: PyTree) -> "FunctionOfMeans":
        """The fold of no draws like `example`, with the same function."""
        return FunctionOfMeans.of(self.function, example)

    @classmethod
    def of(cls, function: Callable[[PyTree], PyTree], example: PyTree) -> "FunctionOfMeans":
        """The fold of no draws, which are like `example`."""
        example = jax.tree.map(lambda leaf: as_float(jnp.zeros(jnp.shape(leaf), jnp.result_type(leaf))), example)
        flat = ravel_pytree(example)[0]
        return cls(function, example, ControlledMoments.empty(Controlled((), flat)))

    def of_rows(self, rows: PyTree[Array], count: Int[Array, ""] | int | None = None) -> "FunctionOfMeans":
        """A block of draws, of which the first `count` are used, and no others."""
        flat = jax.vmap(lambda row: ravel_pytree(row)[0])(jax.tree.map(as_float, rows))
        return FunctionOfMeans(self.function, self.example, ControlledMoments.of_rows(Controlled((), flat), count))

    def add(self, x: PyTree, log_weight: Any = 0.0) -> "FunctionOfMeans":
        flat = ravel_pytree(jax.tree.map(as_float, x))[0]
        return FunctionOfMeans(self.function, self.example, self.fold.add(Controlled((), flat), log_weight))

    def merge(self, other: "FunctionOfMeans") -> "FunctionOfMeans":
        return FunctionOfMeans(self.function, self.example, self.fold.merge(other.fold))

    def read(self) -> Estimate:
        moments = self.fold.moments
        n = moments.num_samples.astype(float)
        spread = moments.spread.controls
        mean = spread.center + spread.mean
        unravel = ravel_pytree(self.example)[1]

        def at(means: PyTree[Array]) -> PyTree[Array]:
            return values_of("function", self.function, (means,), "the expectations")

        def flat(x: Float[Array, " k"]) -> Float[Array, " m"]:
            return ravel_pytree(at(unravel(x)))[0]

        errors = spread.root / jnp.sqrt(n * (n - 1)).astype(mean.dtype)  # of the mean
        correlations = self.fold.correlations
        curvature = jax.jacfwd(jax.jacrev(flat))(mean) * errors[None, :, None] * errors[None, None]
        bias = jnp.einsum("mij,ij->m", curvature, correlations) / 2
        slope = jax.jacfwd(flat)(mean) * errors[None]
        steepest = jnp.max(jnp.abs(slope), axis=1, keepdims=True)
        unit = jnp.where(steepest > 0, steepest, 1)
        stderr = unit[:, 0] * jnp.sqrt(jnp.einsum("mi,ij,mj->m", slope / unit, correlations, slope / unit))
        known = jnp.all(jnp.isfinite(bias) & jnp.isfinite(stderr)) | (n < 2)
        apart = functools.partial(_differences, flat, mean, errors, correlations)
        bias, stderr = jax.lax.cond(known, lambda: (bias, stderr), apart)
        back = ravel_pytree(at(unravel(mean)))[1]
        value = back(flat(mean) - jnp.where(n > 1, bias, 0))
        return Estimate(
            value,
            back(jnp.where(n > 1, stderr, jnp.inf)),
            moments.num_samples,
            (moments.nonfinite == 0) & all_finite(value),
            moments.nonfinite,
        )


def values_of(name: str, f: Any, args: tuple[Any, ...], what: str) -> PyTree[Array]:
    """Of a user's function, `f(*args)`; raises `TypeError` where it takes something else than `what`, or no numbers."""
    checks.check_takes(name, f, args, what)
    found = f(*args)
    checks.check_result(f, found)
    return jax.tree.map(as_float, found)


def _differences(
    g: Callable[[Array], Array], mean: Float[Array, " k"], errors: Float[Array, " k"], correlations: Float[Array, "k k"]
) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """The bias and the standard error of `g`, of which no derivative is taken."""
    squares, axes = jnp.linalg.eigh(correlations)
    steps = (errors[:, None] * axes * jnp.sqrt(jnp.maximum(squares, 0))[None]).T
    there, back, here = jax.vmap(g)(mean[None] + steps), jax.vmap(g)(mean[None] - steps), g(mean)[None]
    return jnp.sum((there - here) + (back - here), axis=0) / 2, length((there - back) / 2)
