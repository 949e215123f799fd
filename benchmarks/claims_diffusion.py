"""The claims of papers on solvers of the probability flow of diffusion models.

Each is measured by how far draws are from the exact ends of the flow that starts where they did.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from claim import Claim
from diffusion_measures import (
    PROBLEMS,
    PROCESS,
    SHORT,
    Law,
    Ratio,
    Reached,
    best,
    best_of,
    everywhere,
    judged,
    lower,
    misses,
    nearer,
    reached,
    told,
)

import variate as vt
from variate.demo import digit_denoiser
from variate.diffusion import (
    DDIM,
    DEIS,
    AcceleratedDDIM,
    ConjugateDDIM,
    DPMSolver,
    DPMSolverPP,
    DPMSolverSinglestep,
    DynamicThreshold,
    Genie,
    Heun,
    StaticThreshold,
    UniPC,
    edm,
    uniform_log_snr,
)

AT_BEST = "rms distance from the exact ends, each on its best grid of times"
NETWORK = "digits' network"
RATES = (-3.0, -1.0, -0.3, 0.3, 1.0, 3.0)  # of conjugate integrators, per unit of time


def against(ours: Any, other: Any, budget: int, count: int, each: int = 1, others: int = 1) -> dict[str, Ratio]:
    """How many times nearer one solver is than another, at equal evaluations, on each problem."""

    def ratio(to: Reached) -> Ratio:
        return nearer(best(to, ours, budget, each), best(to, other, budget, others))

    return everywhere(ratio, count)


def more(ratios: dict[str, Ratio]) -> dict[str, bool]:
    return {name: one.more for name, one in ratios.items()}


def deis(count: int) -> Claim:
    ratios = against(DEIS(3), DDIM(), 10, count)
    return judged(
        "Zhang and Chen (2023), DEIS",
        "ten evaluations are enough without training (FID 4.17 on CIFAR-10), where DDIM's are not",
        f"three predictions, 10 evaluations; {AT_BEST}; times less than DDIM's: {told(ratios.items())}",
        more(ratios),
    )


class Pair(NamedTuple):
    """A solver and its rival, which takes one evaluation a step."""

    ours: Any
    other: Any
    each: int = 1  # evaluations that a step of ours takes


def compared(pairs: dict[str, Pair], budget: int, count: int) -> tuple[str, dict[str, bool]]:
    """How many times nearer solvers are than their rivals on each problem, in words, and where they are for sure."""
    found = {kind: against(one.ours, one.other, budget, count, one.each) for kind, one in pairs.items()}
    words = "; ".join(f"{kind}: {told(ratios.items())}" for kind, ratios in found.items())
    return words, {f"{kind} on {name}": one.more for kind, ratios in found.items() for name, one in ratios.items()}


def dpm_solver(count: int) -> Claim:
    pairs = {
        "DPM-Solver-3": Pair(DPMSolverSinglestep(3), DDIM(), each=3),
        "DPM-Solver(2M)": Pair(DPMSolver(2), DDIM()),
    }
    said, outcomes = compared(pairs, 12, count)
    return judged(
        "Lu et al. (2022), DPM-Solver",
        "high quality in 10 to 20 evaluations, ahead of the training-free samplers before it",
        f"12 evaluations; {AT_BEST}; times less than DDIM's, {said}",
        outcomes,
    )


def dpm_solver_pp(count: int) -> Claim:
    others = {
        "DPM-Solver(2M)'s": (DPMSolver(2), 1),
        "DPM-Solver-3's": (DPMSolverSinglestep(3), 3),
        "DDIM's": (DDIM(), 1),
    }
    rows, outcomes = [], {}
    for name in [name for name in PROBLEMS if not name.startswith("digits,")]:  # where exact ends would take minutes
        to, short = reached(name, count, 7.5), SHORT[name]
        ours = best(to, DPMSolverPP(2), 20)
        ratios = {kind: nearer(ours, best(to, solver, 20, each)) for kind, (solver, each) in others.items()}
        rows.append(f"{short} {ours}, and times that {told(ratios.items())}")
        outcomes |= {f"than {kind} on {short}": ratio.more for kind, ratio in ratios.items()}
    return judged(
        "Lu et al. (2022), DPM-Solver++",
        "under large guidance, where high orders for noise are not stable, high quality in 15 to 20 steps",
        f"2M, guidance 7.5, 20 evaluations; {AT_BEST}: {'; '.join(rows)}",
        outcomes,
    )


def thresholds(count: int) -> Claim:
    to, times = reached(NETWORK, count, 7.5), edm(PROCESS, 15, end=0.01)
    images, labels = digit_denoiser.digits()
    law = Law(to.model, np.asarray(images, np.float64)[np.asarray(labels) == 3])
    kinds = {"none": to.model, "static": StaticThreshold(to.model), "dynamic": DynamicThreshold(to.model)}
    shape = (count, 64)
    draws = {
        kind: np.asarray(vt.diffusion.sample(jax.random.key(0), model, DPMSolverPP(), times, shape).values)
        for kind, model in kinds.items()
    }
    outside = [(kind, f"{np.sqrt(np.mean(np.maximum(np.abs(x) - 1, 0) ** 2)):.2g}") for kind, x in draws.items()]
    far = {kind: law.far(x) for kind, x in draws.items()}
    return judged(
        "Saharia et al. (2022), thresholds",
        "predicted data that are cut off mend what large guidance leads out of the range of data",
        "threes by the network at guidance 7.5, DPM-Solver++(2M), 15 evaluations; rms distance of pixels from the "
        f"range of ink: {told(outside)}; sliced Wasserstein distance from the threes of the data: {told(far.items())}",
        {kind: lower(far[kind], far["none"]) for kind in ("static", "dynamic")},
        "nothing is out of range by construction, as the last step ends with the prediction",
    )


def unipc(count: int) -> Claim:
    pairs = {"UniPC-2": Pair(UniPC(2), DPMSolverPP(2)), "UniPC-3": Pair(UniPC(3), DPMSolverPP(3))}
    said, outcomes = compared(pairs, 10, count)
    return judged(
        "Zhao et al. (2023), UniPC",
        "nearer than DPM-Solver++ at ten evaluations (FID 3.87 on CIFAR-10)",
        f"10 evaluations; {AT_BEST}; times less than that of DPM-Solver++ of as many predictions, {said}",
        outcomes,
    )


def conjugate(count: int) -> Claim:
    rows, outcomes = [], {}
    for budget in (5, 10, 50):

        def ratio(to: Reached, budget: int = budget) -> Ratio:
            rates = [ConjugateDDIM(rate) for rate in RATES]
            return nearer(best_of(to, rates, budget), best(to, DDIM(), budget))

        found = everywhere(ratio, count)
        rows.append(f"{budget} evaluations: {told(found.items())}")
        outcomes |= {f"{name} at {budget}": one.more for name, one in found.items()}
    return judged(
        "Pandey, Rudolph and Mandt (2024), conjugate integrators",
        "a change of variables before Euler's step, of which DDIM's is one, is better at few evaluations with a rate "
        "that was tuned (with splitting, FID 2.11 at 100 on CIFAR-10, 2.57 the best before)",
        f"the best of {len(RATES)} rates from {RATES[0]:g} to {RATES[-1]:g}; {AT_BEST}; times less than DDIM's, "
        f"{'; '.join(rows)}",
        outcomes,
        "of the data alone, where the paper has velocities too",
    )


def genie(count: int) -> Claim:
    others = {"DDIM's": DDIM(), "DPM-Solver++(2M)'s": DPMSolverPP(2), "UniPC-2's": UniPC(2)}
    rows, outcomes = [], {}
    for cost, budget in (("equal evaluations", 10), ("its derivative counted too", 5)):
        for kind, other in others.items():

            def ratio(to: Reached, other: Any = other, budget: int = budget) -> Ratio:
                return nearer(best(to, Genie(), budget), best(to, other, 10))

            found = everywhere(ratio, count)
            rows.append(f"than {kind}, {cost}: {told(found.items())}")
            outcomes[f"than {kind}, {cost}"] = all(one.more for one in found.values())
    return judged(
        "Dockhorn, Vahdat and Kreis (2022), GENIE",
        "of second order, and outperforms all previous solvers",
        f"10 evaluations of the others; {AT_BEST}; times less, {'; '.join(rows)}",
        outcomes,
        "everywhere at once, by the derivative itself, not a network's",
    )


def heun(count: int) -> Claim:
    found = {
        kind: against(Heun(), other, 35, count, each=2) for kind, other in (("DDIM", DDIM()), ("2M", DPMSolverPP(2)))
    }
    return judged(
        "Karras et al. (2022), EDM",
        "Heun's method has the better trade of evaluations for quality (FID 1.97 at 35 on CIFAR-10)",
        f"35 evaluations; {AT_BEST}; times less, "
        + "; ".join(f"than {kind}'s: {told(ratios.items())}" for kind, ratios in found.items()),
        more(found["DDIM"]),
        "beside Euler's method, which was meant; multistep solvers are later",
    )


STEPS = (20, 40, 80, 160)


def slope(name: str, solver: Any, count: int) -> tuple[float, float]:
    """The order of convergence to the end of the flow at the cutoff, and its error by leaving out draws in turn.

    Of a typical draw: the few that change modes, fewer the finer the steps, would add half an order to a mean square.
    """
    to = reached(name, count)
    times = np.array([PROCESS.horizon, PROCESS.cutoff])
    start = jnp.asarray(to.start, jnp.float64)
    ends = np.asarray(vt.diffusion.exact_ends(to.model, start, times, tolerance=1e-9).values)
    exact, logs = Reached(to.model, to.start, ends), np.log(STEPS)
    found = [misses(exact, solver, uniform_log_snr(PROCESS, steps)).squares for steps in STEPS]
    groups = np.array_split(np.arange(len(start)), 10)

    def fitted(rows: np.ndarray) -> float:
        return -float(np.polyfit(logs, [0.5 * np.mean(np.log(squares[rows])) for squares in found], 1)[0])

    rest = [fitted(np.setdiff1d(np.arange(len(start)), group)) for group in groups]
    return fitted(np.arange(len(start))), float(np.sqrt((len(groups) - 1) * np.var(rest)))


def orders(kinds: dict[str, tuple[Any, float]], count: int, names: tuple[str, ...]) -> tuple[str, dict[str, bool]]:
    """What orders were found, and whether each is at least what is claimed of it."""
    rows, outcomes = [], {}
    for name in names:
        for kind, (solver, order) in kinds.items():
            value, error = slope(name, solver, count)
            rows.append(f"{kind} {value:.2f} ± {error:.1g} on {SHORT[name]}")
            outcomes[f"{kind} on {SHORT[name]}"] = value > order - max(3 * error, 0.2)
    return ", ".join(rows), outcomes


def smooth() -> tuple[str, ...]:
    return tuple(PROBLEMS)[:2]


def accelerated(count: int) -> Claim:
    said, outcomes = orders({"accelerated": (AcceleratedDDIM(), 2.0), "DDIM": (DDIM(), 1.0)}, count, smooth())
    return judged(
        "Li et al. (2024), accelerated DDIM",
        "errors fall with the square of the number of steps, DDIM's with the number",
        f"{STEPS[0]} to {STEPS[-1]} steps equal in the log of the ratio of signal to noise, slopes of the geometric "
        f"mean of distances from the exact ends at the cutoff: {said}",
        outcomes,
        "of draws, where the paper means laws",
    )


def corrector(count: int) -> Claim:
    kinds = {
        "DPM-Solver++(2M)": (DPMSolverPP(2), 2.0),
        "UniPC-2": (UniPC(2), 3.0),
        "GENIE": (Genie(), 2.0),
    }
    said, outcomes = orders(kinds, count, smooth())
    return judged(
        "Zhao et al. (2023), UniC",
        "a corrector raises the order by one at no evaluation",
        f"slopes as for accelerated DDIM: {said}",
        {name: holds for name, holds in outcomes.items() if name.startswith("UniPC")},
    )


CLAIMS = (deis, dpm_solver, dpm_solver_pp, thresholds, unipc, conjugate, corrector, genie, heun, accelerated)
