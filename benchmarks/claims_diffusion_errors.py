"""The claims of papers on what mends the errors of a network while it is drawn from, at no evaluation.

What may be chosen, as factors of epsilon scaling are, is chosen on the draws that it is judged by.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from claim import Claim
from claims_diffusion_noise import OFF, timed
from diffusion_measures import Distance, Law, judged, law, lower

from variate.diffusion import DDIM, DEIS, Ancestral, DPMSolver, DPMSolverPP, DualFast, TimeShifted

NETWORK, TEN = "digits' network", "10 normals, 32-D"
STRENGTHS = (0.02, 0.05, 0.1, 0.2, 0.4)  # at the end: there is none at first, where the network is hardly wrong
WINDOWS, CUTOFF = (0.05, 0.1, 0.2, 0.4), 0.3


def lessened(of: Callable[[Any], Distance], choices: Iterable[tuple[str, Any]]) -> tuple[str, Distance]:
    """The least of some distances, and of which choice it is."""
    return min(((name, of(choice)) for name, choice in choices), key=lambda one: one[1].value)


def at_best(one: Law, solver: Any, steps: int, count: int) -> Distance:
    return min((one.of(count, solver, times) for times in timed(steps)), key=lambda far: far.value)


def grown(strength: float) -> Callable[[float], float]:
    return lambda time: strength * (1 - time)


def dual_fast(count: int) -> Claim:
    solvers = {"DDIM": DDIM(), "DPM-Solver(2M)": DPMSolver(2), "DPM-Solver++(2M)": DPMSolverPP()}
    rows, outcomes = [], {}
    for steps in (5, 10):
        for short, one in (("network", law(NETWORK)), ("imperfect 10 normals", law(TEN, OFF))):
            found = []
            for kind, solver in solvers.items():
                plain = at_best(one, solver, steps, count)
                choices = [(f"{c:g}", DualFast(solver, grown(c))) for c in STRENGTHS]
                which, led = lessened(lambda made, one=one, steps=steps: at_best(one, made, steps, count), choices)
                found.append(f"{kind} {plain}, with it {led} at {which}")
                outcomes[f"{kind} on {short} at {steps}"] = lower(led, plain)
            rows.append(f"{short} at {steps}: {', '.join(found)}")
    return judged(
        "Yu, Luo, Wang and Zhao (2025), DualFast",
        "makes existing solvers better at no evaluation, most at extremely few steps",
        f"strength growing to the best of {len(STRENGTHS)} numbers from {STRENGTHS[0]:g} to {STRENGTHS[-1]:g}; sliced "
        f"Wasserstein distance from the law, each on its best grid of times; {'; '.join(rows)}",
        outcomes,
    )


def time_shifted(count: int) -> Claim:
    one = law(NETWORK)
    spread = float(np.mean(np.var(one.right, axis=1, ddof=1)))
    solvers = {"DDIM": DDIM(), "DEIS-3": DEIS(3), "ancestral": Ancestral(1.0)}
    rows, outcomes = [], {}
    for steps in (10, 50):
        found = []
        for kind, solver in solvers.items():
            plain = at_best(one, solver, steps, count)
            choices = [
                (f"{window:g}, v = {v:.2g}", TimeShifted(one.model, window, CUTOFF, v))
                for window in WINDOWS
                for v in (0.0, spread)
            ]

            def of(model: Any, solver: Any = solver, steps: int = steps) -> Distance:
                return at_best(Law(model, one.right), solver, steps, count)

            which, shifted = lessened(of, choices)
            found.append(f"{kind} {plain}, shifted {shifted} (window {which})")
            outcomes[f"{kind} at {steps}"] = lower(shifted, plain)
        rows.append(f"{steps} steps: {', '.join(found)}")
    return judged(
        "Li, Qu, Yao, Sun and Moens (2024), Time-Shift sampler",
        "brings DDIM, DDPM and solvers of high order nearer to the data without training (FID 3.88 in 10 steps on "
        "CIFAR-10, by 44.49%)",
        f"the network, from time {CUTOFF:g} on without shifts; sliced Wasserstein distance from the digits that it "
        f"learned, each on its best grid of times, the best of {len(WINDOWS)} windows and of the variance v of the "
        f"data, taken as 0 as in the paper or as it is; {'; '.join(rows)}",
        outcomes,
    )


CLAIMS = (dual_fast, time_shifted)
