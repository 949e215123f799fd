"""The claims of papers on schedules of diffusion models, and on samplers that are fitted to a model."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from claim import Claim
from diffusion_measures import (
    PROBLEMS,
    PROCESS,
    SHORT,
    Ratio,
    Reached,
    best,
    everywhere,
    grids,
    judged,
    misses,
    nearer,
    reached,
    told,
)

from variate.diffusion import DDIM, DPMSolverPP, UniPC, beta, fit, fit_compensation, fit_schedule, uniform

FITTED = 64  # trajectories
NAMES = [name for name in PROBLEMS if not name.startswith("digits,")]  # where a fit would take minutes


def rival(to: Reached, solver: Any, budget: int) -> Any:
    """The grid of times that is best for a solver by formula."""
    return min((times for _, times in grids(budget)), key=lambda times: misses(to, solver, times).rms)


def fitted(to: Reached, solver: Any, times: Any, count: int) -> Any:
    return fit(jax.random.key(1), to.model, solver, times, (min(FITTED, count), *to.start.shape[1:]))


def at_budgets(
    of: Callable[[Reached, int], Ratio], budgets: Sequence[int], count: int, unit: str, scale: float = 1.0
) -> tuple[str, dict[str, bool]]:
    """A comparison on each problem, for each number of evaluations: in words, and where it is for the better."""
    found = {budget: everywhere(lambda to, budget=budget: of(to, budget), count, NAMES, scale) for budget in budgets}
    words = "; ".join(f"{budget} {unit}: {told(ratios.items())}" for budget, ratios in found.items())
    return words, {f"{name} at {budget}": one.more for budget, ratios in found.items() for name, one in ratios.items()}


def integration_approximation(count: int) -> Claim:
    def ratio(to: Reached, budget: int) -> Ratio:
        times = rival(to, DDIM(), budget)
        return nearer(misses(to, fitted(to, DDIM(), times, count), times), misses(to, DDIM(), times))

    words, outcomes = at_budgets(ratio, (5, 10), count, "evaluations")
    return judged(
        "Zhang, Niwa and Kleijn (2024), integration approximation",
        "coefficients fitted to fine runs are considerably better below 25 evaluations (for DDIM too)",
        f"DDIM on its best grid, fitted to {FITTED} trajectories; times less rms distance of others from the exact "
        f"ends than unfitted; {words}",
        outcomes,
    )


def compensation(count: int) -> Claim:
    def ratio(to: Reached, budget: int) -> Ratio:
        times, shape = rival(to, UniPC(2), budget), (min(16, count), *to.start.shape[1:])
        made = fit_compensation(jax.random.key(1), to.model, UniPC(2), times, shape)
        return nearer(misses(to, made, times), misses(to, UniPC(2), times))

    rows, outcomes = [], {}
    for scale in (1.0, 7.5):
        words, found = at_budgets(ratio, (5, 10), count, "evaluations", scale)
        rows.append(f"guidance {scale:g}, {words}")
        outcomes |= {f"{name} with {scale:g}": holds for name, holds in found.items()}
    return judged(
        "Zhao, Wang, Zhou and Lu (2024), DC-Solver",
        "ratios that are learned on ten data points improve UniPC consistently, most under guidance (FID 10.38 at 5 "
        "evaluations on FFHQ)",
        "UniPC-2 on its best grid, ratios fitted to the ends of 16 trajectories; times less rms distance of others "
        f"from the exact ends than UniPC-2's; {'; '.join(rows)}",
        outcomes,
        "all ratios at once, by the ends, which is not the paper's way to them",
    )


def bespoke(count: int) -> Claim:
    rows, outcomes = [], {}
    for name in NAMES:
        to = reached(name, count)
        times = rival(to, DPMSolverPP(), 20)
        found, spread = misses(to, fitted(to, DPMSolverPP(), times, count), times), float(np.std(to.ends))
        rows.append((SHORT[name], f"{100 * found.rms / spread:.2g} ± {100 * found.error / spread:.1g}%"))
        outcomes[SHORT[name]] = found.rms + 3 * found.error < 0.01 * spread
    return judged(
        "Shaul et al. (2024), bespoke solvers",
        "a solver fitted to its model is within 1% of the ground truth at 20 evaluations",
        f"DPM-Solver++(2M) on its best grid, fitted with its times to {FITTED} trajectories, 20 evaluations; rms "
        f"distance of others from the exact ends, of the standard deviation of these: {told(rows)}",
        outcomes,
        "of distances, where the paper means FID",
    )


def align_your_steps(count: int) -> Claim:
    def ratio(to: Reached, budget: int) -> Ratio:
        times, shape = rival(to, DPMSolverPP(), budget), (min(FITTED, count), *to.start.shape[1:])
        aligned = fit_schedule(jax.random.key(1), to.model, DPMSolverPP(), times, shape)
        return nearer(misses(to, DPMSolverPP(), aligned), misses(to, DPMSolverPP(), times))

    words, outcomes = at_budgets(ratio, (6, 10), count, "steps")
    return judged(
        "Sabour, Fidler and Kreis (2024), Align your steps",
        "optimized schedules beat those made by hand in almost all cases, at few steps most",
        "DPM-Solver++(2M), the best of seven grids against times fitted from there to the ends of "
        f"{FITTED} trajectories; times less rms distance of others from the exact ends; {words}",
        outcomes,
        "by another objective than the paper's",
    )


def beta_schedule(count: int) -> Claim:
    rows, outcomes = [], {}
    for kind, solver in (("DDIM", DDIM()), ("DPM-Solver++(2M)", DPMSolverPP())):

        def both(to: Reached, solver: Any = solver) -> Any:
            ours, even = (misses(to, solver, grid(PROCESS, 20, end=0.0)) for grid in (beta, uniform))
            return nearer(ours, even)

        def hand(to: Reached, solver: Any = solver) -> Any:
            half = len(to.start) // 2
            rest = Reached(to.model, to.start[half:], to.ends[half:])
            return nearer(misses(rest, solver, beta(PROCESS, 20, end=0.0)), best(to, solver, 20))

        found, others = everywhere(both, count), everywhere(hand, count)
        rows.append(f"{kind}: {told(found.items())} (best grid: {told(others.items())})")
        outcomes |= {f"{kind} on {name}": ratio.more for name, ratio in found.items()}
    return judged(
        "Lee et al. (2024), Beta sampling",
        "times at quantiles of a beta distribution are consistently better than uniform ones",
        "20 steps, a = b = 0.6; times less rms distance from the exact ends than with uniform times (and than with the "
        f"best of seven grids); {'; '.join(rows)}",
        outcomes,
    )


CLAIMS = (integration_approximation, compensation, bespoke, align_your_steps, beta_schedule)
