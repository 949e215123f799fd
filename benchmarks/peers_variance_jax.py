"""The problems in TensorFlow Probability and in GenJAX, in a process of their own: they run on older releases of JAX.

python benchmarks/peers_variance_jax.py PROBLEMS.npz REPLICATES    # as benchmarks/variance.py calls it
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import one_hot, sigmoid
from peers_variance import SAMPLES, in_few_words, measured

MISSING = {}  # what does not import beside this JAX, and why
try:
    from tensorflow_probability.substrates import jax as tfp
except Exception as error:
    MISSING["TFP"] = in_few_words(error)
try:
    from genjax import adev
except Exception as error:
    MISSING["GenJAX"] = in_few_words(error)

UNROLLED = 20  # steps that compile in less than a minute when written out for ADEV
PICKED, REPEATED, SERVED = 3, 20.0, 3.0


def bernoulli(logits, b):
    return b * logits - jax.nn.softplus(logits)


def categorical(logits, z):
    return jnp.sum(one_hot(z, logits.shape[-1]) * jax.nn.log_softmax(logits), axis=-1)


def rates(t):
    return jnp.exp(t[0] + t[1] * jnp.sin(2 * jnp.pi * jnp.arange(20) / 20))


def linked(draw, logits):
    a = draw.coin(logits[0])
    b = draw.coin(logits[1] + a)
    c = draw.coin(logits[2] - b)
    return (a + b + c - 1.5) ** 2


def apart(draw, logits):
    return jnp.sum((draw.coin(logits) - 0.45) ** 2)


def dice(draw, decoder, decoder_bias, encoder, encoder_bias, x):
    logits = (x @ encoder + encoder_bias).reshape(len(x), 10, 5)
    z = draw.die(logits)
    outputs = one_hot(z, 5).reshape(len(x), 50) @ decoder + decoder_bias
    divergence = jnp.sum(categorical(logits, z)) + len(x) * 10 * jnp.log(5)
    return (divergence - jnp.sum(bernoulli(outputs, x))) / len(x)


def coins(draw, decoder, decoder_bias, encoder, encoder_bias, x):
    logits = x @ encoder + encoder_bias
    b = draw.coin(logits)
    divergence = jnp.sum(bernoulli(logits, b)) + len(x) * 32 * jnp.log(2)
    return (divergence - jnp.sum(bernoulli(b @ decoder + decoder_bias, x))) / len(x)


def walk(draw, t):
    def step(draw, carry, _):
        s, total = carry
        b = draw.coin(t[0] + t[1] * jnp.tanh(s))
        s = 0.5 * s + 2 * b - 1
        return s, total + b * s

    return draw.loop(step, (jnp.zeros(()), jnp.zeros(())), jnp.zeros(100))[1]


def decisions(draw, logits, moves, rewards):
    def step(draw, carry, _):
        s, total = carry
        a = draw.die(logits[s])
        return draw.die(jnp.log(moves[s, a])), total + rewards[s, a]

    return draw.loop(step, (jnp.zeros((), int), jnp.zeros(())), jnp.zeros(20))[1]


def queue(draw, t):
    def step(draw, carry, rate):
        waiting, total = carry
        waiting = jnp.maximum(waiting + draw.count(rate) - SERVED, 0.0)
        return waiting, total + waiting

    return draw.loop(step, (jnp.zeros(()), jnp.zeros(())), rates(t))[1]


def subset(draw, logits, features, target):
    chosen = jnp.zeros(len(logits))
    for _ in range(PICKED):
        chosen = chosen + one_hot(draw.die(logits - REPEATED * chosen), len(logits))
    return jnp.sum((target - chosen @ features) ** 2)


PROGRAMS: tuple[Callable, ...] = (linked, apart, dice, coins, walk, decisions, queue, subset)


class Tfp:
    """Draws from TFP's distributions, each with its log probability kept for the joint one."""

    def __init__(self, key, values=None):
        self.key, self.values, self.drawn, self.log_prob = key, values, [], 0.0

    def draw(self, distribution):
        self.key, own = jax.random.split(self.key)
        value = distribution.sample(seed=own) if self.values is None else self.values[len(self.drawn)]
        value = lax.stop_gradient(value)
        self.drawn.append(value)
        self.log_prob += jnp.sum(distribution.log_prob(value))
        return value

    def coin(self, logits):
        return self.draw(tfp.distributions.Bernoulli(logits=logits, dtype=jnp.float32))

    def die(self, logits):
        return self.draw(tfp.distributions.Categorical(logits=logits))

    def count(self, rate):
        return self.draw(tfp.distributions.Poisson(rate))

    def loop(self, step, carry, inputs):
        def body(carry, inputs):
            inner = Tfp(*inputs[:2])
            carry = step(inner, carry, inputs[2])
            return carry, (inner.drawn, inner.log_prob)

        self.key, own = jax.random.split(self.key)
        kept = None if self.values is None else self.values[len(self.drawn)]
        carry, (drawn, log_probs) = lax.scan(body, carry, (jax.random.split(own, len(inputs)), kept, inputs))
        self.drawn.append(drawn)
        self.log_prob += jnp.sum(log_probs)
        return carry


def tfp_expectation(program, leaves, data):
    """`expectation` of the joint draws with their joint log probability."""

    def run(leaves, key, values=None):
        draw = Tfp(key, values)
        return program(draw, *leaves, *data), draw

    def surrogate(leaves, key):
        keys = jax.random.split(key, SAMPLES)
        drawn = jax.vmap(lambda key: run(leaves, key)[1].drawn)(keys)
        return tfp.monte_carlo.expectation(
            jax.vmap(lambda values: run(leaves, key, values)[0]),
            samples=drawn,
            log_prob=jax.vmap(lambda values: run(leaves, key, values)[1].log_prob),
            use_reparameterization=False,
        )

    return jax.grad(surrogate)


def tfp_by_part(program, leaves, data):
    """The same where the cost is a mean or sum of independent parts: `expectation` of each part."""

    def surrogate(leaves, key):
        if program is apart:
            q = tfp.distributions.Bernoulli(logits=leaves[0], dtype=jnp.float32)
            drawn, cost, log_prob, over = q.sample(SAMPLES, seed=key), lambda b: (b - 0.45) ** 2, q.log_prob, jnp.sum
        else:
            decoder, decoder_bias, encoder, encoder_bias = leaves
            (x,) = data
            logits, over = x @ encoder + encoder_bias, jnp.mean
            if program is dice:
                logits = logits.reshape(len(x), 10, 5)
                q = tfp.distributions.Independent(tfp.distributions.Categorical(logits=logits), 1)
                code, prior = lambda z: one_hot(z, 5).reshape(*z.shape[:2], 50), 10 * jnp.log(5)
            else:
                q = tfp.distributions.Independent(tfp.distributions.Bernoulli(logits=logits, dtype=jnp.float32), 1)
                code, prior = lambda b: b, 32 * jnp.log(2)
            drawn, log_prob = q.sample(SAMPLES, seed=key), q.log_prob

            def cost(z):
                return q.log_prob(z) + prior - jnp.sum(bernoulli(code(z) @ decoder + decoder_bias, x), axis=-1)

        drawn = lax.stop_gradient(drawn)
        return over(tfp.monte_carlo.expectation(cost, drawn, log_prob, use_reparameterization=False))

    return jax.grad(surrogate)


class Adev:
    """Draws by ADEV's primitives."""

    def __init__(self, coin, die, count):
        self.coin, self.die, self.count = coin, die, count

    def loop(self, step, carry, inputs):
        if len(inputs) > UNROLLED:
            return lax.scan(lambda carry, x: (step(self, carry, x), None), carry, inputs)[0]
        for i in range(len(inputs)):
            carry = step(self, carry, inputs[i])
        return carry


def by_adev(kind):
    def estimator(program, leaves, data):
        draw = adev_draws(kind)
        expectation = adev.expectation(lambda *leaves: program(draw, *leaves, *data))

        def mean(leaves, key):
            keys = jax.random.split(key, SAMPLES)
            found = jax.vmap(lambda key: expectation.grad_estimate(key, tuple(leaves)))(keys)
            return jax.tree.map(lambda x: jnp.mean(x, axis=0), found)

        return mean

    return estimator


def adev_draws(kind):
    distributions = tfp.distributions

    def scored(make):
        return adev.reinforce(
            lambda key, p: make(p).sample(seed=key), lambda value, p: jnp.sum(make(p).log_prob(value))
        )

    coin = scored(lambda logits: distributions.Bernoulli(logits=logits, dtype=jnp.float32))
    die = scored(lambda logits: distributions.Categorical(logits=logits))
    count = scored(distributions.Poisson)
    primitives = {
        "flip_enum": adev.flip_enum,
        "flip_enum_parallel": adev.flip_enum_parallel,
        "flip_mvd": adev.flip_mvd,
    }
    if kind in primitives:
        flip = primitives[kind]
        return Adev(lambda logits: flip(sigmoid(logits)) + 0.0, die, count)
    if kind == "categorical_enum_parallel":
        return Adev(coin, adev.categorical_enum_parallel, count)
    return Adev(coin, die, count)


def estimators(program) -> Iterator[tuple[str, Callable]]:
    yield "TFP: expectation", tfp_expectation
    if program in (apart, dice, coins):
        yield "TFP: expectation of each part", tfp_by_part
    yield "GenJAX: reinforce", by_adev("reinforce")
    if program in (linked, apart, coins):
        for kind in ("flip_enum", "flip_enum_parallel", "flip_mvd"):
            yield f"GenJAX: {kind}", by_adev(kind)
    if program in (dice, subset):
        yield "GenJAX: categorical_enum_parallel", by_adev("categorical_enum_parallel")


def main() -> None:
    archive, replicates = np.load(sys.argv[1]), int(sys.argv[2])
    keys = list(jax.random.split(jax.random.key(2), replicates + 1))
    print(json.dumps({"about": {f"{name} of its own process": known for name, known in versions()}}), flush=True)
    for number, program in enumerate(PROGRAMS):
        leaves = arrays(archive, f"{number}/params")
        data = [jnp.asarray(x) for x in arrays(archive, f"{number}/data")]
        for label, make in estimators(program):
            why = MISSING.get(label.split(":")[0])
            result = {"failed": why} if why else found(make, program, leaves, data, keys)
            print(json.dumps({"problem": number, "label": label, **result}), flush=True)


def versions() -> Iterator[tuple[str, str]]:
    for name in ("jax", "tensorflow-probability", "genjax"):
        with contextlib.suppress(PackageNotFoundError):
            yield name, version(name)


def arrays(archive, prefix: str) -> list[np.ndarray]:
    names = [name for name in archive.files if name.startswith(prefix)]
    return [archive[f"{prefix}/{i}"] for i in range(len(names))]


def found(make, program, leaves, data, keys) -> dict:
    try:
        of = make(program, leaves, data)
        compiled = jax.jit(lambda leaves, key: jnp.concatenate([jnp.ravel(x) for x in of(leaves, key)]))
        result = measured(lambda seed: np.asarray(compiled(leaves, keys[seed])), len(keys) - 1)
    except Exception as error:  # whatever a peer raises is its row
        return {"failed": in_few_words(error)}
    return {name: np.asarray(value).tolist() for name, value in result._asdict().items()}


if __name__ == "__main__":
    main()
