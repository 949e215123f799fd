"""One gradient by every rule that is legal for it, beside the exact one."""

import math
import statistics
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from scipy import special

import variate as vt
from variate.demo.autoencoder import Autoencoder, initial, log_densities, negative_elbo
from variate.gradients import Enumerate, LeaveOneOut, NoBaseline, Pathwise, Rule, Score

BITS = 5  # in each layer, so that there are 2¹⁰ outcomes to sum for the exact gradient


def both(rule: Rule) -> dict[str, Rule]:
    return {"layer 1": rule, "layer 2": rule}


RULES: Mapping[str, dict[str, Rule]] = {
    "Score(NoBaseline)": both(Score(NoBaseline())),
    "Score(LeaveOneOut)": both(Score(LeaveOneOut())),
    "Enumerate": both(Enumerate()),
    "automatic": {},
}


class Entry(NamedTuple):
    """What one rule gave."""

    rule: str
    value: Float[np.ndarray, " coordinates"]
    stderr: Float[np.ndarray, " coordinates"]
    variance: float  # of one run's gradient, summed over the coordinates
    seconds: float  # a run

    @property
    def variance_times_time(self) -> float:
        return self.variance * self.seconds

    def deviations(self, exact: Float[np.ndarray, " coordinates"]) -> Float[np.ndarray, " coordinates"]:
        """How many standard errors each coordinate is off."""
        return (self.value - exact) / self.stderr


class Comparison(NamedTuple):
    """The gradient in the biases of the encoder, the coordinates that only the draws carry to the bound."""

    model: Autoencoder
    image: Float[Array, " pixels"]
    exact: Float[np.ndarray, " coordinates"]
    num_samples: int
    entries: list[Entry]
    refusal: str  # what is said to Pathwise

    @property
    def furthest_expected(self) -> float:
        """Where the furthest coordinate of an unbiased gradient lies in 19 cases of 20, in standard errors."""
        return float(special.ndtri((1 + 0.95 ** (1 / len(self.exact))) / 2))


def encoder_biases(gradient: Autoencoder) -> Float[np.ndarray, " coordinates"]:
    return np.concatenate([np.asarray(gradient.encode_1.biases), np.asarray(gradient.encode_2.biases)])


def exact_gradient(model: Autoencoder, x: Float[Array, " pixels"]) -> Autoencoder:
    """The gradient of the negative bound, by the sum over all values of the latents, in float64."""
    sizes = len(model.encode_1.biases), len(model.encode_2.biases)
    with jax.enable_x64(True):
        model, x = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (model, x))
        outcomes = jnp.asarray(np.indices((2,) * sum(sizes)).reshape(sum(sizes), -1).T, jnp.float64)
        b1, b2 = jnp.split(outcomes, [sizes[0]], axis=1)

        def expectation(model: Autoencoder) -> Float[Array, ""]:
            log_q, log_p = jax.vmap(log_densities, in_axes=(None, None, 0, 0))(model, x, b1, b2)
            return jnp.sum(jnp.exp(log_q) * (log_q - log_p))

        return jax.jit(jax.grad(expectation))(model)


def compare(key: Key[Array, ""], image: Float[Array, " pixels"], num_samples: int) -> Iterator[Comparison]:
    """Every rule's gradient of one image's bound under a small untrained autoencoder, one rule more each time."""
    key_model, key_runs = jax.random.split(key)
    model = initial(key_model, BITS, BITS)
    try:
        vt.grad(negative_elbo, rules={"layer 1": Pathwise()})(key, model, image)
        refusal = "nothing, which is a bug: it should have been refused"
    except ValueError as error:
        refusal = str(error)
    found = Comparison(model, image, encoder_biases(exact_gradient(model, image)), num_samples, [], refusal)
    yield found
    for rule, key_run in zip(RULES, jax.random.split(key_runs, len(RULES)), strict=True):
        entry = measure(rule, key_run, model, image, num_samples)
        yield (found := found._replace(entries=[*found.entries, entry]))


def measure(
    rule: str, key: Key[Array, ""], model: Autoencoder, image: Float[Array, " pixels"], num_samples: int
) -> Entry:
    """One rule's gradient, and the median time of a run once compiled."""
    gradient = jax.jit(vt.grad(negative_elbo, num_samples=num_samples, block_size=num_samples, rules=RULES[rule]))
    found = jax.block_until_ready(gradient(key, model, image))
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        jax.block_until_ready(gradient(key, model, image))
        seconds.append(time.perf_counter() - start)
    value, stderr = encoder_biases(found.value), encoder_biases(found.stderr)
    return Entry(
        rule=rule,
        value=value,
        stderr=stderr,
        variance=num_samples * math.fsum(stderr.astype(float) ** 2),
        seconds=statistics.median(seconds) / num_samples,
    )
