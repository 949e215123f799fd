"""A small denoiser of scikit-learn's digits: a real network for pages and benchmarks of samplers.

`python -m variate.demo.digit_denoiser` trains it anew and writes the weights that lie beside this file.
"""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from variate.diffusion import EDM, DataPrediction, Denoiser, data, denoising_loss

WEIGHTS = Path(__file__).with_suffix(".npz")
PIXELS, DIGITS, WIDTH, BLOCKS, WAVES = 64, 10, 128, 3, 16
SPREAD = 0.75  # the standard deviation of a pixel, of ink from -1 to 1
STEPS, BATCH, RATE, DECAY, FORGET = 12_000, 256, 2e-3, 0.999, 0.1


class Network(eqx.Module):
    """Blocks of two layers, each told the level of the noise and which digit it is, or that it may be any."""

    enter: eqx.nn.Linear
    blocks: tuple[tuple[eqx.nn.Linear, eqx.nn.Linear, eqx.nn.Linear], ...]
    leave: eqx.nn.Linear
    labels: Float[Array, "digits width"]  # the last: any

    def __init__(self, key: Key[Array, ""]) -> None:
        enter, leave, labels, *rest = jax.random.split(key, 3 + 3 * BLOCKS)
        self.enter = eqx.nn.Linear(PIXELS, WIDTH, key=enter)
        self.leave = eqx.nn.Linear(WIDTH, PIXELS, key=leave)
        self.labels = 0.1 * jax.random.normal(labels, (DIGITS + 1, WIDTH))
        layers = [eqx.nn.Linear(2 * WAVES if i % 3 == 2 else WIDTH, WIDTH, key=key) for i, key in enumerate(rest)]
        self.blocks = tuple((layers[i], layers[i + 1], layers[i + 2]) for i in range(0, 3 * BLOCKS, 3))

    def __call__(
        self, x: Float[Array, " pixels"], log_noise: Float[Array, ""], label: Int[Array, ""]
    ) -> Float[Array, " pixels"]:
        angles = log_noise * jnp.asarray(np.geomspace(0.25, 8.0, WAVES), x.dtype)
        waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)])
        hidden = self.enter(x) + self.labels[label]
        for first, second, told in self.blocks:
            hidden = hidden + second(jax.nn.silu(first(jax.nn.silu(hidden)) + told(waves)))
        return self.leave(jax.nn.silu(hidden))


def denoiser(network: Network, label: Any = DIGITS) -> Denoiser:
    r"""Of one digit, or of any, which is the label 10: $D(x) = c_s x + c_o F(c_i x)$, with F of size one.

    Source: Karras et al. (2022), Elucidating the design space of diffusion-based generative models, table 1.
    """

    def predicted(x: Float[Array, " pixels"], sigma: Any) -> Float[Array, " pixels"]:
        sigma = jnp.asarray(sigma, x.dtype)
        size = jnp.sqrt(sigma**2 + SPREAD**2)
        skip, out = (SPREAD / size) ** 2, sigma * SPREAD / size
        return skip * x + out * network(x / size, jnp.log(sigma), jnp.asarray(label))

    return DataPrediction(EDM(), predicted)


def digits() -> tuple[Float[Array, "n pixels"], Int[Array, " n"]]:
    """Ink from -1 to 1, and which digit."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return jnp.asarray(images / 8 - 1, jnp.float32), jnp.asarray(labels)


def train(key: Key[Array, ""], steps: int = STEPS, perturbation: float = 0.0) -> Network:
    """On all digits, of which one in ten is not told which it is; `perturbation` is that of `denoising_loss`."""
    import optax

    images, labels = digits()
    key_network, key_steps = jax.random.split(key)
    network = Network(key_network)
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, steps))

    def loss(network: Network, key: Key[Array, ""]) -> Float[Array, ""]:
        which, level, forget, noise = jax.random.split(key, 4)
        rows = jax.random.randint(which, (BATCH,), 0, len(images))
        sigma = jnp.exp(-0.8 + 1.4 * jax.random.normal(level, (BATCH,)))
        told = jnp.where(jax.random.bernoulli(forget, FORGET, (BATCH,)), DIGITS, labels[rows])
        weights = (sigma**2 + SPREAD**2) / (sigma * SPREAD) ** 2
        keys = jax.random.split(noise, BATCH)

        def one(key: Any, row: Any, label: Any, sigma: Any, weight: Any) -> Float[Array, ""]:
            alone = (row[None], sigma[None])
            model, more = denoiser(network, label), {"weights": weight[None], "perturbation": perturbation}
            return denoising_loss(key, model, *alone, form=data, **more)

        return jnp.mean(jax.vmap(one)(keys, images[rows], told, sigma, weights))

    def step(carry: Any, index: Int[Array, ""]) -> tuple[Any, None]:
        network, average, state = carry
        changes, state = optimizer.update(jax.grad(loss)(network, jax.random.fold_in(key_steps, index)), state)
        network = optax.apply_updates(network, changes)
        keep = jnp.minimum(DECAY, (1.0 + index) / (10.0 + index))
        return (network, jax.tree.map(lambda a, b: keep * a + (1 - keep) * b, average, network), state), None

    begun = (network, network, optimizer.init(eqx.filter(network, eqx.is_array)))
    return jax.jit(lambda begun: jax.lax.scan(step, begun, jnp.arange(steps))[0][1])(begun)


def saved() -> Network:
    """The network that was trained by `train` and is shipped."""
    leaves, tree = jax.tree.flatten(eqx.filter_eval_shape(Network, jax.random.key(0)))
    with np.load(WEIGHTS) as file:
        found = [jnp.asarray(file[f"arr_{i}"], jnp.float32) for i in range(len(leaves))]
    return jax.tree.unflatten(tree, found)


if __name__ == "__main__":
    leaves = [np.asarray(leaf, np.float16) for leaf in jax.tree.leaves(train(jax.random.key(0)))]
    np.savez_compressed(WEIGHTS, *leaves)
