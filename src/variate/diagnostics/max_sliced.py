"""The max-sliced Wasserstein distance: the line along which samples are farthest apart."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from variate.checks import check_at_least, check_key, check_positive_int, describe
from variate.estimates import Estimate

from .base import check_order, check_samples, line_distance, matched, unit


class FarthestLine(eqx.Module):
    """A direction of unit norm, in the shape of a member, and how far apart the distributions are along it at least."""

    distance: Estimate
    direction: Float[Array, "..."]

    def __repr__(self) -> str:
        if isinstance(self.direction, Tracer) or self.distance.num_samples.ndim:
            return f"FarthestLine along {describe(self.direction)}"
        return f"at least {self.distance}"


def max_sliced_wasserstein(
    x: Any, y: Any, *, order: float | int = 2, num_starts: int = 16, num_steps: int = 64
) -> Callable[[Key[Array, ""]], FarthestLine]:
    r"""A lower bound of $\max_\theta W_p^p(\theta^T X, \theta^T Y)$ of the distributions, as a function of a key.

    The maximum over directions of two samples is too large: along some line chance alone sets them apart, the more so
    the more dimensions. So one half of each sample, taken at random, finds a direction $\hat\theta$ (gradient ascent on
    the sphere from several starts, one of them the difference of the means) and on its line the potentials
    $\hat\varphi, \hat\psi$ of optimal transport between the two, for which
    $\hat\varphi(s) + \hat\psi(t) \le |s - t|^p$ for all numbers s and t. The value is what the other halves make of
    them, $\overline{\hat\varphi(\hat\theta^T x)} + \overline{\hat\psi(\hat\theta^T y)}$: by duality its expectation is
    at most $W_p^p$ along $\hat\theta$, hence at most the maximum, whatever ascent came to, and its error bar is that of
    two means of independent numbers, its interval Student's with the degrees of freedom of the smaller half. Of one
    distribution the value is 0 or below, up to that. It speaks of the distributions, not of these samples, and falls
    short of the maximum by what half of the members do not tell. The wrong choice for the draws of a chain, which are
    not independent.

    - `x`, `y`: samples [n, *member] and [m, *member], of four members at least, of any shape.
    - `order`: p, 1 at least.
    - `num_starts`, `num_steps`: of the ascent, each step of which costs $O((n + m)(d + \log(n + m)))$.

    Raises `TypeError` for what is no array of real numbers, and `ValueError` for fewer than four members, members of
    different shapes, an `order` below 1, or counts that are not positive.

    Source: Deshpande et al. (2019), Max-sliced Wasserstein distance and its use for GANs, CVPR, eq. 4; Villani (2003),
    Topics in optimal transportation, theorem 1.3, for the duality.
    """
    one, other = check_samples(x, y)
    for name, sample in (("x", one), ("y", other)):
        check_at_least(f"the number of members of {name}", len(sample), 4)
    power = check_order(order)
    starts, steps = check_positive_int("num_starts", num_starts), check_positive_int("num_steps", num_steps)
    member = np.shape(x)[1:]

    def find(key: Any) -> FarthestLine:
        check_key(key)
        distance, along = _find(power, starts, steps, key, one, other)
        count = len(one) - len(one) // 2 + len(other) - len(other) // 2
        fewest = min(len(one) - len(one) // 2, len(other) - len(other) // 2)  # no more than Welch's degrees of freedom
        finite = jnp.all(jnp.isfinite(jnp.stack(distance)))
        estimate = Estimate(*distance, count, finite, degrees=float(fewest - 1), biased=True)
        return FarthestLine(estimate, along.reshape(member))

    return find


@eqx.filter_jit
def _find(
    order: float, num_starts: int, num_steps: int, key: Key[Array, ""], x: Float[Array, "n d"], y: Float[Array, "m d"]
) -> tuple[tuple[Array, Array], Array]:
    first, second, third = jax.random.split(key, 3)
    x, y = jax.random.permutation(first, x), jax.random.permutation(second, y)
    n, m = len(x) // 2, len(y) // 2
    along = farthest(order, starts(third, num_starts, x[:n], y[:m]), num_steps, x[:n], y[:m])[0]
    pair = Potentials(order, jnp.sort(x[:n] @ along), jnp.sort(y[:m] @ along))
    return held_out(pair, along, x[n:], y[m:]), along


def held_out(
    pair: "Potentials", along: Float[Array, " d"], x: Float[Array, "n d"], y: Float[Array, "m d"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """What members that had no say in them make of a line and its potentials, and the standard error."""
    a, b = pair.of_x(x @ along), pair.of_y(y @ along)
    variance = jnp.var(a, ddof=1) / len(a) + jnp.var(b, ddof=1) / len(b)
    return jnp.mean(a) + jnp.mean(b), jnp.sqrt(variance)


def starts(
    key: Key[Array, ""], number: int, x: Float[Array, "n d"], y: Float[Array, "m d"]
) -> Float[Array, "number d"]:
    """Uniform on the sphere, save that the last is the difference of the means where that is not 0."""
    found = jax.vmap(unit)(jax.random.normal(key, (number, x.shape[1]), x.dtype))
    shift = jnp.mean(x, axis=0) - jnp.mean(y, axis=0).astype(x.dtype)
    return found.at[-1].set(jnp.where(jnp.linalg.norm(shift) > 0, unit(shift), found[-1]))


def farthest(
    order: float, starts: Float[Array, "k d"], num_steps: int, x: Float[Array, "n d"], y: Float[Array, "m d"]
) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    """The best direction that ascent finds for these samples, and their $W_p^p$ along it.

    A step goes along a great circle towards the gradient, half as far where that would be down, and else half as far
    again as the last: $W_p^p$ never falls.
    """

    def distance(along: Array) -> Array:
        return line_distance(jnp.sort(x @ along), jnp.sort(y @ along), order)

    def step(state: tuple[Array, Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array, Array], None]:
        along, value, gradient, angle = state
        tangent = gradient - (gradient @ along) * along
        norm = jnp.linalg.norm(tangent)
        towards = tangent / jnp.where(norm > 0, norm, 1)
        moved = unit(jnp.cos(angle) * along + jnp.sin(angle) * towards)
        new, slope = jax.value_and_grad(distance)(moved)
        up = new > value
        chosen = jax.tree.map(lambda a, b: jnp.where(up, a, b), (moved, new, slope), (along, value, gradient))
        return (*chosen, jnp.minimum(jnp.where(up, 1.5 * angle, 0.5 * angle), np.pi / 4)), None

    def climb(start: Array) -> tuple[Array, Array]:
        state = (start, *jax.value_and_grad(distance)(start), jnp.asarray(0.5, start.dtype))
        along, value, *_ = jax.lax.scan(step, state, length=num_steps)[0]
        return along, value

    along, values = jax.vmap(climb)(starts)
    best = jnp.argmax(values)
    return along[best], values[best]


class Potentials(eqx.Module):
    r"""$\varphi$ and $\psi$ with $\varphi(s) + \psi(t) \le |s - t|^p$ for all s and t, with equality where t = T(s).

    T is the increasing map between the quantiles of two sorted samples, straight between them and of slope 1 beyond:
    $\varphi' (s)= p |s - T(s)|^{p - 1} \mathrm{sgn}(s - T(s))$ and $\psi(t) = |T^{-1}(t) - t|^p - \varphi(T^{-1}(t))$.
    """

    order: float = eqx.field(static=True)
    s: Float[Array, " k"]
    t: Float[Array, " k"]
    height: Float[Array, " k"]

    def __init__(self, order: float, x: Float[Array, " n"], y: Float[Array, " m"]):
        self.order = order
        self.s, self.t = (x, y) if len(x) == len(y) else matched(x, y)[:2]
        apart = self.s - self.t
        rises = self._rise(apart[:-1], apart[1:], jnp.diff(self.s))
        self.height = jnp.concatenate([jnp.zeros(1, rises.dtype), jnp.cumsum(rises)])

    def of_x(self, s: Float[Array, " n"]) -> Float[Array, " n"]:
        k = jnp.clip(jnp.searchsorted(self.s, s, side="right") - 1, 0, len(self.s) - 1)
        return self.height[k] + self._rise((self.s - self.t)[k], s - _straight(s, self.s, self.t), s - self.s[k])

    def of_y(self, t: Float[Array, " n"]) -> Float[Array, " n"]:
        s = _straight(t, self.t, self.s)
        return jnp.abs(s - t) ** self.order - self.of_x(s)

    def _rise(self, a: Array, b: Array, width: Array) -> Array:
        r"""The integral of $\varphi'$ where what is between s and T(s) goes straight from a to b."""

        def slope(apart: Array) -> Array:
            return self.order * jnp.sign(apart) * jnp.abs(apart) ** (self.order - 1)

        near = jnp.abs(b - a) <= 0.05 * jnp.maximum(jnp.abs(a), jnp.abs(b))
        simpson = (slope(a) + 4 * slope((a + b) / 2) + slope(b)) / 6
        exact = (jnp.abs(b) ** self.order - jnp.abs(a) ** self.order) / jnp.where(near, 1, b - a)
        return width * jnp.where(near, simpson, exact)


def _straight(at: Float[Array, " n"], s: Float[Array, " k"], t: Float[Array, " k"]) -> Float[Array, " n"]:
    return jnp.interp(at, s, t) + jnp.minimum(at - s[0], 0) + jnp.maximum(at - s[-1], 0)
