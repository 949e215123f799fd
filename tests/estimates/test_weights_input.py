"""What a weighting cannot do is an error that says so."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest
from jax import Array

import variate as vt
from variate.estimates import AdaptiveMultiple, Importance, Mixture, Scores, Sobol, adapt


def square(key: Array) -> Array:
    z = vt.draw(key, dist.Normal(jnp.zeros(()), 1.0), name="z")
    return z**2 + jnp.exp(0.5 * z)


def at(loc: float, scale: float = 1.0) -> dist.Normal:
    return dist.Normal(jnp.asarray(loc), scale)


def run(method: Any, f: Callable[..., Any] = square, **options: Any) -> Callable[[], Any]:
    return lambda: vt.expect(f, method=method, **options)(jax.random.key(0))


def in_loop(key: Array) -> Array:
    def step(total: Array, key: Array) -> tuple[Array, None]:
        return total + vt.draw(key, dist.Normal(total, 1.0), name="z"), None

    return jax.lax.scan(step, jnp.zeros(()), jax.random.split(key, 3))[0]


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no draw of that name": (run(Mixture({"q": [at(0.0)]})), ValueError, "no draw is called 'q'"),
    "no dictionary": (lambda: Mixture([at(0.0)]), TypeError, "proposals"),  # pyright: ignore[reportArgumentType]
    "an own share": (lambda: adapt(square, "z", own=-1.0), ValueError, "own must be between 0 and 1"),
    "a caller's jit": (
        lambda: jax.jit(adapt(square, "z"))(jax.random.key(0)),
        TypeError,
        "not under jit, vmap or scan",
    ),
    "one proposal": (lambda: Mixture({"z": at(0.0)}), TypeError, "must be several proposals"),
    "no proposals": (lambda: Mixture({"z": []}), TypeError, "must be several proposals"),
    "a share of 1": (lambda: Mixture({"z": [at(0.0)]}, own=1.0), ValueError, "own must be between 0 and 1"),
    "shares of nothing": (lambda: Mixture({"z": [at(0.0)]}, shares={"q": [1]}), ValueError, "no proposals for 'q'"),
    "a proposal of another shape": (
        run(Mixture({"z": [at(0.0), dist.Normal(jnp.zeros(2), 1.0)]})),
        ValueError,
        r"proposals\['z'\]\[1\]: expected draws like those of Normal, which are of shape and type \(\) .*got .*\(2,\)",
    ),
    "the only proposal of another shape, with points": (
        run((Sobol(), Mixture({"z": [dist.Normal(jnp.zeros(2), 1.0)]}, own=0))),
        ValueError,
        r"proposals\['z'\]\[0\]: expected draws like",
    ),
    "too many shares": (lambda: Mixture({"z": [at(0.0)]}, shares={"z": [1, 2]}), ValueError, "shares"),
    "discrete for continuous": (
        run(Importance({"z": dist.Poisson(jnp.asarray(3.0))})),
        ValueError,
        "which are continuous, got discrete ones",
    ),
    "smoothed only": (lambda: Importance({"z": at(0.0)}, smoothed=True), ValueError, "only self-normalised"),
    "smoothed with a design": (
        run((Sobol(), Importance({"z": at(0.0)}, self_normalized=True, smoothed=True)), num_samples=1024),
        ValueError,
        "smoothed for independent runs",
    ),
    "controls with self-normalised": (
        run((Scores(), Importance({"z": at(0.0)}, self_normalized=True))),
        ValueError,
        "not with self-normalised",
    ),
    "regressed and self-normalised": (
        lambda: Mixture({"z": [at(0.0)]}, regressed=True, self_normalized=True),
        ValueError,
        "regressed",
    ),
    "adapting to what never happens": (
        lambda: adapt(lambda key: vt.draw(key, at(0.0), name="z") > 1e9, "z")(jax.random.key(0)),
        ValueError,
        "no run in 1000 .* other than 0",
    ),
    "adapting a draw in a loop": (lambda: adapt(in_loop, "z")(jax.random.key(0)), ValueError, "in a loop"),
    "adapting a count": (
        lambda: adapt(lambda key: vt.draw(key, dist.Poisson(3.0), name="n"), "n")(jax.random.key(0)),
        ValueError,
        "is not continuous",
    ),
    "adapting no draw": (lambda: adapt(square, "q")(jax.random.key(0)), ValueError, "no draw is called 'q'"),
    "no scheme": (lambda: adapt(square, "z", scheme=3), TypeError, "scheme"),  # pyright: ignore[reportArgumentType]
    "no rounds": (lambda: AdaptiveMultiple(rounds=0), ValueError, "rounds must be a positive integer"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_an_error_that_says_so(name: str) -> None:
    wrong, kind, words = BAD[name]
    with pytest.raises((kind, TypeError), match=words):
        wrong()
