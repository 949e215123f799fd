"""Diffusers' schedulers that solve the probability flow, on every grid of times that they offer."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import diffusers
import numpy as np
import torch

Noise = Callable[[np.ndarray, float, float], np.ndarray]  # of points x / alpha scaled, alpha and sigma
GRIDS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")
SPACINGS = ("linspace", "trailing", "leading")
LINEAR = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


class Peer(NamedTuple):
    """A scheduler with its settings."""

    name: str
    make: Callable[[], Any]


class Outcome(NamedTuple):
    """Ends of some runs, with the points x / alpha and the ratio of noise to data that they came from."""

    ends: np.ndarray
    start: np.ndarray
    ratio: float
    evaluations: int


def peers() -> Iterator[Peer]:
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("DDIM", "DDIM", {"clip_sample": False}),
        ("PNDM", "PNDM", {"skip_prk_steps": True}),
        ("Euler", "EulerDiscrete", {}),
        ("Heun", "HeunDiscrete", {}),
        ("LMS", "LMSDiscrete", {}),
        ("KDPM2", "KDPM2Discrete", {}),
        ("DEIS-2", "DEISMultistep", {"solver_order": 2}),
        ("DEIS-3", "DEISMultistep", {"solver_order": 3}),
    ]
    for order in (2, 3):
        for algorithm in ("dpmsolver++", "dpmsolver"):
            told = {"solver_order": order, "algorithm_type": algorithm}
            if algorithm == "dpmsolver":
                told["final_sigmas_type"] = "sigma_min"
            kinds.append((f"{algorithm} {order}M", "DPMSolverMultistep", told))
            kinds.append((f"{algorithm} {order}S", "DPMSolverSinglestep", told))
        for form in ("bh1", "bh2"):
            kinds.append(
                (
                    f"UniPC-{order} {form}",
                    "UniPCMultistep",
                    {"solver_order": order, "solver_type": form},
                )
            )
    for name, of, told in kinds:
        kind = getattr(diffusers, f"{of}Scheduler")
        known = kind.__init__.__wrapped__.__code__.co_varnames if hasattr(kind.__init__, "__wrapped__") else ()
        grids = [{}] + [{grid: True} for grid in GRIDS if grid in known]
        for grid in grids:
            for spacing in SPACINGS if not grid else ("linspace",):
                settings = {**LINEAR, **told, **grid}
                if "timestep_spacing" in known:
                    settings["timestep_spacing"] = spacing
                elif spacing != "linspace":
                    continue
                label = " ".join(
                    [name, *(g.removeprefix("use_").replace("_", " ") for g in grid), spacing if not grid else ""]
                )
                yield Peer(label.strip(), lambda kind=kind, settings=settings: kind(**settings))


def run(peer: Peer, noise: Noise, draws: np.ndarray, budget: int) -> Outcome | None:
    """From standard normal draws, with as many evaluations of the noise as a budget; None where it cannot."""
    for steps in (budget, budget + 1, (budget + 1) // 2, budget // 2 + 1):
        scheduler = peer.make()
        scheduler.set_timesteps(steps)
        if len(scheduler.timesteps) == budget:
            break
    else:
        return None
    times = scheduler.timesteps
    x = torch.from_numpy(draws.astype(np.float32)) * scheduler.init_noise_sigma
    bars = scheduler.alphas_cumprod.numpy()
    exploding = float(scheduler.init_noise_sigma) != 1.0
    if exploding:
        ratio = float(scheduler.sigmas[0])
        start = x.numpy().astype(np.float64)
    else:
        first = float(scheduler.sigmas[0]) if hasattr(scheduler, "sigmas") else None
        bar = bars[int(times[0])]
        ratio = first if first is not None else float(np.sqrt((1 - bar) / bar))
        start = x.numpy().astype(np.float64) * np.sqrt(1 + ratio**2)
    for t in times:
        scaled = scheduler.scale_model_input(x, t).numpy()
        bar = float(np.interp(float(t), np.arange(1000), np.log(bars)))
        alpha = np.exp(0.5 * bar)
        found = noise(scaled, alpha, np.sqrt(-np.expm1(bar)))
        x = scheduler.step(torch.from_numpy(np.array(found)), t, x, return_dict=False)[0]
    return Outcome(x.numpy().astype(np.float64), start, ratio, budget)
