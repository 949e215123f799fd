"""The problems in Storchastic, with each of its unbiased methods that takes them."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import storch
import torch
from peers_variance import OUTCOMES, SAMPLES
from storch.method import ARM, REBAR, DisARM, Expect, RaoBlackwellSF, ScoreFunction, UnorderedSetEstimator
from torch.distributions import Bernoulli, OneHotCategorical, Poisson
from torch.nn.functional import softplus

PICKED, REPEATED, SERVED = 3, 20.0, 3.0
Sampler = Callable[[int], Any]  # the method of the draw of this number


def score(baseline: str | None, samples: int = SAMPLES) -> Sampler:
    """The first draw is made `samples` times, the others once for each, or the cost would be taken to a power."""

    def method(i: int) -> Any:
        kept = baseline if i == 0 else None
        return ScoreFunction(f"draw {i}", n_samples=samples if i == 0 else 1, baseline_factory=kept)

    return method


def shared(make: Callable[[], Any]) -> Sampler:
    """One method for all draws of a sequence."""
    methods: list[Any] = []

    def method(i: int) -> Any:
        if not methods:
            methods.append(make())
        return methods[0]

    return method


def first(make: Callable[[], Any]) -> Sampler:
    """A method for the first draw of a kind that is not made for linked draws; the others are scored."""
    return lambda i: make() if i == 0 else ScoreFunction(f"draw {i}", n_samples=1)


def by_probs(sampler: Sampler) -> Sampler:
    """REBAR looks for a parameter of this name."""
    return lambda i: lambda distribution: sampler(i)(type(distribution)(probs=distribution.probs))


def methods(coins: bool, draws: int, poisson: bool) -> Iterator[tuple[str, Callable[[], Sampler]]]:
    yield "score", lambda: score(None)
    yield "score, leave-one-out" + (" in the first draw" if draws > 1 else ""), lambda: score("batch_average")
    if poisson:
        return
    if coins:
        yield "ARM", lambda: first(lambda: ARM("draw 0", n_samples=SAMPLES))
        yield "DisARM", lambda: first(lambda: DisARM("draw 0", n_samples=SAMPLES))
    else:
        yield "unordered set", lambda: shared(lambda: UnorderedSetEstimator("draw", SAMPLES))
        yield "sum and sample", lambda: shared(lambda: RaoBlackwellSF("draw", SAMPLES))
    yield "REBAR", lambda: by_probs(first(lambda: REBAR("draw 0", n_samples=SAMPLES)))
    yield "Expect", lambda: lambda i: Expect(f"draw {i}")


def linked(sampler, logits):
    a = sampler(0)(Bernoulli(logits=logits[0]))
    b = sampler(1)(Bernoulli(logits=logits[1] + a))
    c = sampler(2)(Bernoulli(logits=logits[2] - b))
    yield (a + b + c - 1.5) ** 2


def apart(sampler, logits):
    b = sampler(0)(Bernoulli(logits=storch.denote_independent(logits, 0, "coins")))
    yield 200 * (b - 0.45) ** 2  # a plate is averaged over


def dice(sampler, decoder, decoder_bias, encoder, encoder_bias, x):
    x = storch.denote_independent(x, 0, "pictures")
    logits = (x @ encoder + encoder_bias).reshape(-1, 10, 5)
    z = sampler(0)(OneHotCategorical(logits=logits))
    outputs = z.reshape(*z.shape[:-2], 50) @ decoder + decoder_bias
    divergence = (z * torch.log_softmax(logits, -1)).sum((-2, -1)) + 10 * np.log(5)
    yield divergence - (x * outputs - softplus(outputs)).sum(-1)


def coins(sampler, decoder, decoder_bias, encoder, encoder_bias, x):
    x = storch.denote_independent(x, 0, "pictures")
    logits = x @ encoder + encoder_bias
    b = sampler(0)(Bernoulli(logits=logits))
    outputs = b @ decoder + decoder_bias
    divergence = (b * logits - softplus(logits)).sum(-1) + 32 * np.log(2)
    yield divergence - (x * outputs - softplus(outputs)).sum(-1)


def walk(sampler, t):
    s = total = torch.zeros(())
    for i in range(100):
        b = sampler(i)(Bernoulli(logits=t[0] + t[1] * torch.tanh(s)))
        s = 0.5 * s + 2 * b - 1
        total = total + b * s
    yield total


def decisions(sampler, logits, moves, rewards):
    s, total = torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.zeros(())
    for i in range(20):
        a = sampler(2 * i)(OneHotCategorical(logits=s @ logits))
        chances = (s.unsqueeze(-1).unsqueeze(-1) * a.unsqueeze(-1).unsqueeze(-3) * moves).sum((-3, -2))
        total = total + ((s @ rewards) * a).sum(-1)
        s = sampler(2 * i + 1)(OneHotCategorical(probs=chances))
    yield total


def queue(sampler, t):
    waiting = total = torch.zeros(())
    rates = torch.exp(t[0] + t[1] * torch.sin(2 * np.pi * torch.arange(20) / 20))
    for i in range(20):
        rate = rates[i] + 0 * waiting  # or all samples would share their later arrivals
        waiting = torch.relu(waiting + sampler(i)(Poisson(rate)) - SERVED)
        total = total + waiting
    yield total


def subset(sampler, logits, features, target):
    chosen = torch.zeros(len(logits))
    for i in range(PICKED):
        chosen = chosen + sampler(i)(OneHotCategorical(logits=logits - REPEATED * chosen))
    yield ((target - chosen @ features) ** 2).sum(-1)


PROGRAMS: dict[str, tuple[Callable, bool, int]] = {
    "3 linked coins": (linked, True, 3),
    "200 coins apart": (apart, True, 1),
    "autoencoder of dice": (dice, False, 1),
    "autoencoder of coins": (coins, True, 1),
    "walk of 100 coins": (walk, True, 100),
    "20 decisions": (decisions, False, 40),
    "Poisson queue": (queue, False, 20),
    "3 of 8 items": (subset, False, 3),
}


def estimators(name: str, params: list, data: list) -> Iterator[tuple[str, Any]]:
    torch.set_num_threads(1)
    sys.setrecursionlimit(100_000)  # it walks its graph by calling itself
    program, flips, draws = PROGRAMS[name]
    fixed = [torch.tensor(array) for array in data]
    for label, make in methods(flips, draws, name == "Poisson queue"):
        if label == "Expect" and draws > 1 and name in OUTCOMES:
            yield f"Storchastic: {label}", f"not tried, {OUTCOMES[name]} outcomes at once"
        else:
            yield f"Storchastic: {label}", gradient(program, make, params, fixed)


def gradient(program: Callable, make: Callable[[], Sampler], params: list, fixed: list) -> Callable[[int], np.ndarray]:
    leaves = [torch.tensor(array, requires_grad=True) for array in params]

    def one(seed: int) -> np.ndarray:
        torch.manual_seed(seed)
        storch.reset()
        for leaf in leaves:
            leaf.grad = None
        for i, cost in enumerate(program(make(), *leaves, *fixed)):
            storch.add_cost(cost, f"cost {i}")
        storch.backward()
        return np.concatenate([leaf.grad.detach().numpy().ravel() for leaf in leaves])

    return one
