"""The programs of the gradient benchmark, as a user of Variate writes them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from sklearn.datasets import load_digits

import variate as vt

PIXELS, BATCH, RATE = 64, 128, 1e-4
BITS, HIDDEN, CODE = 200, 200, 20
STEPS = 100

Program = Callable[..., jax.Array]


class Case(NamedTuple):
    """A program, what it runs on, and how many samples a step takes."""

    name: str
    program: Program
    params: Any
    data: tuple[jax.Array, ...]
    samples: int


def digits() -> jax.Array:
    """A batch of scikit-learn's handwritten digits, black and white: [128, 64]."""
    return jnp.asarray(load_digits().data[:BATCH] > 8, jnp.float32)


def dense(generator: np.random.Generator, rows: int, columns: int) -> dict[str, jax.Array]:
    weights = generator.normal(size=(rows, columns)) / np.sqrt(rows)
    return {"w": jnp.asarray(weights, jnp.float32), "b": jnp.zeros(columns, jnp.float32)}


def apply(layer: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return x @ layer["w"] + layer["b"]


def bernoulli(logits: jax.Array, b: jax.Array) -> jax.Array:
    """Log probability, summed."""
    return jnp.sum(b * logits - jax.nn.softplus(logits))


def normal_divergence(mean: jax.Array, log_scale: jax.Array) -> jax.Array:
    """From N(mean, scale^2) to N(0, 1), summed."""
    return 0.5 * jnp.sum(jnp.exp(2 * log_scale) + mean**2 - 1 - 2 * log_scale)


def autoencoder(key, params, x):
    """-ELBO of one layer of 200 Bernoulli latents."""
    logits = apply(params["encoder"], x)
    b = vt.draw(key, dist.Bernoulli(logits=logits)).astype(x.dtype)
    likelihood = bernoulli(apply(params["decoder"], b), x)
    return (bernoulli(logits, b) - bernoulli(params["prior"], b) - likelihood) / x.shape[0]


def gaussian(key, params, x):
    """-ELBO of a Gaussian variational autoencoder with 20 latents."""
    hidden = jnp.tanh(apply(params["encoder"], x))
    mean, log_scale = apply(params["mean"], hidden), apply(params["log_scale"], hidden)
    z = vt.draw(key, dist.Normal(mean, jnp.exp(log_scale)))
    logits = apply(params["output"], jnp.tanh(apply(params["decoder"], z)))
    return (normal_divergence(mean, log_scale) - bernoulli(logits, x)) / x.shape[0]


def walk(key, params):
    """A scan of 100 Bernoullis, the logit of each moved by those before it."""

    def step(state, inputs):
        key, logit = inputs
        b = vt.draw(key, dist.Bernoulli(logits=logit - params["pull"] * state))
        return 0.9 * state + b, None

    state, _ = jax.lax.scan(step, jnp.zeros(()), (jax.random.split(key, STEPS), params["logits"]))
    return (state - 3.0) ** 2


def toy(key, params):
    """Three linked Bernoullis."""
    k1, k2, k3 = jax.random.split(key, 3)
    score = vt.gradients.Score()
    a = vt.draw(k1, dist.Bernoulli(logits=params[0]), rule=score)
    b = vt.draw(k2, dist.Bernoulli(logits=params[1] + a), rule=score)
    c = vt.draw(k3, dist.Bernoulli(logits=params[2] - b), rule=score)
    return (a + b + c - 1.5) ** 2


def equations(count: int) -> Program:
    """A draw and a chain of `count` equations behind it."""

    def program(key, params):
        x = vt.draw(key, dist.Normal(params, 1.0))
        for _ in range(count // 2):
            x = jnp.sin(x) * params
        return x

    return program


def draws(count: int) -> Program:
    """That many linked Bernoullis, written one after the other."""

    def program(key, params):
        state, score = jnp.zeros(()), vt.gradients.Score()
        for i in range(count):
            b = vt.draw(jax.random.fold_in(key, i), dist.Bernoulli(logits=params - state), rule=score)
            state = 0.9 * state + b
        return (state - 3.0) ** 2

    return program


def cases() -> Sequence[Case]:
    generator, x = np.random.default_rng(0), digits()
    layer = partial(dense, generator)
    prior = jnp.zeros(BITS, jnp.float32)
    bits = {"encoder": layer(PIXELS, BITS), "decoder": layer(BITS, PIXELS), "prior": prior}
    code = {
        "encoder": layer(PIXELS, HIDDEN),
        "mean": layer(HIDDEN, CODE),
        "log_scale": layer(HIDDEN, CODE),
        "decoder": layer(CODE, HIDDEN),
        "output": layer(HIDDEN, PIXELS),
    }
    linked = {"pull": jnp.asarray(0.1), "logits": jnp.linspace(-1.0, 1.0, STEPS)}
    return (
        Case("digits autoencoder, 200 Bernoullis", autoencoder, bits, (x,), 4),
        Case("Gaussian VAE", gaussian, code, (x,), 4),
        Case("scan of 100 linked Bernoullis", walk, linked, (), 16),
        Case("three linked Bernoullis", toy, jnp.asarray([0.1, -0.2, 0.3]), (), 4),
    )


def descend(params: Any, gradient: Any) -> Any:
    return jax.tree.map(lambda p, g: p - RATE * g, params, gradient)


def step(program: Program, samples: int, stderr: bool = False) -> Callable:
    """A step of stochastic gradient descent, to be jitted by the caller."""

    def afresh(*args):  # JAX keeps what it has traced by the identity of the function
        return program(*args)

    estimate = vt.value_and_grad(afresh, num_samples=samples, stderr=stderr)

    def update(params, key, *data):
        value, gradient = estimate(key, params, *data)
        errors = (value.stderr, gradient.stderr) if stderr else None
        return descend(params, gradient.value), value.value, errors

    return update
