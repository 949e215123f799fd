"""The problems of the variance benchmark: programs, the rules that serve them, and what their gradients are."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.nn import log_softmax, one_hot, sigmoid, softmax
from jax.scipy.stats import poisson
from sklearn.datasets import load_digits

import variate as vt
from variate.gradients import Coupled, Enumerate, LeaveOneOut, Marginalize, NoBaseline, Rule, Score
from variate.gradients.rules.arm import ARM
from variate.gradients.rules.arsm import ARSM
from variate.gradients.rules.baseline import Linear, Optimal
from variate.gradients.rules.disarm import DisARM
from variate.gradients.rules.rebar import Rebar
from variate.gradients.rules.sum_and_sample import SumAndSample
from variate.gradients.rules.unordered_set import UnorderedSet

BATCH, DICE, FACES, COINS = 32, 10, 5, 32
COINS_APART, WALK, DECISIONS, QUEUE, SERVED, PICKED = 200, 100, 20, 20, 3.0, 3
REPEATED = 20.0  # what a pick takes off its own logit, so that it comes again twice in 10^9 times

SCORES: tuple[Rule, ...] = (Score(NoBaseline()), Score(LeaveOneOut()), Score(Optimal()))
FLIPS: tuple[Rule, ...] = (DisARM(), ARM())


class Problem(NamedTuple):
    """A program of `(key, params)`, the names of its draws and the rules to measure.

    `exact`: its expectation, a function of the parameters; None where only a long run knows it. `mixed`: the rules of
    which every combination over the draws is measured too. `data`: the arrays that the program closes over.
    """

    name: str
    program: Callable[[Any, Any], Any]
    params: Any
    data: tuple[np.ndarray, ...]
    draws: tuple[str, ...]
    rules: tuple[Rule, ...]
    exact: Callable[[Any], Any] | None
    mixed: tuple[Rule, ...] = ()

    def truth(self) -> np.ndarray | None:
        """The gradient, in double precision, as one vector."""
        if self.exact is None:
            return None
        with jax.enable_x64(True):
            params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), self.params)
            return np.asarray(flat(jax.grad(self.exact)(params)))

    def assignments(self) -> list[dict[str, Rule]]:
        """A rule for all draws, and every combination of the mixed ones."""
        one = [dict.fromkeys(self.draws, rule) for rule in self.rules]
        several = [dict(zip(self.draws, c, strict=True)) for c in itertools.product(self.mixed, repeat=len(self.draws))]
        return one + [rules for rules in several if rules not in one]


def flat(tree: Any) -> jax.Array:
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def linked(key, logits):
    """Three linked Bernoullis."""
    k1, k2, k3 = jax.random.split(key, 3)
    a = vt.draw(k1, dist.Bernoulli(logits=logits[0]), name="a").astype(float)
    b = vt.draw(k2, dist.Bernoulli(logits=logits[1] + a), name="b").astype(float)
    c = vt.draw(k3, dist.Bernoulli(logits=logits[2] - b), name="c").astype(float)
    return (a + b + c - 1.5) ** 2


def linked_exact(logits):
    def outcome(a, b, c):
        flips = (a, logits[0]), (b, logits[1] + a), (c, logits[2] - b)
        return math.prod(sigmoid((2 * x - 1) * logit) for x, logit in flips) * (a + b + c - 1.5) ** 2

    return sum(outcome(*coins) for coins in itertools.product((0.0, 1.0), repeat=3))


def apart(key, logits):
    """Coins that have nothing to do with each other, a cost each."""
    b = vt.draw(key, dist.Bernoulli(logits=logits), name="b").astype(float)
    return jnp.sum((b - 0.45) ** 2)


def apart_exact(logits):
    p = sigmoid(logits)
    return jnp.sum(p * 0.55**2 + (1 - p) * 0.45**2)


def bernoulli(logits, b):
    return jnp.sum(b * logits - jax.nn.softplus(logits))


def dice_autoencoder(x):
    """-ELBO of pictures: 10 categorical latents of 5 values each, a linear encoder and decoder."""

    def program(key, params):
        logits = (x @ params["encoder"] + params["encoder bias"]).reshape(BATCH, DICE, FACES)
        z = one_hot(vt.draw(key, dist.Categorical(logits=logits), name="z"), FACES)
        outputs = z.reshape(BATCH, DICE * FACES) @ params["decoder"] + params["decoder bias"]
        divergence = jnp.sum(z * log_softmax(logits)) + BATCH * DICE * jnp.log(FACES)
        return (divergence - bernoulli(outputs, x)) / BATCH

    return program


def coin_autoencoder(x):
    """-ELBO of pictures: 32 Bernoulli latents, a linear encoder and decoder."""

    def program(key, params):
        logits = x @ params["encoder"] + params["encoder bias"]
        b = vt.draw(key, dist.Bernoulli(logits=logits), name="b").astype(float)
        outputs = b @ params["decoder"] + params["decoder bias"]
        return (bernoulli(logits, b) + BATCH * COINS * jnp.log(2) - bernoulli(outputs, x)) / BATCH

    return program


def walk(key, t):
    """A hundred coins, the logit of each moved by those before it, and a cost a step."""

    def step(carry, k):
        s, total = carry
        place = checkpoint_name(jnp.tanh(s), "state")
        b = vt.draw(k, dist.Bernoulli(logits=t[0] + t[1] * place), name="b").astype(float)
        s = 0.5 * s + 2 * b - 1
        return (s, total + b * s), None

    return lax.scan(step, (jnp.zeros(()), jnp.zeros(())), jax.random.split(key, WALK))[0][1]


def walk_exact(t):
    """The cost to come, a smooth function of the state, on a grid: right to six digits."""
    s = jnp.linspace(-2.0, 2.0, 4097)
    heads, up, down = sigmoid(t[0] + t[1] * jnp.tanh(s)), 0.5 * s + 1, 0.5 * s - 1

    def before(later, _):
        return heads * (up + jnp.interp(up, s, later)) + (1 - heads) * jnp.interp(down, s, later), None

    return lax.scan(before, jnp.zeros_like(s), None, WALK)[0][2048]


def decisions(moves, rewards):
    """A table of logits for the actions in each of four states, and a reward a step."""
    moves, rewards = jnp.asarray(moves), jnp.asarray(rewards)

    def program(key, logits):
        def step(carry, k):
            s, total = carry
            choosing, moving = jax.random.split(k)
            place = checkpoint_name(one_hot(s, len(logits)), "state")
            a = vt.draw(choosing, dist.Categorical(logits=place @ logits), name="action")
            following = vt.draw(moving, dist.Categorical(probs=moves[s, a]))
            return (following, total + rewards[s, a]), None

        return lax.scan(step, (jnp.zeros((), int), jnp.zeros(())), jax.random.split(key, DECISIONS))[0][1]

    return program


def decisions_exact(moves, rewards):
    def expectation(logits):
        def before(later, _):
            return jnp.sum(softmax(logits) * (rewards + moves @ later), axis=1), None

        return lax.scan(before, jnp.zeros(len(logits)), None, DECISIONS)[0][0]

    return expectation


def rates(t):
    return jnp.exp(t[0] + t[1] * jnp.sin(2 * jnp.pi * jnp.arange(QUEUE) / QUEUE))


def queue(key, t):
    """Poisson arrivals, three served a step, and the waiting of all."""

    def step(carry, inputs):
        k, rate = inputs
        waiting, total = carry
        waiting = checkpoint_name(waiting, "state")
        arrived = vt.draw(k, dist.Poisson(rate), name="arrivals").astype(float)
        waiting = jnp.maximum(waiting + arrived - SERVED, 0.0)
        return (waiting, total + waiting), None

    start = jnp.zeros(()), jnp.zeros(())
    return lax.scan(step, start, (jax.random.split(key, QUEUE), rates(t)))[0][1]


def queue_exact(t):
    lengths, counts = jnp.arange(200.0), jnp.arange(60)
    found, total = jnp.zeros(200).at[0].set(1.0), 0.0
    for rate in rates(t):
        more = jnp.convolve(found, poisson.pmf(counts, rate))[: 200 + int(SERVED)]
        found = more[int(SERVED) :].at[0].add(jnp.sum(more[: int(SERVED)]))
        total = total + jnp.sum(found * lengths)
    return total


def subset(features, target):
    """Three of eight items picked one after the other, to add up to a target."""

    def program(key, logits):
        chosen = jnp.zeros(len(logits))
        for k, name in zip(jax.random.split(key, PICKED), PICKS, strict=True):
            pick = vt.draw(k, dist.Categorical(logits=logits - REPEATED * chosen), name=name)
            chosen = chosen + one_hot(pick, len(logits))
        return jnp.sum((target - chosen @ features) ** 2)

    return program


def subset_exact(features, target):
    def expectation(logits):
        def outcome(picks):
            chosen, log_prob = jnp.zeros(len(logits)), 0.0
            for pick in picks:
                log_prob = log_prob + log_softmax(logits - REPEATED * chosen)[pick]
                chosen = chosen + one_hot(pick, len(logits))
            return jnp.exp(log_prob) * jnp.sum((target - chosen @ features) ** 2)

        return jnp.sum(jax.vmap(outcome)(jnp.array(list(itertools.product(range(len(logits)), repeat=PICKED)))))

    return expectation


PICKS = ("first", "second", "third")


def problems() -> Sequence[Problem]:
    generator = np.random.default_rng(0)

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (scale * generator.normal(size=shape)).astype(np.float32)

    def layers(latents: int, pixels: int = 64) -> dict[str, np.ndarray]:
        zeros = {"decoder bias": np.zeros(pixels, np.float32), "encoder bias": np.zeros(latents, np.float32)}
        encoder, decoder = normal(pixels, latents, scale=0.125), normal(latents, pixels, scale=0.3)
        return {"decoder": decoder, "encoder": encoder, **zeros}

    x = np.asarray(load_digits().data[:BATCH] > 8, np.float32)
    moves, rewards = generator.dirichlet(np.ones(4), size=(4, 3)).astype(np.float32), normal(4, 3)
    features, target = normal(8, 5), normal(5, scale=2.0)
    by_state = (*SCORES, Score(Linear(("state",))))
    actions = (Enumerate(), Coupled(), SumAndSample(1), UnorderedSet(2), ARSM())
    dice = (Enumerate(), SumAndSample(2), UnorderedSet(3), ARSM(), Rebar())
    few = (Score(LeaveOneOut()), Enumerate(), DisARM(), Marginalize())
    picks = (Score(LeaveOneOut()), Enumerate(), Marginalize())
    coins = (Enumerate(), Coupled(), *FLIPS, Rebar())
    spread = np.linspace(-1.0, 1.0, COINS_APART, dtype=np.float32)
    ones = np.array([0.1, -0.2, 0.3], np.float32)
    slope = np.array([0.2, -0.3], np.float32)
    busy = np.array([1.0, 0.5], np.float32)
    table = normal(4, 3, scale=0.5)
    wishes = normal(8, scale=0.5)
    # A rule that replays each of a thousand latents takes a third of a second a gradient, and Coupled is told how many.
    some = Coupled(replays=32)
    # What was picked has a probability of 10^-9, by which Coupled divides: its mean would be right after 10^9 runs.
    return (
        Problem(
            "3 linked coins", linked, ones, (), ("a", "b", "c"), (*SCORES, *coins, Marginalize()), linked_exact, few
        ),
        Problem("200 coins apart", apart, spread, (), ("b",), (*SCORES, *coins), apart_exact),
        Problem(
            "autoencoder of dice", dice_autoencoder(x), layers(50), (x,), ("z",), (*SCORES, some, ARSM(), Rebar()), None
        ),
        Problem(
            "autoencoder of coins", coin_autoencoder(x), layers(32), (x,), ("b",), (*SCORES, some, *coins[2:]), None
        ),
        Problem("walk of 100 coins", walk, slope, (), ("b",), (*by_state, *coins), walk_exact),
        Problem(
            "20 decisions",
            decisions(moves, rewards),
            table,
            (moves, rewards),
            ("action",),
            (*by_state, *actions),
            decisions_exact(moves, rewards),
        ),
        Problem("Poisson queue", queue, busy, (), ("arrivals",), (*by_state, Coupled()), queue_exact),
        Problem(
            "3 of 8 items",
            subset(features, target),
            wishes,
            (features, target),
            PICKS,
            (*SCORES, *dice, Marginalize()),
            subset_exact(features, target),
            picks,
        ),
    )
