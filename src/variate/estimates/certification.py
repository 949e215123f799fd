"""Randomised smoothing: how far an input may be moved before a classifier under noise changes its mind."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jaxtyping import Array, Float, Int, Key

from variate import checks
from variate.trees import as_float

from .estimate import Estimate
from .expectation import expect
from .intervals import EmpiricalBernstein, Interval


class Certificate(NamedTuple):
    """A class, and the radius around the input within which it stays the likeliest; 0 where there is no telling."""

    label: Int[Array, "*batch"]
    radius: Float[Array, "*batch"]
    probabilities: Estimate  # of every class, under noise


def certify(
    classify: Callable[..., Array],
    sigma: float,
    *,
    interval: Interval | None = None,
    lipschitz: float | None = None,
    num_samples: int = 10_000,
    level: float = 0.999,
    block_size: int = 256,
) -> Callable[..., Certificate]:
    r"""A certificate of the smoothed classifier: a function `(key, x, *args)` returning label and radius at x.

    `classify(x, *args)` returns the probabilities of the classes, or 1 for one of them and 0 for the others. Smoothed,
    they are $p_c(x) = E\, f_c(x + \sigma z)$ with z standard normal, and the likeliest class A is the same for all
    inputs nearer to x than

    $R = \frac{\sigma}{2} \bigl(\Phi^{-1}(\underline{p}_A) - \Phi^{-1}(\max_{c \ne A} \overline{p}_c)\bigr)$,

    where the bounds of all $p_c$ hold at once with probability `level`, for any number of samples: it is with at most
    the rest that a certificate is wrong. Intervals that see the variance certify more: that of soft probabilities is
    the smaller the surer `classify` is. Where each $f_c$ is known to change by no more than `lipschitz` times the
    distance, $R = (\underline{p}_A - \max \overline{p}_c) / 2L$ is a radius too, and the larger one is told.

    Runs under `jax.vmap` over keys and inputs. The wrong choice for what is not a distance in the Euclidean norm.

    Args:
        sigma: of the noise, in units of x.
        interval: of numbers between 0 and 1; `EmpiricalBernstein(0, 1)` if none is given, and for a classifier that
            returns 0 and 1 `ClopperPearson()` is the shortest.
        lipschitz: L, in the Euclidean norm.
        num_samples: runs of `classify`.
        level: of the certificate.
        block_size: runs at a time.

    Raises:
        TypeError: the interval is none, or results are no real numbers.
        ValueError: probabilities are not what the interval says, it is not of numbers between 0 and 1, or there are not
            two classes or more in one axis.

    Source: Cohen, Rosenfeld and Kolter (2019), Certified adversarial robustness via randomized smoothing, theorem 1;
    Salman et al. (2019), Provably robust deep learning via adversarially trained smoothed classifiers, lemma 2 (of soft
    probabilities); the margin of a Lipschitz classifier and bounds by the variance: Delattre, Araujo, Barthelemy and
    Allauzen (2024), The Lipschitz-variance-margin tradeoff for enhanced randomized smoothing.
    """
    checks.check_callable("classify", classify)
    checks.check_positive("sigma", sigma)
    checks.check_fraction("level", level)
    chosen: Any = EmpiricalBernstein(0, 1) if interval is None else interval
    if isinstance(chosen, type) or not isinstance(chosen, Interval):
        raise TypeError(f"interval must be one from bounds, Betting(0, 1) say, got {checks.describe(interval)}")
    if chosen.low < 0 or chosen.high > 1:
        raise ValueError(f"interval must be of probabilities, between 0 and 1, got {chosen}")
    if lipschitz is not None:
        checks.check_positive("lipschitz", lipschitz)

    def noisy(key: Key[Array, ""], x: Float[Array, "..."], *args: Any) -> Float[Array, " classes"]:
        found = classify(x + sigma * jax.random.normal(key, jnp.shape(x), jnp.result_type(x)), *args)
        if jnp.ndim(found) != 1 or jnp.size(found) < 2:
            raise ValueError(f"classify must return a number for each of two or more classes, got {jnp.shape(found)}")
        return found

    run = expect(noisy, interval=chosen, num_samples=num_samples, block_size=block_size)

    @functools.wraps(classify, updated=())
    def certified(key: Any = None, x: Any = None, *args: Any) -> Certificate:
        found = run(key, _input(x), *args)
        low, high = found.interval(level, simultaneous=True)
        label = jnp.argmax(found.value)
        ours = low[label]
        theirs = jnp.max(jnp.where(jnp.arange(high.size) == label, -jnp.inf, high))
        radius = sigma / 2 * (ndtri(ours) - ndtri(theirs))
        if lipschitz is not None:
            radius = jnp.maximum(radius, (ours - theirs) / (2 * lipschitz))
        return Certificate(label, jnp.maximum(radius, 0), found)

    return certified


def _input(x: Any) -> Float[Array, "..."]:
    """What noise can be added to."""
    try:
        found = jnp.asarray(x)
    except (TypeError, ValueError):
        found = x
    if not hasattr(found, "dtype") or jnp.issubdtype(found.dtype, jnp.complexfloating):
        raise TypeError(f"x must be an array of real numbers, got {checks.describe(x)}")
    return as_float(found)
