"""The digits autoencoder with the same estimator written by hand in PyTorch, and the toy in Storchastic."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from programs import RATE
from torch.nn.functional import binary_cross_entropy_with_logits, softplus


def autoencoder(params: Any, x: Any, samples: int) -> Callable[[], float]:
    """A step on copies of these arrays; it returns the value."""
    torch.set_num_threads(1)

    def parameter(array: Any) -> torch.Tensor:
        return torch.tensor(np.asarray(array), requires_grad=True)

    encoder = {name: parameter(array) for name, array in params["encoder"].items()}
    decoder = {name: parameter(array) for name, array in params["decoder"].items()}
    prior, data = parameter(params["prior"]), torch.tensor(np.asarray(x))
    target = data.expand(samples, *data.shape)
    all_parameters = [*encoder.values(), *decoder.values(), prior]

    def bernoulli(logits: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (b * logits - softplus(logits)).sum((-2, -1))

    def step() -> float:
        logits = torch.addmm(encoder["b"], data, encoder["w"])
        with torch.no_grad():
            b = torch.bernoulli(torch.sigmoid(logits).expand(samples, *logits.shape))
        log_q = bernoulli(logits, b)
        outputs = b @ decoder["w"] + decoder["b"]
        misfit = binary_cross_entropy_with_logits(outputs, target, reduction="none").sum((-2, -1))
        costs = (log_q - bernoulli(prior, b) + misfit) / data.shape[0]
        fixed = costs.detach()
        advantages = fixed - (fixed.sum() - fixed) / (samples - 1)
        (costs + advantages * log_q).mean().backward()
        with torch.no_grad():
            for tensor in all_parameters:
                tensor -= RATE * tensor.grad
                tensor.grad = None
        return float(fixed.mean())

    return step


def toy(params: Any, samples: int) -> Callable[[], float]:
    """Three linked Bernoullis: the first `samples` times, the others once for each, or the cost would be cubed."""
    import storch
    from storch.method import ScoreFunction

    torch.set_num_threads(1)
    logits = torch.tensor(np.asarray(params), requires_grad=True)
    first = ScoreFunction("a", n_samples=samples, baseline_factory="batch_average")
    second, third = ScoreFunction("b", n_samples=1), ScoreFunction("c", n_samples=1)

    def step() -> float:
        a = first(torch.distributions.Bernoulli(logits=logits[0]))
        b = second(torch.distributions.Bernoulli(logits=logits[1] + a))
        c = third(torch.distributions.Bernoulli(logits=logits[2] - b))
        storch.add_cost((a + b + c - 1.5) ** 2, "cost")
        value = storch.backward()
        with torch.no_grad():
            logits.sub_(RATE * logits.grad)
            logits.grad = None
        return float(value.detach())

    return step
