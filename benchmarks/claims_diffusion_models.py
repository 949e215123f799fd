"""The claims of papers on what is done to a model, or to its noise, before a solver of diffusion models."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from claim import Claim
from diffusion_measures import (
    PROBLEMS,
    PROCESS,
    SHORT,
    Law,
    Reached,
    judged,
    law,
    lower,
    misses,
    nearer,
    problem,
    reached,
    told,
)

from variate.demo import digit_denoiser
from variate.diffusion import (
    DDIM,
    Ancestral,
    DPMSolverPP,
    EpsilonScaling,
    GaussianMixture,
    MeanReverting,
    Stitched,
    edm,
    sample,
    sample_parallel,
    teleported,
    uniform,
    uniform_log_snr,
)

NETWORK = "digits' network"
TEN = "10 normals, 32-D"


def epsilon_scaling(count: int) -> Claim:
    one, times = law(NETWORK), uniform(PROCESS, 50, end=0.0)
    rows, outcomes = [], {}
    for kind, solver in (("ancestral", Ancestral(1.0)), ("DDIM", DDIM())):
        factors = (1.0, 1.005, 1.01, 1.02, 1.04)
        found = {f: Law(EpsilonScaling(one.model, f), one.right).of(count, solver, times) for f in factors}
        rows.append(f"{kind}: {told((f'{factor:g}', far) for factor, far in found.items())}")
        best = min(factors[1:], key=lambda factor: found[factor].value)
        outcomes[kind] = lower(found[best], found[1.0])
    return judged(
        "Ning et al. (2024), epsilon scaling",
        "predicted noise divided by a factor just above one draws better (FID 2.17 on CIFAR-10)",
        f"the network, 50 steps; sliced Wasserstein distance from the digits it learned, by factor, {'; '.join(rows)}",
        outcomes,
    )


def moments(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Of the law of the condition."""
    model: Any = problem(name).model(PROCESS)
    if hasattr(model, "draw"):
        data = np.asarray(jax.vmap(lambda key: model.draw(key))(jax.random.split(jax.random.key(11), 20_000)))
    else:
        images, labels = digit_denoiser.digits()
        data = np.asarray(images, np.float64)[np.asarray(labels) == 3]
    return data.mean(0), np.cov(data.T)


def teleportation(count: int) -> Claim:
    times, rows, outcomes = edm(PROCESS, 20, end=0.01), [], {}
    for skipped in (3, 6):
        found = {}
        for name in PROBLEMS:
            to, (mean, covariance) = reached(name, count), moments(name)
            start = teleported(PROCESS, to.start, mean, covariance, [times[0], times[skipped]])
            short = misses(Reached(to.model, start, to.ends), DPMSolverPP(), times[skipped:])
            found[SHORT[name]] = nearer(short, misses(to, DPMSolverPP(), times))
        rows.append(f"{skipped / 20:.0%} skipped: {told(found.items())}")
        outcomes |= {f"{name}, {skipped / 20:.0%}": not ratio.less for name, ratio in found.items()}
    return judged(
        "Wang and Vastola (2024), teleportation",
        "the first 15 to 30% of steps are skipped at no loss, as noisy data move like normal ones",
        "DPM-Solver++(2M), 20 steps of EDM's; how many times less the rms distance from the exact ends is with "
        f"fewer evaluations: {'; '.join(rows)}",
        outcomes,
    )


def stitching(count: int) -> Claim:
    """The small model is one normal law with the moments of the data."""
    rows, outcomes = [], {}
    for name in ("25 normals, 2-D", TEN, NETWORK):
        one, times = law(name), edm(PROCESS, 20, end=0.01)
        small = GaussianMixture(PROCESS, [1.0], [one.right.mean(0)], [np.cov(one.right.T)])
        found = {
            share: Law(Stitched(small, one.model, times[int(20 * share)] * 1.0001), one.right).of(
                count, DPMSolverPP(), times
            )
            for share in (0.2, 0.4, 0.6)
        }
        whole = one.of(count, DPMSolverPP(), times)
        rows.append(f"{SHORT[name]}: none {whole}, {told((f'{share:.0%}', far) for share, far in found.items())}")
        outcomes[SHORT[name]] = not lower(whole, found[0.4])
    return judged(
        "Pan et al. (2024), T-Stitch",
        "a small model takes the first 40% of steps at no loss",
        "one normal law with the moments of the data in place of the model, DPM-Solver++(2M), 20 steps of EDM's; "
        f"sliced Wasserstein distance by share of the steps: {'; '.join(rows)}",
        outcomes,
        "the smallest of models",
    )


def clocked(run: Callable[[], Any]) -> float:
    """Seconds, the median of some."""
    jax.block_until_ready(run())
    spent = []
    for _ in range(5):
        begun = time.perf_counter()
        jax.block_until_ready(run())
        spent.append(time.perf_counter() - begun)
    return float(np.median(spent))


def parallel(count: int) -> Claim:
    model, steps, window = problem(NETWORK).model(PROCESS), 500, 100
    times, shape, key = uniform(PROCESS, steps, end=0.0), (min(count, 64), 64), jax.random.key(12)
    alone = (1, 64)

    def both(shape: tuple[int, ...]) -> tuple[Any, Any]:
        return (
            lambda: sample_parallel(key, model, DDIM(), times, shape, window=window).values,
            lambda: sample(key, model, DDIM(), times, shape).values,
        )

    run = sample_parallel(key, model, DDIM(), times, shape, window=window)
    apart = float(jnp.sqrt(jnp.mean((run.values - sample(key, model, DDIM(), times, shape).values) ** 2)))
    rounds, ours, plain = np.asarray(run.rounds, float), *(clocked(one) for one in both(alone))
    fewer = steps / rounds
    return judged(
        "Shih et al. (2023), ParaDiGMS",
        "two to four times less time on the clock for one draw, with no loss that could be measured",
        f"the network, DDIM, {steps} steps, window {window}, tolerance 0.1: {fewer.mean():.3g} ± "
        f"{fewer.std() / len(fewer) ** 0.5:.1g} times fewer rounds, {apart:.1g} from the draws of one step after "
        f"another; one draw takes {plain / ours:.2g} times less time on two cores, which evaluate {window} points in "
        "more than the time of one",
        {"rounds": fewer.mean() > 2, "the clock": plain / ours > 2},
    )


def mean_reverting(count: int) -> Claim:
    process = MeanReverting(0.5)
    model = problem(TEN).unconditional(process)
    one = Law(model, law(TEN).right)
    found = {
        f"{name} with {steps}": one.of(count, solver, uniform_log_snr(process, steps))
        for name, solver, steps in (
            ("DPM-Solver++(2M)", DPMSolverPP(), 10),
            ("ancestral", Ancestral(0.0), 100),
            ("ancestral", Ancestral(0.0), 200),
        )
    }
    ours, hundred, _ = found.values()
    return judged(
        "Li et al. (2025), MaRS",
        "solvers with exact linear parts need 10 to 20 times fewer evaluations on mean-reverting processes",
        f"10 normals, noise 0.5 at last, steps equal in the log of the ratio of signal to noise; sliced Wasserstein "
        f"distance (of right draws {one.floor(count)}): {told(found.items())}",
        {"ten times fewer": not lower(hundred, ours)},
    )


CLAIMS = (
    epsilon_scaling,
    teleportation,
    stitching,
    parallel,
    mean_reverting,
)
