"""The inverse of a distribution function that only can be evaluated."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

Values = Float[Array, "..."]

_STEPS = 100  # far more than the ten or so that a smooth function takes


class _Bracket(NamedTuple):
    """A sign change between `a` and `b`, of which `a` is the latest point, and the point `c` before."""

    a: Values
    b: Values
    c: Values
    fa: Values
    fb: Values
    fc: Values
    at: Values  # where to look next, as a share of the way from `a` to `b`


def invert(cdf: Callable[[Values], Values], u: Values, low: Values, high: Values) -> Values:
    """The point in [`low`, `high`] where an increasing function has the value `u`; an end where it is beyond.

    Source: Chandrupatla (1997), A new hybrid quadratic/bisection algorithm for finding the zero of a nonlinear
    function without using derivatives, Adv. Eng. Softw. 28(3), 145-149.
    """
    tolerance = 4 * float(jnp.finfo(u.dtype).eps)

    def finished(s: _Bracket) -> Bool[Array, "..."]:
        best = jnp.where(jnp.abs(s.fa) < jnp.abs(s.fb), s.a, s.b)
        short = jnp.abs(s.b - s.a) <= tolerance * jnp.maximum(jnp.abs(best), 1)
        return short | (s.fa == 0) | (s.fb == 0) | (s.fa * s.fb > 0) | ~jnp.isfinite(s.fa * s.fb)

    def step(state: tuple[Array, _Bracket]) -> tuple[Array, _Bracket]:
        count, s = state
        x = s.a + s.at * (s.b - s.a)
        fx = cdf(x) - u
        same = (fx > 0) == (s.fa > 0)
        c, fc = jnp.where(same, s.a, s.b), jnp.where(same, s.fa, s.fb)
        b, fb = jnp.where(same, s.b, s.a), jnp.where(same, s.fb, s.fa)
        new = _Bracket(x, b, c, fx, fb, fc, _next(x, b, c, fx, fb, fc, tolerance))
        done = finished(s)
        return count + 1, _Bracket(*(jnp.where(done, old, now) for old, now in zip(s, new, strict=True)))

    low, high = jnp.broadcast_to(low, u.shape).astype(u.dtype), jnp.broadcast_to(high, u.shape).astype(u.dtype)
    fa, fb = cdf(high) - u, cdf(low) - u
    start = _Bracket(high, low, low, fa, fb, fb, jnp.full_like(u, 0.5))
    going = lambda state: (state[0] < _STEPS) & ~jnp.all(finished(state[1]))  # noqa: E731
    _, s = lax.while_loop(going, step, (jnp.zeros((), jnp.int32), start))
    found = jnp.where(jnp.abs(s.fa) < jnp.abs(s.fb), s.a, s.b)
    beyond = jnp.where(u >= cdf(high), high, low)
    return jnp.where((start.fa >= 0) & (start.fb <= 0), found, beyond) + 0 * (s.fa + s.fb)  # a NaN stays one


def _next(a: Values, b: Values, c: Values, fa: Values, fb: Values, fc: Values, tolerance: float) -> Values:
    """By inverse quadratic interpolation where that is sure to stay inside, else by halving."""
    xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
    inside = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
    curved = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
    least = tolerance * jnp.maximum(jnp.abs(a), 1) / jnp.maximum(jnp.abs(b - a), jnp.finfo(a.dtype).tiny)
    at = jnp.where(inside & jnp.isfinite(curved), curved, 0.5)
    least = jnp.minimum(least, 0.5)
    return jnp.clip(at, least, 1 - least)


def invert_count(cdf: Callable[[Values], Values], u: Values, high: Values) -> Values:
    """The smallest whole number k >= 0 at which an increasing function is at least `u`; at most `high`."""

    def step(ends: tuple[Values, Values]) -> tuple[Values, Values]:
        low, high = ends
        middle = jnp.floor((low + high) / 2)
        enough = cdf(middle) >= u
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    high = jnp.broadcast_to(jnp.ceil(high), u.shape).astype(u.dtype)
    going = lambda ends: jnp.any(ends[1] - ends[0] > 1)  # noqa: E731
    return lax.while_loop(going, step, (jnp.full_like(u, -1), high))[1]
