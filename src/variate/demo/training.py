"""Training on the handwritten digits while the bound of held-out ones is watched."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

import variate as vt
from variate.demo.autoencoder import Autoencoder, bound, imagine, initial, reconstruct, train

HELD_OUT = 360


class Digits(NamedTuple):
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, ink or no ink, which half the range decides."""

    train: Float[Array, "n pixels"]
    held_out: Float[Array, "m pixels"]


class Album(NamedTuple):
    """Held-out images, what comes back of them, and three times as many made up; pixels are probabilities of ink."""

    images: Float[Array, "n pixels"]
    reconstructions: Float[Array, "n pixels"]
    samples: Float[Array, "m pixels"]


@dataclass
class Training:
    """What training has come to so far."""

    model: Autoencoder
    independent: float  # nats per held-out image under the best model of independent pixels, for comparison
    epochs: int  # to be done
    train_bounds: list[float] = field(default_factory=list)  # a pass each
    held_out: list[tuple[int, vt.Estimate]] = field(default_factory=list)  # after how many passes, and the bound
    album: Album | None = None


def digits(key: Key[Array, ""]) -> Digits:
    from sklearn.datasets import load_digits

    images = jnp.asarray(np.asarray(load_digits(return_X_y=True)[0]) >= 8, jnp.float32)
    order = jax.random.permutation(key, len(images))
    return Digits(images[order[HELD_OUT:]], images[order[:HELD_OUT]])


def independent_pixels(data: Digits) -> float:
    """The mean log probability of held-out images if every pixel had, on its own, its share of ink in training."""
    ink = (np.sum(data.train, axis=0, dtype=float) + 1) / (len(data.train) + 2)
    held_out = np.asarray(data.held_out, float)
    return float(np.mean(np.sum(held_out * np.log(ink) + (1 - held_out) * np.log1p(-ink), axis=1)))


def start(key: Key[Array, ""], data: Digits, epochs: int) -> Training:
    return Training(initial(key), independent_pixels(data), epochs)


def advance(key: Key[Array, ""], training: Training, data: Digits) -> Iterator[vt.Estimate]:
    """Train, yielding the latest held-out bound after every pass. What is done is in `training` whenever this stops."""
    key_train, key_look = jax.random.split(key)
    training.held_out.append((0, look := bound(key_look, training.model, data.held_out)))
    for model, train_bound in train(key_train, training.model, data.train, training.epochs):
        training.model = model
        training.train_bounds.append(train_bound)
        done = len(training.train_bounds)
        if done == training.epochs or done.bit_count() == 1:  # at powers of two
            look = bound(jax.random.fold_in(key_look, done), training.model, data.held_out)
            training.held_out.append((done, look))
        yield look


def album(key: Key[Array, ""], model: Autoencoder, images: Float[Array, "n pixels"]) -> Album:
    """Each image with one draw of what the autoencoder makes of it, and images out of nothing."""
    key_back, key_new = jax.random.split(key)
    keys = jax.random.split(key_back, len(images))
    back = jax.jit(jax.vmap(reconstruct, in_axes=(0, None, 0)))(keys, model, images)
    new = jax.jit(jax.vmap(imagine, in_axes=(0, None)))(jax.random.split(key_new, 3 * len(images)), model)
    return Album(images, back, new)
