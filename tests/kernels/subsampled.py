"""The kernels that look at a few items of a sum, and what breaks them.

The sum is the density of all other laws: its items are taken off its prior, so its exact draws are known.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from variate.mcmc import SGLD, DelayedAcceptance, Sum, TunaMH
from variate.mcmc.subsampled import delayed, tuna

from .law import TRIANGLE, Law, always, backwards, log_density

ITEMS = jnp.asarray(np.random.default_rng(0).normal(size=(50, 3))) / 2
WEIGHT = 0.15
STEEP = (1.0, 4 / 3**1.5, 2.0)  # Lipschitz constants of tanh and of its first two derivatives
CENTER = jnp.array([0.2, 0.1, 0.5])


def item(x: jax.Array, a: jax.Array) -> jax.Array:
    return WEIGHT * jnp.tanh(a @ x)


def prior(x: jax.Array) -> jax.Array:
    return log_density(x) - jnp.sum(jax.vmap(item, (None, 0))(x, ITEMS))


def bounds(order: int) -> jax.Array:
    return WEIGHT * STEEP[order] * jnp.linalg.norm(ITEMS, axis=1) ** (order + 1)


SUM = Sum(prior, item, ITEMS, jnp.zeros(3))


def tunamh(order: int, kind: Any = TunaMH, **settings: Any) -> Any:
    settings = {"step_size": 0.6, "scale": TRIANGLE, "chi": 0.05, "chunk": 8, "log_density": SUM, **settings}
    return kind(bounds(order), CENTER if order else None, order, **settings)


class Uncontrolled(TunaMH):
    """The slope of the polynomials is forgotten."""

    def step(self, key: jax.Array, state: Any) -> tuple:
        known = state.control
        after, info = TunaMH.step(self, key, state._replace(control=known._replace(gradient=0 * known.gradient)))
        return after._replace(control=known), info


class Contrary(TunaMH):
    """What items gain counts as a loss."""

    def _batch(self, key: jax.Array, parts: Any, state: Any, y: jax.Array) -> Any:
        found = TunaMH._batch(self, key, parts, state, y)
        return found._replace(log_ratio=-found.log_ratio)


def begun(kernel: Any) -> Any:
    return kernel.init(jax.random.key(0), jnp.zeros(3))


LAWS = {
    "tunamh without a center": Law(tunamh(0), tuna, {}, {"items upside down": tunamh(0, Contrary)}),
    "delayed acceptance": Law(
        DelayedAcceptance(CENTER, 3, step_size=1.0, scale=TRIANGLE, log_density=SUM),
        delayed,
        {"no second stage": always, "the ratio upside down": backwards},
        {},
    ),
    "tunamh": Law(tunamh(2), tuna, {"no accept step": always}, {"no polynomials": tunamh(2, Uncontrolled)}),
}
CHAINS = 4_000  # of which each step looks at dozens of items

REFUSED: list[tuple[Any, str]] = [
    (lambda: TunaMH(jnp.array([1.0, -1.0])), "bounds must be finite and not negative"),
    (lambda: TunaMH(jnp.ones(2), order=3), r"order must be one of \(0, 1, 2\), got 3"),
    (lambda: TunaMH(jnp.ones(2), order=1), "center must be a position, and is not needed where order is 0"),
    (lambda: TunaMH(jnp.ones(2), jnp.array([jnp.nan]), 1), "center must be finite"),
    (lambda: TunaMH(jnp.ones(2), chi=0.0), "chi must be a positive number, got 0.0"),
    (lambda: TunaMH(jnp.ones(2), step_size=-1.0), "step_size must be positive"),
    (lambda: begun(TunaMH(jnp.ones(2), log_density=SUM)), r"bounds must be one for each of 50 items, got shape \(2,\)"),
    (lambda: begun(TunaMH(bounds(1), 0.5, 1, log_density=SUM)), "center must have the shapes of a position"),
    (lambda: DelayedAcceptance(None), "center must be a position"),
    (lambda: DelayedAcceptance(CENTER, 0), "steps must be a positive integer"),
    (lambda: DelayedAcceptance(CENTER, step_size=0.0), "step_size must be positive"),
    (lambda: SGLD(0.0, 5, allow_bias=True), "step_size must be positive"),
    (lambda: SGLD(0.1, 0, allow_bias=True), "batch must be a positive integer"),
    (lambda: Sum(prior, item, (jnp.zeros(3), jnp.zeros(4)), jnp.zeros(3)), "data must be arrays with one leading axis"),
    (lambda: Sum(prior, item, jnp.zeros(()), jnp.zeros(3)), "data must be arrays with one leading axis"),
    (lambda: Sum(lambda x: jnp.log(-1 - x[0] ** 2), item, ITEMS, jnp.zeros(3)), "start must have a finite log density"),
]
