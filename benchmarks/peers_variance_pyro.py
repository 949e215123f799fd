"""The problems in Pyro: the expected cost as an ELBO whose model draws from the guide, held fixed."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from peers_variance import OUTCOMES, SAMPLES
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO
from torch.nn.functional import one_hot

PICKED, REPEATED, SERVED = 3, 20.0, 3.0
BASELINE = {"baseline": {"use_decaying_avg_baseline": True}}


def linked(run, logits):
    a = run.draw("a", dist.Bernoulli(logits=logits[0]))
    b = run.draw("b", dist.Bernoulli(logits=logits[1] + a))
    c = run.draw("c", dist.Bernoulli(logits=logits[2] - b))
    run.cost("cost", (a + b + c - 1.5) ** 2)


def apart(run, logits):
    with pyro.plate("coins", 200):
        b = run.draw("b", dist.Bernoulli(logits=logits))
        run.cost("cost", (b - 0.45) ** 2)


def dice(run, decoder, decoder_bias, encoder, encoder_bias, x):
    with pyro.plate("pictures", len(x)), pyro.poutine.scale(scale=1 / len(x)):
        logits = (x @ encoder + encoder_bias).reshape(-1, 10, 5)
        q, prior = dist.Categorical(logits=logits).to_event(1), dist.Categorical(logits=torch.zeros(10, 5)).to_event(1)
        code = one_hot(run.draw("z", q, prior), 5).float().flatten(-2)
        if run.model:
            pyro.sample("x", dist.Bernoulli(logits=code @ decoder + decoder_bias).to_event(1), obs=x)


def coins(run, decoder, decoder_bias, encoder, encoder_bias, x):
    with pyro.plate("pictures", len(x)), pyro.poutine.scale(scale=1 / len(x)):
        q, prior = dist.Bernoulli(logits=x @ encoder + encoder_bias), dist.Bernoulli(logits=torch.zeros(32))
        b = run.draw("b", q.to_event(1), prior.to_event(1))
        if run.model:
            pyro.sample("x", dist.Bernoulli(logits=b @ decoder + decoder_bias).to_event(1), obs=x)


def walk(run, t):
    s = torch.zeros(())
    for i in range(100):
        b = run.draw(f"b{i}", dist.Bernoulli(logits=t[0] + t[1] * torch.tanh(s)))
        s = 0.5 * s + 2 * b - 1
        run.cost(f"cost {i}", b * s)


def decisions(run, logits, moves, rewards):
    s = torch.zeros((), dtype=torch.long)
    for i in range(20):
        a = run.draw(f"a{i}", dist.Categorical(logits=logits[s]))
        run.cost(f"cost {i}", rewards[s, a])
        s = run.draw(f"s{i}", dist.Categorical(probs=moves[s, a]))


def queue(run, t):
    waiting = torch.zeros(())
    rates = torch.exp(t[0] + t[1] * torch.sin(2 * np.pi * torch.arange(20) / 20))
    for i in range(20):
        waiting = torch.relu(waiting + run.draw(f"arrivals {i}", dist.Poisson(rates[i])) - SERVED)
        run.cost(f"cost {i}", waiting)


def subset(run, logits, features, target):
    chosen = torch.zeros(len(logits))
    for i in range(PICKED):
        pick = run.draw(f"pick {i}", dist.Categorical(logits=logits - REPEATED * chosen))
        chosen = chosen + one_hot(pick, len(logits))
    run.cost("cost", ((target - chosen @ features) ** 2).sum(-1))


PROGRAMS: dict[str, Callable] = {
    "3 linked coins": linked,
    "200 coins apart": apart,
    "autoencoder of dice": dice,
    "autoencoder of coins": coins,
    "walk of 100 coins": walk,
    "20 decisions": decisions,
    "Poisson queue": queue,
    "3 of 8 items": subset,
}


class Run:
    """A run as guide or as model."""

    def __init__(self, model: bool, infer: dict[str, Any]):
        self.model, self.infer = model, infer

    def draw(self, name: str, distribution: Any, prior: Any = None) -> torch.Tensor:
        if not self.model:
            return pyro.sample(name, distribution, infer=self.infer)
        if prior is None:
            prior = held(distribution)
        return pyro.sample(name, prior)

    def cost(self, name: str, value: torch.Tensor) -> None:
        if self.model:
            pyro.factor(name, -value)


def held(distribution: Any) -> Any:
    """The same with fixed parameters, so that log p - log q is zero and has no derivative but that of q."""
    name = next(iter(distribution.arg_constraints)) if isinstance(distribution, dist.Poisson) else "logits"
    return type(distribution)(**{name: getattr(distribution, name).detach()})


def estimators(name: str, params: list, data: list) -> Iterator[tuple[str, Any]]:
    torch.set_num_threads(1)
    pyro.enable_validation(False)
    plates = 1 if PROGRAMS[name] in (apart, dice, coins) else 0
    options = {"num_particles": SAMPLES, "vectorize_particles": True, "max_plate_nesting": plates}
    fixed = [torch.tensor(array) for array in data]
    for label, elbo, infer in (
        ("Trace_ELBO", Trace_ELBO, {}),
        ("TraceGraph_ELBO", TraceGraph_ELBO, {}),
        ("TraceGraph_ELBO, decaying average", TraceGraph_ELBO, BASELINE),
    ):
        yield f"Pyro: {label}", gradient(PROGRAMS[name], elbo(**options), infer, params, fixed)
    enumerated, label = TraceEnum_ELBO(max_plate_nesting=plates), "Pyro: TraceEnum_ELBO"
    if name in OUTCOMES:
        yield label, f"not tried, {OUTCOMES[name]} outcomes at once"
    else:
        yield label, gradient(PROGRAMS[name], enumerated, {"enumerate": "parallel"}, params, fixed)


def gradient(program: Callable, elbo: Any, infer: dict, params: list, fixed: list) -> Callable[[int], np.ndarray]:
    pyro.clear_param_store()
    arrays = [torch.tensor(array) for array in params]

    def run(side: Run) -> None:
        program(side, *(pyro.param(f"parameter {i}", array) for i, array in enumerate(arrays)), *fixed)

    def guide() -> None:
        run(Run(False, infer))

    def model() -> None:
        run(Run(True, {}))

    def one(seed: int) -> np.ndarray:
        pyro.set_rng_seed(seed)
        leaves = [pyro.param(f"parameter {i}", array) for i, array in enumerate(arrays)]
        for leaf in leaves:
            leaf.grad = None
        elbo.loss_and_grads(model, guide)
        return np.concatenate([leaf.grad.numpy().ravel() for leaf in leaves])

    return one
