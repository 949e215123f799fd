"""The claims of papers on Markov chains."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from claim import Claim, verdict

import variate as vt
from variate.running.measures import effective

SIZE, DRAWS, CHAINS = 100, 5_000, 10


def cauchy(x: Any) -> Any:
    return -(SIZE + 1) / 2 * jnp.log1p(x @ x)


def exact(key: jax.Array, count: int) -> jax.Array:
    """Normal vectors, each over an independent normal number."""
    k1, k2 = jax.random.split(key)
    return jax.random.normal(k1, (count, SIZE)) / jax.random.normal(k2, (count, 1))


def effective_draws(kernel: Any, key: jax.Array) -> tuple[float, float]:
    """For 10,000 evaluations: of the log radius, and of the half of the tail that the paper estimates, 1/4 of the mass.

    0 where a chain never enters or never leaves it.
    """
    k1, k2, k3, k4 = jax.random.split(key, 4)
    kernel, start = dataclasses.replace(kernel, log_density=cauchy), exact(k1, CHAINS)
    median = jnp.median(jnp.linalg.norm(exact(k2, 200_000), axis=1))

    @jax.jit
    def run(x: jax.Array, keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        def step(state: Any, key: jax.Array) -> tuple[Any, tuple]:
            state, info = jax.vmap(kernel.step)(jax.random.split(key, CHAINS), state)
            return state, (state.position, jnp.broadcast_to(info.evaluations, (CHAINS,)))

        return jax.lax.scan(step, jax.vmap(kernel.init)(jax.random.split(k3, CHAINS), x), keys)[1]

    x, evaluations = run(start, jax.random.split(k4, DRAWS))
    norm = np.asarray(jnp.linalg.norm(x, axis=-1)).T
    inside = (norm > float(median)) & (np.asarray(x[..., 0]).T > 0)
    numbers = (float(effective(number, "mean")) for number in (np.log(norm), inside.astype(float)))
    radius, side = (0.0 if np.isnan(number) else 1e4 * number / float(jnp.sum(evaluations)) for number in numbers)
    return radius, side


def polar_slices(_: int) -> Claim:
    kernels = {
        "Gibbsian polar slices": vt.mcmc.GibbsianPolarSlice(float(SIZE)),
        "elliptical slices": vt.mcmc.EllipticalSlice(1.0),
        "hit-and-run": vt.mcmc.HitAndRun(1.0),
    }
    found = {name: effective_draws(kernel, jax.random.key(5)) for name, kernel in kernels.items()}
    said = ", ".join(f"{name} {radius:.3g} and {side:.3g}" for name, (radius, side) in found.items())
    ours = found.pop("Gibbsian polar slices")
    return Claim(
        "Schär, Habeck and Rudolf (2023), Gibbsian polar slice sampling",
        "beats elliptical slice sampling and hit-and-run on heavy tails",
        f"a Cauchy law of {SIZE} dimensions, effective draws of the log radius and of the paper's quarter of the mass "
        f"for 10,000 evaluations: {said}",
        verdict(all(ours[0] > 2 * other[0] and ours[1] > 2 * other[1] for other in found.values())),
    )
