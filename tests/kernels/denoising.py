"""The kernels that add noise and take it away, and what breaks them."""

from typing import Any

import jax
import jax.numpy as jnp

from variate.mcmc import ReverseDiffusion
from variate.mcmc.denoising import paths

from .law import Law, always, backwards, log_density

TIMES = jnp.array([0.3, 1.2])
REVERSE = ReverseDiffusion(TIMES, 4, 1, log_density=log_density)


class Careless(ReverseDiffusion):
    """Its weights are those of the ends, whatever the paths."""

    def log_odds(self, key: jax.Array, position: jax.Array) -> jax.Array:
        return 0 * ReverseDiffusion.log_odds(self, key, position)

    def proposal(self, key: jax.Array, position: jax.Array) -> Any:
        state = ReverseDiffusion.proposal(self, key, position)
        return state._replace(log_weight=state.log_density)


LAWS = {
    "reverse diffusion": Law(
        REVERSE,
        paths,
        {"no accept step": always, "the ratio upside down": backwards},
        {"no weight of the path": Careless(TIMES, 4, 1, log_density=log_density)},
    ),
}

REFUSED: list[tuple[Any, str]] = [
    *[
        (lambda times=times: ReverseDiffusion(times), "times must increase from above 0")
        for times in (jnp.zeros(0), jnp.array([0.0, 1.0]), jnp.array([1.0, 1.0]))
    ],
    (lambda: ReverseDiffusion(TIMES, 1), "num_samples must be at least 2, got 1"),
    (lambda: ReverseDiffusion(TIMES, num_steps=-1), "num_steps must be a positive integer"),
    (lambda: ReverseDiffusion(TIMES, step_size=0.0), "step_size must be positive"),
]
