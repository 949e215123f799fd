"""The kernels that add noise and take it away, and what breaks them."""

from typing import Any

import jax
import jax.numpy as jnp

from variate.mcmc import DenoisingLangevinGibbs, ReverseDiffusion, mala
from variate.mcmc.denoising import paths

from .law import Law, always, log_density

TIMES = jnp.array([0.3, 1.2])
REVERSE = ReverseDiffusion(TIMES, 4, 1, log_density=log_density)


class Careless(ReverseDiffusion):
    """Its weights are those of the ends, whatever the paths."""

    def log_odds(self, key: jax.Array, position: jax.Array) -> jax.Array:
        return 0 * ReverseDiffusion.log_odds(self, key, position)

    def proposal(self, key: jax.Array, position: jax.Array) -> Any:
        state = ReverseDiffusion.proposal(self, key, position)
        return state._replace(log_weight=state.log_density)


class Forgetful(DenoisingLangevinGibbs):
    """All noises are new, that of the position too."""

    def noised(self, key: jax.Array, position: jax.Array, sigma: jax.Array) -> tuple:
        key_one, key_all = jax.random.split(key)
        noisy, _ = DenoisingLangevinGibbs.noised(self, key_one, position, sigma)
        return noisy, jax.random.normal(key_all, (self.num_samples, position.size))


class Even(DenoisingLangevinGibbs):
    """Each level of noise is as likely, wherever the noisy position is."""

    def log_odds(self, log_densities: jax.Array) -> jax.Array:
        return jnp.zeros(len(log_densities))


SIGMAS = jnp.array([0.4, 1.5])

LAWS = {
    "reverse diffusion": Law(
        REVERSE,
        paths,
        {},
        {"no weight of the path": Careless(TIMES, 4, 1, log_density=log_density)},
    ),
    "denoising Langevin-Gibbs": Law(
        DenoisingLangevinGibbs(SIGMAS, 4, 0.7, log_density=log_density),
        mala,
        {"no accept step": always},
        {
            "noises that are all new": Forgetful(SIGMAS, 4, 0.7, log_density=log_density),
            "levels that are not weighed": Even(SIGMAS, 4, 0.7, log_density=log_density),
        },
        reversible=False,
    ),
}

REFUSED: list[tuple[Any, str]] = [
    *[
        (lambda times=times: ReverseDiffusion(times), "times must increase from above 0")
        for times in (jnp.zeros(0), jnp.array([0.0, 1.0]), jnp.array([1.0, 1.0]))
    ],
    (lambda: ReverseDiffusion(TIMES, 1), "num_samples must be at least 2, got 1"),
    (lambda: ReverseDiffusion(TIMES, num_steps=-1), "num_steps must be a positive integer"),
    (lambda: DenoisingLangevinGibbs(-SIGMAS), "sigmas must be positive and finite"),
    (lambda: DenoisingLangevinGibbs(SIGMAS, 1), "num_samples must be at least 2, got 1"),
    (lambda: DenoisingLangevinGibbs(SIGMAS, acceptance=0.0), "acceptance must be between 0 and 1"),
    (lambda: DenoisingLangevinGibbs(SIGMAS, step_size=0.0), "step_size must be positive"),
    (lambda: ReverseDiffusion(TIMES, step_size=0.0), "step_size must be positive"),
]
