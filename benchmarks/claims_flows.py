"""The claims of papers on drawing from autoregressive flows."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from claim import Claim
from claims_diffusion_models import clocked
from diffusion_measures import Law, judged, lower, told

from variate.demo import digit_denoiser
from variate.diffusion import invert_causal, jacobi_metrics

LENGTH, WIDTH, BLOCKS, NOISE, BATCH = 64, 256, 4, 0.1, 256


class Block(eqx.Module):
    """A shift and a log scale of each pixel, of those before it, by a masked layer and a masked gate of two units."""

    enter: Any
    middle: Any
    leave: Any

    def __init__(self, key: Any) -> None:
        keys = jax.random.split(key, 3)
        self.enter = jax.random.normal(keys[0], (WIDTH, LENGTH), jnp.float32) / LENGTH**0.5
        self.middle = jax.random.normal(keys[1], (WIDTH, WIDTH), jnp.float32) / WIDTH**0.5
        self.leave = 0.1 * jax.random.normal(keys[2], (2, LENGTH, WIDTH), jnp.float32) / WIDTH**0.5

    def __call__(self, x: Any) -> tuple[Any, Any]:
        """Hidden unit j knows the pixels up to j mod 63."""
        ranks, pixels = np.arange(WIDTH) % (LENGTH - 1), np.arange(LENGTH)
        hidden = jnp.tanh((self.enter * (ranks[:, None] >= pixels)) @ x)
        hidden = hidden + jax.nn.silu((self.middle * (ranks[:, None] >= ranks)) @ hidden)
        shift, log_scale = (self.leave * (pixels[:, None] > ranks)) @ hidden
        return shift, jnp.tanh(log_scale) * 2

    def update(self, noise: Any, x: Any) -> Any:
        shift, log_scale = self(x)
        return shift + jnp.exp(log_scale) * noise


def trained(rows: Any, steps: int) -> list[Block]:
    """By maximum likelihood of images with a little noise."""
    blocks = [Block(key) for key in jax.random.split(jax.random.key(20), BLOCKS)]
    optimizer = optax.adam(optax.cosine_decay_schedule(2e-3, steps))
    state, rng = optimizer.init(eqx.filter(blocks, eqx.is_inexact_array)), np.random.default_rng(21)

    def loss(blocks: list[Block], rows: Any) -> Any:
        def one(x: Any) -> Any:
            total = 0.0
            for block in blocks:
                shift, log_scale = block(x)
                x, total = ((x - shift) * jnp.exp(-log_scale))[::-1], total + jnp.sum(log_scale)
            return 0.5 * jnp.sum(x**2) + total

        return jnp.mean(jax.vmap(one)(rows))

    @eqx.filter_jit
    def step(blocks: Any, state: Any, rows: Any) -> Any:
        changes, state = optimizer.update(eqx.filter_grad(loss)(blocks, rows), state)
        return eqx.apply_updates(blocks, changes), state

    for _ in range(steps):
        some = rows[rng.integers(len(rows), size=BATCH)]
        blocks, state = step(blocks, state, jnp.asarray(some + NOISE * rng.normal(size=some.shape), jnp.float32))
    return blocks


def in_turn(blocks: list[Block], noise: Any) -> Any:
    """One pixel after another."""

    def inverse(block: Block, z: Any) -> Any:
        def pixel(x: Any, i: Any) -> Any:
            return x.at[i].set(block.update(z, x)[i]), None

        return jax.lax.scan(pixel, z, jnp.arange(LENGTH))[0]

    for block in reversed(blocks):
        noise = jax.vmap(lambda z, block=block: inverse(block, z))(noise[:, ::-1])
    return noise


def in_rounds(blocks: list[Block], noise: Any, **options: Any) -> tuple[Any, Any]:
    """The draws, and the rounds of each block, the last first."""
    rounds = []
    for block in reversed(blocks):
        found = invert_causal(block.update, noise[:, ::-1], **options)
        noise, rounds = found.values, [*rounds, found.rounds]
    return noise, jnp.stack(rounds, axis=1)


def gs_jacobi(count: int) -> Claim:
    rows = np.asarray(digit_denoiser.digits()[0], np.float64)
    blocks = trained(rows, min(count, 2_000))
    noise = jax.random.normal(jax.random.key(22), (min(count, 1_000), LENGTH), jnp.float32)
    exact = jax.jit(lambda noise: in_turn(blocks, noise))
    right = np.asarray(exact(noise))
    one = Law(None, rows + NOISE * np.random.default_rng(23).normal(size=rows.shape))  # of no denoiser
    kinds = {
        f"{words} to {tolerance:g}": {"segment": segment, "tolerance": tolerance}
        for tolerance in (0.0, 0.01)
        for words, segment in (("one segment", LENGTH), ("8 segments", 8))
    }
    found = {kind: in_rounds(blocks, noise, **options) for kind, options in kinds.items()}
    fewer = {kind: BLOCKS * LENGTH / np.sum(np.asarray(rounds), axis=1) for kind, (_, rounds) in found.items()}
    apart = {kind: np.sqrt(np.mean((np.asarray(values) - right) ** 2)) for kind, (values, _) in found.items()}
    chosen = "one segment to 0.01"
    values, rounds = found[chosen]
    distances = one.far(right), one.far(values)
    fast = jax.jit(lambda noise: in_rounds(blocks, noise, **kinds[chosen])[0])
    clocks = {n: clocked(lambda n=n: exact(noise[:n])) / clocked(lambda n=n: fast(noise[:n])) for n in (1, 64)}
    z, metrics = noise[:16], []
    for block in reversed(blocks):
        metrics.append(jacobi_metrics(block.update, z[:, ::-1]).convergence)
        z = invert_causal(block.update, z[:, ::-1]).values
    each = np.mean(np.asarray(rounds, float), axis=0)
    return judged(
        "Liu and Qin (2025), GS-Jacobi",
        "autoregressive flows drawn from 2.5 to 5.3 times faster without degrading (FID of four TarFlows)",
        f"a masked flow of {BLOCKS} blocks that learned digits of {LENGTH} pixels; times fewer evaluations in turn "
        "than by a loop over pixels, and rms from its draws: "
        + told(
            (kind, f"{x.mean():.3g} ± {x.std() / len(x) ** 0.5:.1g} and {apart[kind]:.1g}") for kind, x in fewer.items()
        )
        + f"; sliced Wasserstein distance from the data {distances[0]} by the loop, {distances[1]} by {chosen}, which "
        f"takes {clocks[1]:.2g} times less time for one draw and {clocks[64]:.2g} for 64 on two cores; its rounds by "
        f"block {', '.join(f'{x:.3g}' for x in each)}, where norms of Jacobians are "
        + ", ".join(f"{x.value:.3g} ± {x.stderr:.1g}" for x in metrics),
        {
            "rounds": fewer[chosen].mean() > 2.5,
            "no loss": not lower(*distances),
            **{f"the clock, {n} at once": ratio > 2.5 for n, ratio in clocks.items()},
        },
        "a round evaluates all pixels, and so does a step of the loop, which has no cache",
    )


CLAIMS = (gs_jacobi,)
