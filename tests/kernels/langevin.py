"""The kernels of one gradient a step, and what breaks them."""

from typing import Any

import jax
import jax.numpy as jnp

from variate.mcmc import MALA, Barker, barker, mala

from .law import SCALE, TRIANGLE, Law, always, backwards, log_density


class Ahead(MALA):
    """Its step up the gradient is too long by a half, which its ratio does not know."""

    def step(self, key: jax.Array, state: Any) -> tuple:
        after, info = MALA.step(self, key, state._replace(gradient=1.5 * state.gradient))
        return jax.tree.map(lambda new, old: jnp.where(info.accepted, new, old), after, state), info


class OneSided(Barker):
    """Its sides are drawn by a steeper gradient than its ratio believes."""

    def step(self, key: jax.Array, state: Any) -> tuple:
        after, info = Barker.step(self, key, state._replace(gradient=2.0 * state.gradient))
        return jax.tree.map(lambda new, old: jnp.where(info.accepted, new, old), after, state), info


LAWS = {
    "mala": Law(
        MALA(0.8, TRIANGLE, log_density=log_density),
        mala,
        {"no accept step": always, "the ratio upside down": backwards},
        {"a step too long": Ahead(0.8, TRIANGLE, log_density=log_density)},
    ),
    "barker": Law(
        Barker(1.2, SCALE, log_density=log_density),
        barker,
        {"no accept step": always, "the ratio upside down": backwards},
        {"sides of another gradient": OneSided(1.2, SCALE, log_density=log_density)},
    ),
}

REFUSED: list[tuple[Any, str]] = [
    (lambda: MALA(0.0), "step_size must be positive and finite, got 0.0"),
    (lambda: MALA(0.1, jnp.ones((2, 2))), "scale must be a number, one for each coordinate or a lower triangle"),
    (lambda: MALA(0.1, acceptance=1.0), "acceptance must be between 0 and 1"),
    (lambda: Barker(0.1, -1.0), "scale must be positive and finite, got -1.0"),
    (lambda: Barker(jnp.inf), "step_size must be positive"),
    (lambda: Barker(0.1, acceptance=0.0), "acceptance must be between 0 and 1"),
]
