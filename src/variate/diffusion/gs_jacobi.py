"""Autoregressive flows inverted in parallel: Gauss-Seidel over segments of a sequence, Jacobi within each."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from variate.checks import check_number, check_positive_int, check_takes, describe, name_of
from variate.closures import fresh_jit
from variate.estimates import Estimate
from variate.estimates.moments import Moments

from .checks import asked

Update = Callable[[Array, Array], Array]  # (noise, x) -> x, both of one sequence

CUTS, ROUNDING = 64, 1e3  # where causality is looked at, and how many units of rounding are no dependence
POWERS = 30  # steps of the iteration for the largest singular value


class CausalInverse(eqx.Module):
    """Sequences, and how many rounds each took; a loop over positions takes as many as a sequence is long."""

    values: Float[Array, "n length ..."]  # no numbers from the first position on that is none
    finite: Bool[Array, " n"]  # which sequences are numbers throughout
    rounds: Int[Array, " n"]  # evaluations of the whole sequence, one after another
    by_segment: Int[Array, "n segments"]  # the same, apart

    def __repr__(self) -> str:
        n, length, *event = self.values.shape
        bad = n - int(jnp.sum(self.finite))
        said = (
            f"{n:,} sequences of shape {(length, *event)}, in at most {int(jnp.max(self.rounds))} rounds for {length}"
        )
        return said + (f"\n{bad:,} are not finite" if bad else "")


class JacobiMetrics(eqx.Module):
    """What says how a flow is best inverted, as means over sequences."""

    convergence: Estimate  # the norm of the Jacobian of an update: large where many rounds are needed
    from_noise: Estimate  # how far from the inverse one round leads that starts from the noise, by root mean square
    from_zero: Estimate  # and one that starts from zeros


def invert_causal(
    update: Update | Any,
    noise: Float[Array, "n length ..."] | Any,
    *,
    segment: int | Any = None,
    tolerance: float | Any = 0.0,
    start: Float[Array, "n length ..."] | Any = None,
) -> CausalInverse:
    r"""The x with $x_i = F_i(z_i, x_{< i})$, of a map F whose position i depends on those before it alone.

    An affine autoregressive flow $z_i = (x_i - \mu_i(x_{< i}))\, e^{-s_i(x_{< i})}$ is inverted by the update $F(z, x)
    = \mu(x) + e^{s(x)} z$, and any other one by the inverses of its scalar maps. A round is $x \leftarrow F(z, x)$ on
    a whole segment (Jacobi); the next segment begins when one is done (Gauss-Seidel). After k rounds the first k
    positions of a segment are exact whatever it started from, so a segment never takes more rounds than it is long.

    With a tolerance of 0 a segment is done where a round changes no bit, and the result is that of a loop over
    positions, up to rounding. Otherwise it is done where no coordinate would move by more than the tolerance, and is
    left there: $|x - F(z, x)| \le$ `tolerance`. So of an affine flow it is the exact inverse of a noise that differs
    by at most $e^{-s}$ times that.

    Choose it where positions depend weakly on those before them, and a device evaluates a sequence in the time of one
    position. A round evaluates the whole sequence, with segments too: they keep what lies behind from being led astray
    by what is not yet right, and cost rounds where that is no danger. The wrong choice where an update of one position
    is much cheaper by itself, as with a cache of keys and values.

    Args:
        update: F, a function (noise, x) of one sequence, its first axis that of positions, which returns a new x.
        noise: z, one sequence a row.
        segment: how many positions are iterated together; all by default.
        tolerance: in units of x.
        start: to iterate from; the noise by default.

    Raises:
        TypeError, ValueError: an argument that is none of the above, an update that returns another shape, or in which
            a position depends on itself or a later one. That is looked at up to 64 positions, at random numbers, unless
            the function is one inside `jit` that cannot be evaluated yet.

    Source: Liu and Qin (2025), Accelerate TarFlow sampling with GS-Jacobi iteration, arXiv:2505.12849. They evaluate
    segments alone, by a cache, and fix the number of rounds.
    """
    noise, start = _checked(update, noise, start)
    length = noise.shape[1]
    segment = length if segment is None else min(check_positive_int("segment", segment), length)
    if check_number("tolerance", tolerance) < 0:
        raise ValueError(f"tolerance must not be negative, got {tolerance}")
    # A start that is no number would spoil what does not depend on it: nothing times a mask of zero is no number.
    start = jnp.where(jnp.isfinite(start), start, jnp.zeros_like(start))
    values, rounds = _run(update, noise, start, jnp.asarray(tolerance, noise.dtype), segment)
    bad = jnp.any(~jnp.isfinite(values), axis=tuple(range(2, values.ndim)))
    spoilt = (jnp.cumsum(bad, axis=1) > bad.astype(int)).reshape(bad.shape + (1,) * (values.ndim - 2))
    values = jnp.where(spoilt, jnp.full_like(values, jnp.nan), values)
    return CausalInverse(values, ~jnp.any(bad, axis=1), jnp.sum(rounds, axis=1), rounds)


def jacobi_metrics(update: Update | Any, noise: Float[Array, "n length ..."] | Any) -> JacobiMetrics:
    r"""How hard a causal map is to invert by rounds, and which start is nearer, at the exact inverses of some noise.

    `convergence` is $\lVert \partial F / \partial x \rVert_2$: of the blocks of a flow, those in which it is by far the
    largest need the most rounds, and gain by segments if any do. `from_noise` and `from_zero` are the root mean square
    of $F(z, z) - x$ and $F(z, 0) - x$. Costs a few rounds for each sequence, and 30 derivatives in either direction.

    Args:
        update: as for `invert_causal`.
        noise: z, one sequence a row, 16 say.

    Raises:
        TypeError, ValueError: as `invert_causal`.

    Source: Liu and Qin (2025), the convergence ranking metric and the initial guessing metric. They bound the norm by
    those of the last layer's weights, where here it is that of the derivative itself, by 30 steps of the power
    iteration; and they average what is left of a guess over data before its norm is taken.
    """
    found = invert_causal(update, noise)
    rows = _metrics(update, jnp.asarray(noise), found.values)
    return JacobiMetrics(*(Moments.of_rows(row).read() for row in rows))


def _checked(update: Any, noise: Any, start: Any) -> tuple[Array, Array]:
    check_takes("update", update, (None, None), "the noise and x, both of one sequence")
    noise = jnp.asarray(noise)
    if noise.ndim < 2 or 0 in noise.shape or not jnp.issubdtype(noise.dtype, jnp.floating):
        raise ValueError(f"noise must be real numbers, one sequence of positions a row, got {describe(noise)}")
    start = noise if start is None else jnp.asarray(start, noise.dtype)
    if start.shape != noise.shape:
        raise ValueError(f"start must be of the shape {noise.shape} of the noise, got {describe(start)}")
    one = jax.ShapeDtypeStruct(noise.shape[1:], noise.dtype)
    made = jax.eval_shape(partial(asked, "update", update), one, one)
    if getattr(made, "shape", None) != one.shape or made.dtype != one.dtype:
        raise TypeError(
            f"update must return {describe(one)}, as it is given, got {describe(made)} of {name_of(update)}"
        )
    _check_causal(update, one)
    return noise, start


def _check_causal(update: Update, one: jax.ShapeDtypeStruct) -> None:
    """At random numbers, of which those from some position on are replaced: up to there, nothing may change."""
    length, rng = one.shape[0], np.random.default_rng(0)
    cuts = np.unique(np.linspace(0, length - 1, min(length, CUTS)).round().astype(int))
    noise, before, after = rng.normal(size=(3, *one.shape))
    kept = (np.arange(length) < cuts[:, None]).reshape(len(cuts), length, *[1] * (len(one.shape) - 1))
    with jax.ensure_compile_time_eval():
        points = jnp.asarray(np.concatenate([before[None], np.where(kept, before, after)]), one.dtype)
        found = jax.jit(jax.vmap(update, (None, 0)))(jnp.asarray(noise, one.dtype), points)
    if isinstance(found, Tracer):
        return
    found = np.asarray(found, np.float64).reshape(len(points), length, -1)
    with np.errstate(invalid="ignore"):
        apart = (
            np.max(np.abs(found[1:] - found[:1]), axis=2) > ROUNDING * jnp.finfo(one.dtype).eps * np.abs(found).max()
        )
    wrong = apart & (np.arange(length) <= cuts[:, None])
    if np.any(wrong):
        cut, position = np.argwhere(wrong)[0]
        raise ValueError(
            f"update must be causal, position i of what it returns depending on x before i alone; in {name_of(update)} "
            f"position {position} changed with x from position {cuts[cut]} on"
        )


@fresh_jit
def _run(update: Update, noise: Array, start: Array, tolerance: Array, segment: int) -> tuple[Array, Array]:
    length = noise.shape[1]
    count = -(-length // segment)
    position = jnp.arange(length).reshape(length, *[1] * (noise.ndim - 2))

    def one(noise: Array, start: Array) -> tuple[Array, Array]:
        def round_of(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            x, index, rounds = state
            inside = position // segment == index
            # What is no number is either not yet right, or is so at last and found in what is returned.
            new = update(noise, jnp.where(jnp.isfinite(x), x, start))
            agreed = jnp.all(~inside | (jnp.abs(new - x) <= tolerance))
            rounds = rounds.at[index].add(1)
            through = rounds[index] >= jnp.minimum(segment, length - index * segment)
            x = jnp.where(inside & ~agreed, new, x)
            return x, index + (agreed | through).astype(int), rounds

        begin = (start, jnp.zeros((), int), jnp.zeros(count, int))
        x, _, rounds = jax.lax.while_loop(lambda state: state[1] < count, round_of, begin)
        return x, rounds

    return jax.vmap(one)(noise, start)


@fresh_jit
def _metrics(update: Update, noise: Array, values: Array) -> tuple[Array, Array, Array]:
    def one(noise: Array, x: Array) -> tuple[Array, Array, Array]:
        def guess(start: Array) -> Array:
            return jnp.sqrt(jnp.mean((update(noise, start) - x) ** 2))

        _, push = jax.linearize(lambda x: update(noise, x), x)
        pull = jax.linear_transpose(push, x)

        def power(vector: Array, _: None) -> tuple[Array, Array]:
            (back,) = pull(push(vector))
            norm = jnp.sqrt(jnp.sum(back**2))
            return back / jnp.where(norm > 0, norm, jnp.ones_like(norm)), jnp.sqrt(norm)

        begin = jnp.asarray(np.random.default_rng(0).normal(size=x.shape), x.dtype)
        _, norms = jax.lax.scan(power, begin / jnp.sqrt(jnp.sum(begin**2)), None, POWERS)
        return norms[-1], guess(noise), guess(jnp.zeros_like(noise))

    return jax.vmap(one)(noise, values)
