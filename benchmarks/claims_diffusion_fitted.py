"""The claims of papers on schedules of diffusion models, and on samplers that are fitted to a model."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from claim import Claim
from diffusion_measures import (
    PROBLEMS,
    PROCESS,
    SHORT,
    Distance,
    Ratio,
    Reached,
    best,
    best_of,
    everywhere,
    grids,
    judged,
    law,
    lower,
    misses,
    nearer,
    reached,
    told,
)
from scipy.spatial.distance import cdist

from variate.demo import digit_denoiser
from variate.diffusion import (
    DDIM,
    DEIS,
    DPMSolver,
    DPMSolverPP,
    UniPC,
    beta,
    fit,
    fit_compensation,
    fit_schedule,
    fit_transport,
    sample,
    search,
    uniform,
    uniform_log_snr,
)

FITTED, SEARCHED = 64, 256  # trajectories
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


def solver_search(count: int) -> Claim:
    formulas = [kind(order) for kind in (DPMSolverPP, DPMSolver, UniPC, DEIS) for order in (2, 3)]

    def ratio(to: Reached, budget: int) -> Ratio:
        half, shape = len(to.start) // 2, (min(SEARCHED, count), *to.start.shape[1:])
        found = search(jax.random.key(1), to.model, budget, shape, candidates=min(4_000, 40 * count))
        rest = Reached(to.model, to.start[half:], to.ends[half:])
        return nearer(misses(rest, found, found.times), best_of(to, formulas, budget))

    words, outcomes = at_budgets(ratio, (5, 10), count, "evaluations")
    return judged(
        "Liu et al. (2024), USF and S3",
        "a solver schedule that is searched for is far ahead of those by hand (FID 2.69 at 10 and 6.86 at 5 "
        "evaluations on CIFAR-10)",
        f"4,000 candidates, judged by {SEARCHED} trajectories; times less rms distance of others from the exact ends "
        f"than the best of eight formulas (DPM-Solver++, DPM-Solver, UniPC and DEIS) on seven grids; {words}",
        outcomes,
        "by distances from exact ends, where the paper searches by FID",
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


def between_modes(name: str, values: Any) -> Distance:
    """The share of draws that are beyond four standard deviations of all of 25 normals; of images, the share of the
    ten nearest digits that are not of the commonest kind among them."""
    values = np.asarray(values, np.float64)
    if name.startswith("25"):
        means = np.stack(np.meshgrid(range(-2, 3), range(-2, 3)), -1).reshape(25, 2) * 0.7
        each = np.min(cdist(values, means), axis=1) > 0.4
    else:
        images, labels = (np.asarray(x) for x in digit_denoiser.digits())
        far = cdist(values, images)
        nearest = labels[np.argsort(np.where(far > 1e-6, far, np.inf), axis=1)[:, :10]].astype(int)
        each = 1 - np.array([np.max(np.bincount(row)) for row in nearest]) / 10
    return Distance(float(np.mean(each)), float(np.std(each) / len(each) ** 0.5))


def transport(count: int) -> Claim:
    """Ten evaluations, from white noise and from a middle time: of transported noise, and of rows with fresh noise."""
    rng, words, outcomes = np.random.default_rng(16), [], {}
    for name, much in (("25 normals, 2-D", 1_000), ("digits' network", 1_797)):
        one = law(name)
        rows = one.right[rng.permutation(len(one.right))[: min(much, 10 * count)]]
        noise, others = (jnp.asarray(rng.normal(size=(count, rows.shape[1])), jnp.float32) for _ in range(2))

        def ends(time: float, start: Any, model: Any = one.model) -> Any:
            times = np.append(uniform_log_snr(PROCESS, 9, start=time, end=0.01), 0.0)
            run = sample(jax.random.key(0), model, DPMSolverPP(), times, start.shape, start=start, dtype=jnp.float32)
            return run.values

        found, steps = {"white noise": ends(1.0, noise)}, []
        for time in (0.1, 0.3):
            fitted = fit_transport(jax.random.key(17), PROCESS, rows, time, steps=10 * count)
            made = found[f"transported to {time:g}"] = ends(time, fitted(noise))
            own = np.mean(np.argmin(cdist(made, rows), axis=1) == np.asarray(fitted.cells(noise)))
            steps.append(f"to {time:g} in {fitted.steps:,} steps, its own row the nearest for {own:.0%} of the draws")
            level, chosen = PROCESS.level(time), rows[rng.integers(len(rows), size=count)]
            start = float(level.alpha) * jnp.asarray(chosen, jnp.float32) + float(level.sigma) * others
            found[f"fresh noise at {time:g}"] = ends(time, start)
        right = np.random.default_rng(18).choice(one.right, count)
        found["right draws"] = right
        quality = {kind: one.far(values) for kind, values in found.items()}
        mixture = {kind: between_modes(name, values) for kind, values in found.items()}
        both = told((kind, f"{quality[kind]} and {mixture[kind]}") for kind in found)
        words.append(f"{SHORT[name]}, {len(rows):,} points, {' and '.join(steps)}: {both}")
        for kind in ("transported to 0.1", "transported to 0.3"):
            outcomes[f"distance, {SHORT[name]} {kind}"] = lower(quality[kind], quality["white noise"])
            if lower(mixture["right draws"], mixture["white noise"]):  # else there is nothing to mend
                outcomes[f"mixture, {SHORT[name]} {kind}"] = lower(mixture[kind], mixture["white noise"])
    return judged(
        "Li et al. (2023), DPM-OT",
        "high quality in about 10 evaluations, with far less mode mixture, by transport to noisy data at a middle time",
        "DPM-Solver++(2M), 10 evaluations from white noise, and as many from a middle time on; sliced Wasserstein "
        "distance from the law, and share between modes (25 normals: of draws beyond four standard deviations of all; "
        f"network: of the ten nearest digits, those of another kind than most): {'; '.join(words)}",
        outcomes,
        "rows with fresh noise are as good, without a fit; near the data, draws are copies of rows",
    )


CLAIMS = (integration_approximation, compensation, solver_search, bespoke, align_your_steps, beta_schedule, transport)
