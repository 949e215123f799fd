"""The probability that a program's number is above a threshold, by methods for rare events."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from variate import checks
from variate.estimates.estimate import Estimate
from variate.estimates.moments import Moments
from variate.estimates.sampling import opened, raise_if_invalid, staged
from variate.programs.runs import Wishes, run_with
from variate.programs.uniforms import layout
from variate.trees import Static

from .splitting import Score, Splitting


class _Found(NamedTuple):
    estimate: Estimate
    invalid: dict[int, Array]


def exceedance(
    f: Callable[..., PyTree], threshold: float | int, *, scheme: Splitting | None = None
) -> Callable[..., Estimate]:
    r"""The probability of a rare event: a function `(key, *args)` returning the `Estimate` of $P(f(key, *args) > a)$.

    `f(key, *args)` returns one real number, the score, which should grow on the way to the event: the load over the
    capacity, rather than whether it is over. Draws with known quantiles move in small steps, whatever else is random is
    drawn anew. `num_samples` of the estimate is the number of runs that it took; a score that is not a number is below
    any other, is counted, and makes `converged` false.

    Args:
        threshold: a.
        scheme: how; `Splitting()` when none is given.

    Raises:
        TypeError: the key is not typed, or the score is no real number.
        ValueError: the score is an array, a draw is inside a `while_loop`, or a distribution's parameters are out of
            range.
    """
    checks.check_callable("f", f)
    threshold = checks.check_number("threshold", threshold)
    scheme = Splitting() if scheme is None else scheme
    if not isinstance(scheme, Splitting):
        raise TypeError(f"scheme must be Splitting(), got {checks.describe(scheme)}")

    @functools.wraps(f, updated=())
    def estimate(key: Any = None, *args: Any) -> Estimate:
        call = opened(f, key, args)
        found = _found(scheme, call.static, key, call.numbers, jnp.asarray(threshold, float))
        raise_if_invalid(call, key, found.invalid)
        return found.estimate

    return estimate


@functools.partial(jax.jit, static_argnums=(0, 1))
def _found(
    scheme: Splitting, static: Static, key: Key[Array, ""], numbers: list[Any], threshold: Float[Array, ""]
) -> _Found:
    program, shape = staged(static, key, numbers)
    leaves = jax.tree.leaves(shape)
    if len(leaves) != 1 or leaves[0].shape != ():
        raise ValueError(f"f must return one number, the score, got {shape}")
    plan = layout(program, {})

    def run(z: Float[Array, " d"], key: Key[Array, ""]) -> Score:
        found = run_with(program, [key, *numbers], plan.split(jax.scipy.special.ndtr(z)), Wishes({}))
        score = found.outputs[0].astype(float)
        broken = jnp.isnan(score)
        return Score(jnp.where(broken, -jnp.inf, score), broken.astype(int), found.invalid)

    pilot, rest = jax.random.split(key)
    ladder, tried = scheme.ladder(run, plan.dimension, threshold, pilot)
    climb = functools.partial(scheme.climb, run, plan.dimension, threshold, ladder)
    climbs = jax.vmap(climb)(jax.random.split(rest, scheme.replicates))
    found = Moments.of_rows(climbs.probability).read()
    broken = tried.broken + jnp.sum(climbs.broken)
    # Where no replicate met the event nothing is known of the error, least of all that it is 0.
    met = ladder.arrived & (found.value > 0)
    # The pilot moves its particles once more.
    levels = ladder.length * (scheme.replicates + 1) + ladder.arrived.astype(int)
    estimate = Estimate(
        found.value,
        jnp.where(met, jnp.asarray(found.stderr), jnp.nan),
        scheme.particles * (scheme.replicates + 1 + levels * scheme.moves),
        met & (broken == 0),
        broken,
        degrees=float(scheme.replicates - 1),
        method=type(scheme).__name__,
        positive=True,
    )
    return _Found(estimate, {site: times + jnp.sum(climbs.invalid[site]) for site, times in tried.invalid.items()})
