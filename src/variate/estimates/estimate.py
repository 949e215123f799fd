"""A number and how far it may be from the truth."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, PyTree
from scipy import special

from variate.checks import check_fraction, describe

from .printing import text_of


def _count(value: Any) -> Array:
    return jnp.asarray(value, dtype=int)


def _flag(value: Any) -> Array:
    return jnp.asarray(value, dtype=bool)


class Estimate(eqx.Module):
    r"""An expectation estimated from draws: $\hat\mu$, and the standard error of $\hat\mu$.

    Prints as `value ± stderr`, with whatever there is to be warned of. Under `vmap` every field gains an axis.

    Raises `ValueError` when `value` and `stderr` differ in structure.
    """

    value: PyTree[Array]
    stderr: PyTree[Array] | None  # of the value's structure; None: there is no error bar
    num_samples: Int[Array, "*batch"] = eqx.field(converter=_count)
    converged: Bool[Array, "*batch"] = eqx.field(converter=_flag, default=True)  # finite, and as accurate as asked for
    nonfinite: Int[Array, "*batch"] = eqx.field(converter=_count, default=0)  # draws with a NaN or an infinity
    degrees: float | int | None = eqx.field(static=True, default=None)  # of freedom of Student's t; None: normal
    biased: bool = eqx.field(static=True, default=False)  # the value misses the truth however many the draws
    method: str | None = eqx.field(static=True, default=None)  # what it was estimated by; None: plain sampling
    variance_ratio: Float[Array, "*batch"] | None = None  # of the method to plain sampling, where a pilot measured it
    # k of the heaviest tail seen: from 1/2 on the variance is infinite; where that is sure, `stderr` is NaN. Infinity
    # where one run makes most of the variance.
    tail: Float[Array, "*batch"] | None = None
    mean_weight: Float[Array, "*batch"] | None = None  # of importance weights, which should be 1
    ends: Any = None  # an interval that rests on bounds of the draws (`estimates.intervals.Ends`)
    bias: Any = None  # of the value's structure: about how far its expectation is from the truth, where that is known
    ended: str | None = eqx.field(static=True, default=None)  # why before there were as many draws as asked for
    positive: bool = eqx.field(static=True, default=False)  # known to be: intervals are those of the logarithm
    skewness: Any = None  # of the value's structure: of the `degrees` + 1 means that it is the mean of

    def __check_init__(self) -> None:
        value, stderr = jax.tree.structure(self.value), jax.tree.structure(self.stderr)
        if self.stderr is not None and value != stderr:
            raise ValueError(f"value and stderr must have one structure, got {value} and {stderr}")

    def interval(
        self, level: float = 0.95, *, simultaneous: bool = False
    ) -> tuple[PyTree[Float[Array, "..."]], PyTree[Float[Array, "..."]]]:
        """The ends of the central interval that covers the truth with probability `level`, for each coordinate alone.

        Quantiles are Student's where `degrees` is known and the normal's elsewhere, so the level is exact for normal
        draws and holds for others as their mean becomes normal; where the draws were given bounds (`expect` with
        `interval`), it holds for any number of them. Of a value that is known to be `positive`, the probability of a
        rare event, the interval is that of its logarithm (delta method). With the `skewness` of few means, those of
        sets of points, it is longer on the side of their tail. A `bias` that is known is added at both ends; of one
        that is not no interval knows anything. `simultaneous` is for all coordinates at once (Bonferroni).

        Raises `ValueError` when there are no standard errors, or `level` is not between 0 and 1.

        Source: Hall (1992), On the removal of skewness by transformation, JRSS B 54(1), 221-228.
        """
        level = check_fraction("level", level)
        if simultaneous:
            level = 1 - (1 - level) / self.coordinates
        if self.ends is not None:
            return self.ends.of(self.value, level)
        if self.stderr is None:
            raise ValueError("this estimate has no interval, for it was made without standard errors")
        upper = (1 + level) / 2
        quantile = float(special.ndtri(upper) if self.degrees is None else special.stdtrit(self.degrees, upper))

        (bias,) = _biases(self)
        skewness = jax.tree.map(jnp.zeros_like, self.value) if self.skewness is None else self.skewness

        def end(value: Array, error: Array, bias: Array, skewness: Array, sign: int) -> Array:
            if self.positive:
                return value * jnp.exp(sign * quantile * error / value)
            if self.skewness is None or self.degrees is None:
                return value + sign * (quantile * error + bias)
            return value + sign * (skewed_reach(quantile, sign * skewness, self.degrees) * error + bias)

        low, high = (
            jax.tree.map(functools.partial(end, sign=sign), self.value, self.stderr, bias, skewness) for sign in (-1, 1)
        )
        return low, high

    @property
    def coordinates(self) -> int:
        """How many numbers the value has, those of one estimate where there is a batch of them."""
        return max(sum(leaf.size for leaf in jax.tree.leaves(self.value)) // max(self.num_samples.size, 1), 1)

    def merge(self, other: "Estimate") -> "Estimate":
        """The estimate from both sets of draws, when the two are independent.

        Values are averaged in proportion to `num_samples`, and the variances of the two means add up accordingly;
        intervals that rest on bounds and quantiles are those of all draws. Degrees of freedom add up for plain
        sampling, where both tell of one variance. Those of other methods are Welch's, the least of all coordinates;
        where standard errors are not known, under a caller's `jit`, those of the estimate that has fewer. Not for two
        estimates from one key, and not for choosing the better of two.

        Raises `TypeError` for what is no estimate, and `ValueError` when the values differ in structure or shapes, or
        the intervals in what they rest on.
        """
        if not isinstance(other, Estimate):
            raise TypeError(f"only an estimate merges with one, got {describe(other)}")
        mine, theirs = _shapes(self.value), _shapes(other.value)
        if mine != theirs:
            raise ValueError(f"only estimates of the same shapes merge, got {mine} and {theirs}")
        kinds = [None if each.ends is None else each.ends.kind for each in (self, other)]
        if kinds[0] != kinds[1]:
            raise ValueError(f"only estimates whose intervals are of one kind merge, got {kinds[0]} and {kinds[1]}")
        total = self.num_samples + other.num_samples
        share, rest = self.num_samples / total, other.num_samples / total

        def part(share: Array, x: Array) -> Array:
            return share.astype(x.dtype).reshape(share.shape + (1,) * (x.ndim - share.ndim)) * x

        def average(a: Array, b: Array) -> Array:
            return part(share, a) + part(rest, b)

        def add_errors(a: Array, b: Array) -> Array:
            return jnp.hypot(part(share, a), part(rest, b))

        without_errors = self.stderr is None or other.stderr is None
        merged = Estimate(
            jax.tree.map(average, self.value, other.value),
            None if without_errors else jax.tree.map(add_errors, self.stderr, other.stderr),
            total,
            self.converged & other.converged,
            self.nonfinite + other.nonfinite,
            _degrees(self, other, share, rest),
            self.biased or other.biased,
            _method(self, other),
            bias=None if self.bias is None and other.bias is None else jax.tree.map(average, *_biases(self, other)),
            positive=self.positive and other.positive,
        )
        return merged if self.ends is None else self.ends.joined(other.ends, merged)

    def __repr__(self) -> str:
        return text_of(self)

    __str__ = __repr__


def _degrees(one: Estimate, other: Estimate, share: Array, rest: Array) -> float | int | None:
    """Of the sum of both variances: Welch (1947), Biometrika 34, 28-35."""
    known = [each.degrees for each in (one, other) if each.degrees is not None]
    if not known or (len(known) == 2 and one.method is None and other.method is None):
        return sum(known) if known else None
    errors = [each.stderr for each in (one, other)]
    if any(each is None for each in errors) or any(
        isinstance(leaf, Tracer) for leaf in jax.tree.leaves((errors, share))
    ):
        return min(known)

    def ratio(a: Array, b: Array) -> np.ndarray:
        """Of degrees of freedom to one, of which a normal error has none: the squares of the shares in the variance."""
        parts = [
            np.square(np.asarray(each, float) * np.reshape(part, np.shape(part) + (1,) * (each.ndim - part.ndim)))
            for each, part in ((a, share), (b, rest))
        ]
        whole = parts[0] + parts[1]
        of = [np.divide(part, whole, out=np.ones_like(whole), where=np.isfinite(whole) & (whole > 0)) for part in parts]
        both = zip(of, (one, other), strict=True)
        return np.asarray(sum(np.square(part) / (each.degrees or np.inf) for part, each in both))

    most = max((float(np.max(leaf, initial=0)) for leaf in jax.tree.leaves(jax.tree.map(ratio, *errors))), default=0.0)
    return max(1 / most, min(known)) if most > 0 else None


def _method(one: Estimate, other: Estimate) -> str | None:
    if one.method == other.method:
        return one.method
    names = [name for each in (one, other) for name in (each.method or "independent samples").split(" + ")]
    return " + ".join(dict.fromkeys(names))


def skewed_reach(quantile: float, skewness: Array, degrees: float | int) -> Array:
    """How far an interval of `degrees` + 1 means of such a skewness reaches up, in standard errors.

    Never less than Student's quantile: the skewness of a few means is known badly.
    """
    return jnp.maximum(_unskewed(quantile, -skewness / (degrees + 1) ** 0.5), quantile)


def _unskewed(y: float, a: Array) -> Array:
    r"""The t at which $t + a t^2 / 3 + a^2 t^3 / 27 + a / 6 = y$, where a is the skewness over the root of the number.

    The left side is nearly as symmetric as if there were no skewness; the right one is
    $3 ((1 + u)^{1/3} - 1) / a$ for $u = a (y - a / 6)$, here without the division.
    """
    root = jnp.cbrt(1 + a * (y - a / 6))
    return 3 * (y - a / 6) / (root**2 + root + 1)


def _biases(*estimates: Estimate) -> list[PyTree[Array]]:
    return [jax.tree.map(jnp.zeros_like, each.value) if each.bias is None else each.bias for each in estimates]


def _shapes(tree: PyTree[Array]) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.shape, tree)
