"""When there are draws enough: rules that keep the error bar honest although they look again and again."""

import dataclasses
import functools
import math
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool
from scipy import special

from variate.checks import check_fraction, check_positive, check_positive_int
from variate.trees import all_of

from .estimate import Estimate, skewed_reach
from .rules import Pair, Rule, parts

_LOOKS = 64  # more doublings than there are numbers of draws
_ROUNDING = 4  # units in the last place of a mean: what folding and reporting it may have rounded off


@runtime_checkable
class StoppingRule(Protocol):
    """What `expect(until=...)` asks after every block of draws. A rule is hashable, and traceable by JAX."""

    def assess(self, estimate: Estimate, /) -> Estimate:
        """The estimate as it would be reported if sampling stopped now; `converged` tells whether it may.

        `estimate` is a fold's, with the standard error of a number of samples fixed in advance. The one returned must
        have an error bar that is right at the moment, itself random, at which this rule stops.
        """
        ...


@dataclasses.dataclass(frozen=True)
class StdErr(Rule):
    r"""Stop when every coordinate's standard error is at most $\max(\mathrm{absolute}, \mathrm{relative}\,|\hat\mu|)$.

    A plain error bar looked at again and again is too short at the moment when it happens to look good. Here
    $\hat\mu_t \pm w_t$ is an asymptotic confidence sequence: it covers the truth at all $t$ at once with probability
    `level`, hence at the one where sampling stops,

    $$w_t = \hat\sigma_t \sqrt{\frac{t\rho^2 + 1}{t^2\rho^2} \log\frac{t\rho^2 + 1}{\alpha^2}},
      \qquad \alpha = 1 - \mathrm{level}.$$

    The reported `stderr` is $w_t$ over the normal quantile of `level`, so that `interval(level)` is this sequence; at
    higher levels the interval is longer than need be, at lower ones not guaranteed.

    `expected_samples` tunes $\rho$: the sequence is valid everywhere and tightest there, where it costs 2.4 times the
    draws of a number fixed in advance; from a tenth of it to a thousandfold, up to 4 times.

    Coordinates are each covered with probability `level`, or all at once where `simultaneous` is true (Bonferroni).

    No look is taken before `min_samples` draws: by then an event that was never seen is likely rarer than 3 in that
    many. Raise it for rare events and heavy tails, where means become normal late; for a number of samples that is
    known in advance `num_samples` is cheaper. `relative` alone never stops where the truth is 0, nor before an event
    of which it is the probability was seen.

    Rounding is in no error bar, and no number of draws averages it out. So a tolerance below 4 units in the last place
    of $\hat\mu$, $4 \epsilon |\hat\mu|$ in the type of the results, is never met: sampling stops where the error bar is
    down to these, not `converged`, and `Estimate.ended` says so. What `f` itself rounds off may be more.

    Two rules combine by `&`, both tolerances are met, and `|`, one of them is; with both fields in one rule each
    coordinate has to be within one of them. With `relative_to="sd"`, for `vt.sample` alone, `absolute` is in units of
    each number's standard deviation.

    Raises `ValueError` when neither tolerance is given, one is not positive, or `level` is not between 0 and 1.

    Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024), Time-uniform central limit theory and asymptotic
    confidence sequences, Ann. Statist. 52(6), 2613-2640, theorem 2.2 (the normal mixture of Robbins 1970).
    """

    absolute: float | None = None
    _: dataclasses.KW_ONLY
    relative: float | None = None
    level: float = 0.95
    expected_samples: int = 10_000
    min_samples: int = 1_000
    simultaneous: bool = False
    relative_to: str | None = None  # "sd"

    def __post_init__(self) -> None:
        if self.absolute is None and self.relative is None:
            raise ValueError("StdErr needs a tolerance: StdErr(1e-3), StdErr(relative=0.01), or both")
        if self.relative_to is not None and (self.relative_to != "sd" or self.absolute is None):
            raise ValueError(f'relative_to must be "sd", with StdErr(0.05, relative_to="sd"), got {self.relative_to!r}')
        for name in ("absolute", "relative"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        check_fraction("level", self.level)
        check_positive_int("expected_samples", self.expected_samples)
        check_positive_int("min_samples", self.min_samples)

    def assess(self, estimate: Estimate) -> Estimate:
        if self.relative_to is not None:
            raise ValueError('until: StdErr(..., relative_to="sd") is for vt.sample; give expect the tolerance itself')
        widening = functools.partial(self._widening, estimate.num_samples, self._miss(estimate))
        stderr = jax.tree.map(lambda error: error * widening(error.dtype), estimate.stderr)
        return self._assessed(estimate, stderr)

    def _assessed(self, estimate: Estimate, stderr: Any) -> Estimate:
        enough = all_of(jax.tree.map(self._within, estimate.value, stderr))
        return Estimate(
            estimate.value,
            stderr,
            estimate.num_samples,
            estimate.converged & enough & (estimate.num_samples >= max(self.min_samples, 2)),
            estimate.nonfinite,
            biased=estimate.biased,
        )

    def assess_sets(self, estimate: Estimate, degrees: int, number: Array) -> Estimate:
        r"""The same for the mean of a few independent sets of draws, looked at when their size has doubled again.

        `number` is their size in units of the first look's. The interval is Student's of so many `degrees`, at look
        k = 0, 1, ... of the level $1 - 6 \alpha / (\pi (k + 1))^2$: all of them hold at once with probability `level`
        (Bonferroni), hence also the one where sampling stops. Where the estimate tells the skewness of the means, it is
        longer on both sides as `Estimate.interval` is on one.
        """
        looks = 1 + np.arange(_LOOKS)
        shares = 6 * self._miss(estimate) / (np.pi * looks) ** 2
        widening = special.stdtrit(degrees, 1 - shares / 2) / special.ndtri((1 + self.level) / 2)
        look = jnp.ceil(jnp.log2(jnp.maximum(number, 1).astype(float))).astype(int)
        factor = jnp.asarray(widening)[jnp.minimum(look, _LOOKS - 1)]
        stderr = jax.tree.map(lambda error: error * factor.astype(error.dtype), estimate.stderr)
        if estimate.skewness is not None:
            # By that of the level itself: at those of the looks it would be some times longer for no more than chance.
            students = float(special.stdtrit(degrees, 1 - self._miss(estimate) / 2))
            longer = lambda skewness: skewed_reach(students, jnp.abs(skewness), degrees) / students  # noqa: E731
            stderr = jax.tree.map(jnp.multiply, stderr, jax.tree.map(longer, estimate.skewness))
        return self._assessed(estimate, stderr)

    def _within(self, value: Array, stderr: Array) -> Bool[Array, "..."]:
        allowed = self.allowed(value)
        return (stderr <= allowed) & (allowed >= resolution(value)) & (allowed > 0)

    def allowed(self, value: Any, unit: Any = 1.0) -> Array:
        """The largest error that will do, where `absolute` is in such units."""
        absolute = jnp.asarray((self.absolute or 0.0) * unit, value.dtype)
        return jnp.maximum(absolute, (self.relative or 0.0) * jnp.abs(value))

    def reach(self, estimate: Estimate) -> Any:
        """What has to be below it, of an assessed estimate."""
        return estimate.stderr

    def _miss(self, estimate: Estimate) -> float:
        """The probability with which a coordinate may be outside of its interval."""
        return (1 - self.level) / (estimate.coordinates if self.simultaneous else 1)

    def _widening(self, num_samples: Array, miss: float, dtype: jnp.dtype) -> Array:
        """The length of the confidence sequence over that of the interval for a number of samples fixed in advance."""
        log_alpha = math.log(miss)
        # The minimum of w_t over ρ² at t = expected_samples solves x + 1 = α² exp(x) for x = t ρ².
        x_expected = -special.lambertw(-math.exp(2 * log_alpha - 1), k=-1).real - 1
        x = num_samples.astype(dtype) * float(x_expected / self.expected_samples)
        quantile = float(special.ndtri((1 + self.level) / 2))
        return jnp.sqrt((1 + 1 / x) * (jnp.log1p(x) - 2 * log_alpha)) / quantile


@dataclasses.dataclass(frozen=True)
class Within(Rule):
    """Stop when the interval at `level` reaches no further than `absolute` from the value, for every coordinate.

    For `expect(..., interval=...)`, whose intervals hold whenever one looks, hence where sampling stops, and for any
    number of draws: no look is too early for a rare event. All coordinates are covered at once where `simultaneous`
    is true. The wrong choice without bounds, for which `StdErr` is.

    Raises `ValueError` when `absolute` is not positive or `level` not between 0 and 1.
    """

    absolute: float
    _: dataclasses.KW_ONLY
    level: float = 0.95
    simultaneous: bool = False

    def __post_init__(self) -> None:
        check_positive("absolute", self.absolute)
        check_fraction("level", self.level)

    def assess(self, estimate: Estimate) -> Estimate:
        if estimate.ends is None or not estimate.ends.anytime:
            raise ValueError("until: Within(...) needs an interval that rests on bounds: expect(..., interval=...)")

        def near(value: Array, reach: Array) -> Array:
            return (reach <= self.absolute) & (self.allowed(value) >= resolution(value))

        enough = all_of(jax.tree.map(near, estimate.value, self.reach(estimate)))
        return dataclasses.replace(estimate, converged=estimate.converged & enough)

    def allowed(self, value: Array) -> Array:
        """The longest reach that will do."""
        return jnp.full_like(value, self.absolute)

    def reach(self, estimate: Estimate) -> Any:
        """How far the interval reaches from the value."""
        low, high = estimate.interval(self.level, simultaneous=self.simultaneous)
        return jax.tree.map(lambda value, a, b: jnp.maximum(value - a, b - value), estimate.value, low, high)


def resolution(value: Array) -> Array:
    """How much of a mean may be rounding, of folding and reporting it in numbers of its type."""
    return _ROUNDING * jnp.finfo(value.dtype).eps * jnp.abs(value)


def spent(rule: StoppingRule, assessed: Estimate) -> Bool[Array, "*batch"]:
    """Whether draws are of no more use: all coordinates are as sure as asked for, or as their numbers can tell."""
    if isinstance(rule, Pair):  # also of `Either`, for one that can still be met may end it
        return spent(rule.first, assessed) & spent(rule.second, assessed)
    if not isinstance(rule, StdErr | Within):
        return jnp.zeros((), bool)

    def sure(value: Array, reach: Array) -> Array:
        finest = jnp.maximum(rule.allowed(value), resolution(value))
        return (reach <= finest) & (finest > 0)

    fewest = max(rule.min_samples, 2) if isinstance(rule, StdErr) else 1
    return all_of(jax.tree.map(sure, assessed.value, rule.reach(assessed))) & (assessed.num_samples >= fewest)


def unresolved(rule: StoppingRule | None, assessed: Estimate) -> str | None:
    """Why sampling ended without what was asked for, where that is finer than numbers of their type can tell."""
    if rule is None or bool(assessed.converged) or not bool(spent(rule, assessed)):
        return None
    if isinstance(rule, Pair):
        return unresolved(rule.first, assessed) or unresolved(rule.second, assessed)
    assert isinstance(rule, StdErr | Within)  # no other is ever spent
    finest = [(resolution(value), rule.allowed(value)) for value in jax.tree.leaves(assessed.value)]
    for (rounding, allowed), value in zip(finest, jax.tree.leaves(assessed.value), strict=True):
        if bool(jnp.any(allowed < rounding)) and bool(jnp.all(jnp.isfinite(value))):
            worst = float(jnp.max(jnp.where(allowed < rounding, rounding, 0)))
            return f"the tolerance is finer than {value.dtype} can tell here, about {worst:.2g}"
    return None


def is_tolerance(rule: Any) -> bool:
    """Whether it is made of `StdErr` alone."""
    return all(isinstance(part, StdErr) for part in parts(rule))
