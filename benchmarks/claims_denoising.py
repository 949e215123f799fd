"""The claims of papers on samplers that add noise to the target and take it away."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from claim import Claim, verdict

import variate as vt
from variate.running.measures import effective

MEANS = jnp.array([[jnp.cos(a), jnp.sin(a)] for a in np.arange(6) * np.pi / 3])
SHARES = jnp.array([0.3, 0.25, 0.2, 0.1, 0.1, 0.05])
NUMBER = 4_000
RADII = (2.0, 4.0, 8.0)


def ring(radius: float) -> Any:
    """Six normal laws of variance 1/4 on a circle, of unequal weights."""
    return lambda x: jax.nn.logsumexp(jnp.log(SHARES) - 2 * jnp.sum((x - radius * MEANS) ** 2, -1))


def off(x: jax.Array, means: jax.Array, shares: jax.Array, weights: jax.Array | None = None) -> float:
    """Half of the sum of how far the weights of modes are off: the total variation."""
    nearest = jnp.argmin(jnp.sum((x[:, None] - means) ** 2, -1), -1)
    found = jnp.bincount(nearest, weights, length=len(means))
    return float(jnp.sum(jnp.abs(found / jnp.sum(found) - shares)) / 2)


def langevin(score: Any, x: jax.Array, key: jax.Array, steps: int, size: float) -> jax.Array:
    """Steps of Langevin without an accept step, of all rows at once."""

    def once(x: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        return x + 0.5 * size**2 * jax.vmap(score)(x) + size * jax.random.normal(key, x.shape), None

    return jax.jit(lambda x, key: jax.lax.scan(once, x, jax.random.split(key, steps))[0])(x, key)


def reverse_diffusion(_: int) -> Claim:
    said, holds, noise = [], [], float(jnp.sum(jnp.sqrt(SHARES * (1 - SHARES) / (2 * np.pi * NUMBER))))
    for radius in RADII:
        k1, k2, k3 = jax.random.split(jax.random.key(6), 3)
        times = jnp.geomspace(0.03, max(1.5, float(np.log(1.5 * radius))), 15)
        kernel = vt.mcmc.ReverseDiffusion(times, 300, log_density=ring(radius))
        budget = kernel.evaluations()
        walk = langevin(jax.grad(ring(radius)), jax.random.normal(k1, (NUMBER, 2)), k2, budget, 0.3)
        keys = jax.random.split(k3, NUMBER)
        paths = jax.jit(
            lambda keys, kernel=kernel: jax.lax.map(lambda k: kernel.proposal(k, jnp.zeros(2)), keys, batch_size=200)
        )(keys)
        means, weights = radius * MEANS, jnp.exp(paths.log_weight - jnp.max(paths.log_weight))
        found = (
            off(walk, means, SHARES),
            off(paths.position, means, SHARES),
            off(paths.position, means, SHARES, weights),
        )
        said.append(f"{radius:g}: Langevin {found[0]:.3f}, paths {found[1]:.3f}, weighed {found[2]:.3f}")
        if found[0] > 3 * noise:
            holds.append(found[1] < found[0] / 2)
    return Claim(
        "Huang, Dong, Hao, Ma and Zhang (2024), reverse diffusion Monte Carlo",
        "greatly improves over Langevin-style sampling on Gaussian mixtures",
        f"six modes of width 1/2 and unequal weights on a circle, {NUMBER} draws of {budget} evaluations each from "
        f"normal starts; total variation of the weights of modes (noise alone: {noise:.3f}) by radius; "
        + "; ".join(said),
        verdict(
            bool(holds) and all(holds), "where Langevin does not mix; with a bias, most of which weights take away"
        ),
    )


def log_concave_chain(_: int) -> Claim:
    size, share, steps, measurements = 8, 0.2, 10, 300
    means = 3.0 * jnp.stack([jnp.ones(size), -jnp.ones(size)])
    shares = jnp.array([share, 1 - share])

    def smoothed(y: jax.Array, sigma: jax.Array) -> jax.Array:
        return jax.nn.logsumexp(jnp.log(shares) - 0.5 * jnp.sum((y - means) ** 2, -1) / (1 + sigma**2))

    def density(x: jax.Array) -> jax.Array:
        return smoothed(x, jnp.zeros(()))

    k1, k2, k3 = jax.random.split(jax.random.key(7), 3)
    chain = vt.mcmc.LogConcaveChain(
        8.0, measurements, steps, 0.7, smoothed=smoothed, allow_bias=True, log_density=density
    )
    begun = chain.init(jax.random.key(0), jnp.zeros(size))
    draws = jax.jit(jax.vmap(lambda key: chain.step(key, begun)[0].position))(jax.random.split(k1, NUMBER))
    budget = measurements * (steps + 1)
    walk = langevin(jax.grad(density), 8.0 * jax.random.normal(k2, (NUMBER, size)), k3, budget, 0.5)
    found = {}
    for name, x in {"the chain": draws, "Langevin": walk}.items():
        lesser = jnp.mean(x, -1) > 0
        away = x - jnp.where(lesser[:, None], means[0], means[1])
        found[name] = float(jnp.mean(lesser)), float(jnp.mean(away**2))
    said = ", ".join(f"{name} {weight:.3f} with variance {spread:.3f}" for name, (weight, spread) in found.items())
    error = (share * (1 - share) / NUMBER) ** 0.5
    ours, other = (abs(weight - share) for weight, _ in found.values())
    return Claim(
        "Saremi, Park and Bach (2024), chain of log-concave Markov chains",
        "samples by log-concave conditionals only, and tunnels between modes where Langevin does not",
        f"two normal laws at 3 and -3 in each of {size} coordinates, the one with weight {share}, smoothed density "
        f"known, {NUMBER} draws of {budget} scores each from starts of width 8: weight of the lesser mode "
        f"(± {error:.3f}) and variance within modes, which is 1: {said}",
        verdict(
            ours < other / 5, "weights" + (" within three errors" if ours < 3 * error else " with a bias that shows")
        ),
    )


def effective_draws(kernel: Any, key: jax.Array, count: int, start: jax.Array) -> float:
    """For 100,000 evaluations: of the indicator of a mode, the least; 0 where a chain never enters or leaves one."""
    means = 4.0 * MEANS
    kernel = dataclasses.replace(kernel, log_density=ring(4.0))

    @jax.jit
    def run(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        def step(state: Any, key: jax.Array) -> tuple[Any, tuple]:
            state, info = jax.vmap(kernel.step)(jax.random.split(key, len(start)), state)
            return state, (state.position, jnp.sum(jnp.broadcast_to(info.evaluations, (len(start),))))

        begun = jax.vmap(kernel.init)(jax.random.split(keys[0], len(start)), start)
        return jax.lax.scan(step, begun, keys[1:])[1]

    x, evaluations = run(jax.random.split(key, count + 1))
    nearest = np.asarray(jnp.argmin(jnp.sum((x[:, :, None] - means) ** 2, -1), -1)).T
    numbers = [float(effective((nearest == mode).astype(float), "mean")) for mode in range(len(means))]
    return float(1e5 * np.min(np.nan_to_num(numbers)) / float(jnp.sum(evaluations)))


def denoising_langevin_gibbs(_: int) -> Claim:
    key = jax.random.key(8)
    k1, k2 = jax.random.split(key)
    modes = jax.random.choice(k1, 6, (10,), p=SHARES)
    start = 4.0 * MEANS[modes] + 0.5 * jax.random.normal(k2, (10, 2))
    kernels = {
        "denoising Langevin-Gibbs": (vt.mcmc.DenoisingLangevinGibbs(jnp.array([0.5, 4.0]), 50, 0.5), 4_000),
        "reverse diffusion": (vt.mcmc.ReverseDiffusion(jnp.geomspace(0.03, 1.8, 10), 100), 1_000),
        "MALA": (vt.mcmc.MALA(0.6, 1.0), 40_000),
    }
    found = {
        name: effective_draws(kernel, jax.random.key(9), count, start) for name, (kernel, count) in kernels.items()
    }
    said = ", ".join(f"{name} {number:.3g}" for name, number in found.items())
    ours, reverse, plain = found.values()
    return Claim(
        "Kim and Ye (2023), denoising MCMC",
        "denoising from a Markov chain over positions and noise costs much less than denoising from pure noise",
        "the six modes at a radius of 4, ten chains, exact kernels of both, effective draws of the worst mode's weight "
        f"for 100,000 evaluations: {said}",
        verdict(ours > 2 * max(reverse, plain), "on a closed-form mixture, not with a learnt score on images"),
    )
