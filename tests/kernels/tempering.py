"""Parallel tempering between laws that are all known, and what breaks it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from variate.mcmc import HMC, ParallelTempering, RandomWalk, Slice, parallel_tempering

from .law import INVERSE, ROOT, Law, log_density


class Flat(eqx.Module):
    """The target with a wider pair and another gamma variable: all densities between are of that kind."""

    width: jax.Array
    shape: jax.Array
    rate: jax.Array

    def sample(self, key: jax.Array) -> jax.Array:
        pair, skewed = jax.random.split(key)
        normal = self.width * ROOT @ jax.random.normal(pair, (2,), self.width.dtype)
        return jnp.append(normal, jnp.log(jax.random.gamma(skewed, self.shape) / self.rate))

    def log_prob(self, x: jax.Array) -> jax.Array:
        pair = INVERSE.astype(x.dtype) @ x[:2] / self.width
        return -0.5 * jnp.sum(pair**2) + self.shape * x[2] - self.rate * jnp.exp(x[2])

    def between(self, beta: jax.Array) -> "Flat":
        precision = (1 - beta) / self.width**2 + beta
        return Flat(precision**-0.5, (1 - beta) * self.shape + 2 * beta, (1 - beta) * self.rate + beta)


FLAT = Flat(*jnp.array([2.0, 0.8, 0.3]))
BETAS = jnp.array([0.0, 0.2, 0.6, 1.0])
KERNEL = ParallelTempering(RandomWalk(0.9), FLAT, BETAS, log_density=log_density)


def begun(kernel: Any, key: jax.Array, x: jax.Array) -> Any:
    """With an exact draw at each level."""
    own, *rest = jax.random.split(key, len(BETAS))
    others = [FLAT.between(beta).sample(key) for beta, key in zip(BETAS, rest, strict=False)]
    return kernel.init(own, x)._replace(others=jnp.stack(others))


class Misheard(ParallelTempering):
    """What is drawn is not what the densities say."""

    def step(self, key: jax.Array, state: Any) -> tuple:
        wide = Lying(*jax.tree.leaves(self.reference))
        return ParallelTempering(self.kernel, wide, self.betas, log_density=self.log_density).step(key, state)


class Lying(Flat):
    def sample(self, key: jax.Array) -> jax.Array:
        return 1.5 * Flat.sample(self, key)


class Warmer(ParallelTempering):
    """Kernels move in other densities than those between which there are swaps."""

    def _move(self, key: jax.Array, beta: jax.Array, position: jax.Array) -> tuple:
        return ParallelTempering._move(self, key, beta**3, position)


LAWS = {
    "parallel tempering": Law(
        KERNEL,
        parallel_tempering,
        {
            "the ratio upside down": lambda betas, v: (betas[1:] - betas[:-1]) * (v[1:] - v[:-1]),
            "a ratio that forgets the betas": lambda betas, v: v[:-1] - v[1:],
            "swaps of all": lambda betas, v: jnp.full(len(v) - 1, 1.0),
        },
        {
            "a reference that draws otherwise": Misheard(RandomWalk(0.9), FLAT, BETAS, log_density=log_density),
            "kernels of other levels": Warmer(RandomWalk(0.9), FLAT, BETAS, log_density=log_density),
        },
        rule="swap_log_ratios",
        reversible=False,
        begun=begun,
    ),
}

WIDE = dist.Normal(0.0, 5.0).expand([3])
REFUSED: list[tuple[Any, str]] = [
    (lambda: ParallelTempering(RandomWalk(1.0), WIDE, levels=1), "levels must be at least 2, got 1"),
    *[
        (lambda betas=betas: ParallelTempering(RandomWalk(1.0), WIDE, betas), "betas must increase from 0 to 1")
        for betas in (jnp.ones(1), jnp.array([0.1, 1.0]), jnp.array([0.0, 0.9]), jnp.array([0.0, 0.5, 0.5, 1.0]))
    ],
]
WITHOUT: list[tuple[Any, str]] = [
    (lambda: ParallelTempering(3.0, WIDE), "kernel must be a kernel or a function of beta"),
    (lambda: ParallelTempering(HMC(num_steps=3), WIDE), "kernel must have a step_size, which the warm-up"),
    (lambda: ParallelTempering(Slice(), WIDE), "kernel must have a scale"),
    (lambda: ParallelTempering(RandomWalk(1.0), 3.0), "distribution must have sample"),
]
