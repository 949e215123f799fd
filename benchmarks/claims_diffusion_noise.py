"""The claims of papers on samplers of diffusion models that put in fresh noise.

Each is measured by the sliced Wasserstein distance of draws from the law that they should have.
"""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from claim import Claim
from diffusion_measures import PROCESS, Distance, Law, judged, law, lower, told

from variate.diffusion import (
    DDIM,
    ERSDE,
    Ancestral,
    ClassifierFreeGuidance,
    DPMSolverPP,
    GaussianMixture,
    Heun,
    PredictorCorrector,
    Product,
    Restart,
    SASolver,
    SDEDPMSolverPP,
    edm,
    sample,
    uniform,
    uniform_log_snr,
)

OFF = 0.1  # the size, a coordinate, of what is wrong with the noise that an imperfect model predicts
LAWS = {"25 normals": ("25 normals, 2-D", 0.0), "10 normals": ("10 normals, 32-D", 0.0)}
IMPERFECT = {"imperfect 10 normals": ("10 normals, 32-D", OFF), "network": ("digits' network", 0.0)}
ALL = LAWS | IMPERFECT
FLOWS = ("DPM-Solver++(2M)", "Heun")


def of(name: str) -> Law:
    return law(*ALL[name])


def timed(steps: int) -> list[np.ndarray]:
    return [edm(PROCESS, steps, end=0.01), uniform(PROCESS, steps, end=0.0)]


def restarts(budget: int) -> list[tuple[Any, np.ndarray]]:
    """Heun's method, with a third of the evaluations for restarts from and to some levels of noise."""
    found, (main, again, times) = [], {20: (7, 3, 1), 50: (17, 4, 2)}[budget]
    grid = edm(PROCESS, main, end=0.01)
    ratios = np.exp(-np.asarray(PROCESS.half_log_snr(jnp.asarray(grid[:-1]))))
    for low, high in ((0.1, 0.5), (0.3, 1.5), (1.0, 5.0)):
        end = int(np.argmin(np.abs(np.log(ratios / low))))
        inner = PROCESS.time_of(-np.log(np.geomspace(high, ratios[end], again + 1)))
        inner[-1] = grid[end]
        found.append((Restart(Heun(), [inner] * times), grid))
    return found


def ways(kind: str, budget: int) -> list[tuple[Any, np.ndarray]]:
    """Solvers by their name, on the grids of times on which they are tried."""
    if kind == "restarts":
        return restarts(budget)
    if kind == "corrected":
        return [(PredictorCorrector(Ancestral(1.0), ratio=0.16), times) for times in timed((budget + 1) // 2)]
    solvers: dict[str, Any] = {
        "DDIM": DDIM(),
        "DDIM(1)": DDIM(1.0),
        "DPM-Solver++(2M)": DPMSolverPP(),
        "Heun": Heun(),
        "ancestral": Ancestral(1.0),
        "SDE-DPM-Solver++": SDEDPMSolverPP(),
        "SA-Solver": SASolver(),
        "ER-SDE": ERSDE(),
    }
    return [(solvers[kind], times) for times in timed(budget // 2 if kind == "Heun" else budget)]


@cache
def far(name: str, kind: str, budget: int, count: int) -> Distance:
    found = [of(name).of(count, solver, times) for solver, times in ways(kind, budget)]
    return min(found, key=lambda one: one.value)


def table(kinds: tuple[str, ...], names: Any, budget: int, count: int) -> dict[str, dict[str, Distance]]:
    return {name: {kind: far(name, kind, budget, count) for kind in kinds} for name in names}


def shown(rows: dict[str, dict[str, Distance]], count: int) -> str:
    floors = {name: of(name).floor(count) for name in rows}
    return "; ".join(f"{name} (of right draws {floors[name]}): {told(row.items())}" for name, row in rows.items())


SLICED = "sliced Wasserstein distance from the law, each on its best grid of times"


def ddim(count: int) -> Claim:
    rows, outcomes = [], {}
    for budget in (10, 50):
        found = table(("DDIM", "DDIM(1)", "ancestral"), (*LAWS, "network"), budget, count)
        rows.append(f"{budget} steps, {shown(found, count)}")
        outcomes |= {
            f"{name} at {budget}": lower(row["DDIM"], row["ancestral"]) and lower(row["DDIM"], row["DDIM(1)"])
            for name, row in found.items()
        }
    return judged(
        "Song, Meng and Ermon (2021), DDIM",
        "10 to 50 steps are as good as many more of DDPM, and better than as many",
        f"{SLICED}; {'; '.join(rows)}",
        outcomes,
        "as many of DDPM",
    )


def sde_dpm_solver_pp(count: int) -> Claim:
    found = table(("SDE-DPM-Solver++", "ancestral", "DPM-Solver++(2M)"), ALL, 20, count)
    return judged(
        "Lu et al. (2022), SDE-DPM-Solver++",
        "the second order solves the reverse diffusion better in few steps than the first",
        f"20 evaluations; {SLICED}; {shown(found, count)}",
        {name: lower(row["SDE-DPM-Solver++"], row["ancestral"]) for name, row in found.items()},
    )


def versus(kind: str, rivals: tuple[str, ...], names: Any, count: int) -> tuple[str, dict[str, bool]]:
    """At 20 and 50 evaluations, whether it it is nearer than the best of its rivals."""
    rows, outcomes = [], {}
    for budget in (20, 50):
        found = table((kind, *rivals), names, budget, count)
        rows.append(f"{budget} evaluations, {shown(found, count)}")
        for name, row in found.items():
            rival = min((row[one] for one in rivals), key=lambda one: one.value)
            outcomes[f"{name} at {budget}"] = lower(row[kind], rival)
    return f"{SLICED}; {'; '.join(rows)}", outcomes


def sa_solver(count: int) -> Claim:
    said, outcomes = versus("SA-Solver", FLOWS, IMPERFECT, count)
    return judged(
        "Xue et al. (2023), SA-Solver",
        "noise with high orders is better than the flow where the score is not exact, at enough evaluations",
        said,
        outcomes,
    )


def er_sde(count: int) -> Claim:
    said, outcomes = versus("ER-SDE", ("ancestral", "SDE-DPM-Solver++", "SA-Solver"), IMPERFECT, count)
    return judged(
        "Cui et al. (2024), ER-SDE", "the best of stochastic samplers at 20 and 50 evaluations", said, outcomes
    )


def restart(count: int) -> Claim:
    said, outcomes = versus("restarts", ("Heun", "SDE-DPM-Solver++", "ancestral"), IMPERFECT, count)
    return judged(
        "Xu et al. (2023), Restart",
        "better than solvers of the flow and of the diffusion at equal evaluations",
        f"the best of three intervals; {said}",
        outcomes,
    )


def predictor_corrector(count: int) -> Claim:
    said, outcomes = versus("corrected", ("ancestral",), IMPERFECT, count)
    return judged(
        "Song et al. (2021), predictor-corrector samplers",
        "a correction at each step is better than twice as many steps of the predictor",
        f"the predictor is ancestral, ratio of signal to noise 0.16; {said}",
        outcomes,
    )


def gamma_powered(count: int) -> Claim:
    """Normal laws: N(0, 1), and N(0, 1/4) with the condition, whose powers are known."""
    scale, wanted = 3.0, 1 / (4 * 3.0 - 2.0)
    condition, without = (GaussianMixture(PROCESS, [1.0], [[0.0]], [variance]) for variance in (0.25, 1.0))
    guided, times = ClassifierFreeGuidance(condition, without, scale), uniform_log_snr(PROCESS, 500)
    rows, outcomes = [], {}
    for kind, solver in (("DDIM", DDIM()), ("DDPM", DDIM(1.0))):
        x = np.asarray(sample(jax.random.key(7), guided, solver, times, (8 * count, 1)).values)[:, 0]
        found, error = float(np.mean(x**2)), float(np.std(x**2)) / len(x) ** 0.5
        rows.append(f"{kind} {found:.4f} ± {error:.1g}")
        outcomes[f"{kind} has its variance"] = abs(found - wanted) > 3 * error
    return judged(
        "Bradley and Nakkiran (2024), Classifier-free guidance is a predictor-corrector",
        "guidance does not draw the gamma-powered law, by DDIM or DDPM",
        f"N(0, 1) guided to N(0, 1/4) with scale {scale:g}, 500 steps; variance, which would be {wanted:.4f}: "
        + ", ".join(rows),
        outcomes,
    )


def products(count: int) -> Claim:
    rng = np.random.default_rng(8)
    means = [0.7 * rng.normal(size=(3, 32)) for _ in range(2)]
    parts = [GaussianMixture(PROCESS, np.ones(3), m, np.full(3, 0.3)) for m in means]
    pairs = [(a, b) for a in means[0] for b in means[1]]
    weights = np.array([np.exp(-np.sum((a - b) ** 2) / 1.2) for a, b in pairs])
    exact = GaussianMixture(PROCESS, weights, np.array([(a + b) / 2 for a, b in pairs]), np.full(9, 0.15))
    drawn = np.asarray(jax.vmap(lambda key: exact.draw(key))(jax.random.split(jax.random.key(9), 50_000)))
    wanted = Law(Product(parts, [1.0, 1.0]), drawn)
    start = jax.random.normal(jax.random.key(10), (count, 32)) / 2**0.5
    times = uniform_log_snr(PROCESS, 100)
    found = {
        "reverse diffusion": wanted.of(count, Ancestral(0.3), times, start),
        "with ten steps of Langevin each": wanted.of(count, PredictorCorrector(Ancestral(0.3), 10, 0.1), times, start),
    }
    one, other = found.values()
    return judged(
        "Du et al. (2023), Reduce, reuse, recycle",
        "the sampler makes compositions fail, not the model: MCMC at each level mends it",
        f"the product of two mixtures of three normals in 32 dimensions, 100 steps; sliced Wasserstein distance (of "
        f"right draws {wanted.floor(count)}): {told(found.items())}",
        {"Langevin": lower(other, one)},
        f"{1 - other.value / one.value:.0%} of the distance",
    )


CLAIMS = (
    ddim,
    sde_dpm_solver_pp,
    sa_solver,
    er_sde,
    restart,
    predictor_corrector,
    gamma_powered,
    products,
)
