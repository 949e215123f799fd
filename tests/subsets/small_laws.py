"""Every law of the room on few items, with all that it can draw, and mutants of it."""

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn import log_softmax, logsumexp, softplus
from programs.laws import FAST

from variate.subsets import ConditionalPoisson, NMMask, PermutationMatrix, PlackettLuce, TopK
from variate.subsets.top_k import log_first

# Little is computed, so compiling is most of the time.
jit = functools.partial(jax.jit, compiler_options=FAST)


class Methods(NamedTuple):
    """What is judged: the law's own, or a mutant's."""

    sample: Callable[[Any, Array], Array] = lambda law, key: law.sample(key)
    log_prob: Callable[[Any, Array], Array] = lambda law, x: law.log_prob(x)


class Law(NamedTuple):
    make: Callable[[Array], Any]
    logits: np.ndarray
    outcomes: np.ndarray  # [outcomes, *event]
    exact: Callable[[Array, Array], Array]  # log probability of one outcome, by the definition
    mutants: Mapping[str, Methods]


LOGITS = np.array([0.4, -0.7, 1.1, 0.2, -0.1])


def sets(items: int, size: int) -> np.ndarray:
    chosen = itertools.combinations(range(items), size)
    return np.array([[float(i in each) for i in range(items)] for each in chosen])


def orders(items: int, size: int) -> np.ndarray:
    return np.array(list(itertools.permutations(range(items), size)), np.int32)


def matrices(items: int) -> np.ndarray:
    return np.eye(items)[orders(items, items)]


def grouped(masks: np.ndarray, groups: int) -> np.ndarray:
    return np.array([np.concatenate(each) for each in itertools.product(masks, repeat=groups)])


def in_order(logits: Array, x: Array) -> Array:
    """One place after the other."""
    total, left = jnp.zeros((), logits.dtype), jnp.ones(logits.shape, logits.dtype)
    for place in range(x.shape[0]):
        total = total + logits[x[place]] - jnp.log(jnp.sum(jnp.exp(logits) * left))
        left = left.at[x[place]].set(0)
    return total


def in_any_order(logits: Array, x: Array) -> Array:
    chosen = jnp.flatnonzero(x, size=3)
    each = jnp.asarray(list(itertools.permutations(range(3))))
    return logsumexp(jax.vmap(lambda order: in_order(logits, chosen[order]))(each))


def by_weight(size: int) -> Callable[[Array, Array], Array]:
    def log_prob(logits: Array, x: Array) -> Array:
        return jnp.dot(x, logits) - logsumexp(jnp.asarray(sets(5, size), logits.dtype) @ logits)

    return log_prob


def by_group(logits: Array, x: Array) -> Array:
    masks = jnp.asarray(NMMask(logits, 2, 3).masks)
    which = jnp.argmax(x.reshape(2, 3) @ masks.T, axis=-1)
    return jnp.sum(jnp.take_along_axis(log_softmax(logits), which[:, None], axis=1))


def another_noise(law: Any, key: Array) -> Array:
    """Normal noise in the place of Gumbel's."""
    noisy = law.logits + jax.random.normal(key, law.logits.shape, law.logits.dtype)
    if isinstance(law, NMMask):
        return law._joined(jax.nn.one_hot(jnp.argmax(noisy, axis=-1), 3, dtype=noisy.dtype))
    order = jnp.argsort(-noisy)
    if isinstance(law, PlackettLuce):
        return order[: law.size].astype(jnp.int32)
    hot = jax.nn.one_hot(order, noisy.shape[0], dtype=noisy.dtype)
    return hot if isinstance(law, PermutationMatrix) else jnp.sum(hot[: law.size], axis=0)


def with_replacement(law: Any, x: Array) -> Array:
    return jnp.sum(log_softmax(law.logits)[x])


def order_of(x: Array) -> Array:
    return jnp.argmax(x, axis=-1)


def one_order(law: Any, x: Array) -> Array:
    return in_order(law.logits, jnp.flatnonzero(x, size=law.size))


def against_all(law: Any, x: Array) -> Array:
    """The others' clocks, and the set's own among them."""
    return log_first(law.logits[jnp.flatnonzero(x, size=law.size)], logsumexp(law.logits))


def coins(law: Any, x: Array) -> Array:
    """Without the condition that the number of heads is given."""
    return jnp.sum(x * law.logits - softplus(law.logits))


def one_after_the_other(law: Any, key: Array) -> Array:
    return TopK(law.logits, law.size).sample(key)


def complement(law: Any, key: Array) -> Array:
    return 1 - ConditionalPoisson(law.logits, law.logits.shape[0] - law.size).sample(key)


def same_in_all_groups(law: Any, key: Array) -> Array:
    first = NMMask(law.logits[:1], 2, 3).sample(key)
    return jnp.tile(first, 2)


def first_group_alone(law: Any, x: Array) -> Array:
    return NMMask(law.logits[:1], 2, 3).log_prob(x[:3])


NOISE = {"normal noise": Methods(sample=another_noise)}
LAWS = {
    "orders": Law(
        PlackettLuce, LOGITS[:4], orders(4, 4), in_order,
        NOISE | {
            "with replacement": Methods(log_prob=with_replacement),
            "the last first": Methods(sample=lambda law, key: law.sample(key)[::-1]),
        },
    ),
    "two places": Law(
        lambda logits: PlackettLuce(logits, 2), LOGITS, orders(5, 2), in_order,
        NOISE | {
            "with replacement": Methods(log_prob=with_replacement),
            "one place": Methods(log_prob=lambda law, x: log_softmax(law.logits)[x[0]]),
        },
    ),
    "matrices": Law(
        PermutationMatrix, LOGITS[:4], matrices(4), lambda logits, x: in_order(logits, order_of(x)),
        NOISE | {
            "transposed": Methods(sample=lambda law, key: law.sample(key).T),
            "with replacement": Methods(log_prob=lambda law, x: with_replacement(law, order_of(x))),
        },
    ),
    "three drawn": Law(
        lambda logits: TopK(logits, 3), LOGITS, sets(5, 3), in_any_order,
        NOISE | {
            "one order": Methods(log_prob=one_order),
            "its own clocks against it": Methods(log_prob=against_all),
        },
    ),
    "three given": Law(
        lambda logits: ConditionalPoisson(logits, 3), LOGITS, sets(5, 3), by_weight(3),
        {
            "coins": Methods(log_prob=coins),
            "one after the other": Methods(sample=one_after_the_other),
            "what is left": Methods(sample=complement),
        },
    ),
    "2:3 masks": Law(
        lambda logits: NMMask(logits, 2, 3), np.array([[0.4, -0.7, 1.1], [0.9, 0.2, -0.5]]),
        grouped(sets(3, 2), 2), by_group,
        NOISE | {
            "one mask for all groups": Methods(sample=same_in_all_groups),
            "one group": Methods(log_prob=first_group_alone),
        },
    ),
}  # fmt: skip
MASKS = ("three drawn", "three given", "2:3 masks")


def law_of(name: str) -> Any:
    return LAWS[name].make(jnp.asarray(LAWS[name].logits))


def off_the_support(name: str) -> Array:
    """Values that cannot be drawn, made of one that can."""
    x = jnp.asarray(LAWS[name].outcomes[0])
    if x.dtype == jnp.int32:
        return jnp.stack([x.at[0].set(x[1]), x + 5, -x - 1])
    return jnp.stack([1 - x, x / 2, 2 * x, jnp.ones_like(x), jnp.zeros_like(x), x.at[..., 0].set(jnp.nan)])
