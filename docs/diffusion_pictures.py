"""Make the pictures of the pages on diffusion: `python docs/diffusion_pictures.py`."""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from variate.demo import digit_denoiser
from variate.diffusion import (
    DDIM,
    EDM,
    Denoiser,
    DPMSolverPP,
    GaussianMixture,
    Heun,
    UniPC,
    VariancePreserving,
    edm,
    fit,
    sample,
    uniform_log_snr,
)

IMAGES = Path(__file__).parent / "images"
COLORS = {"DDIM": "#718096", "Heun": "#805ad5", "DPM-Solver++": "#2b6cb0", "UniPC": "#2f855a", "fitted": "#d9622b"}
BUDGETS = (4, 6, 8, 10, 14, 20, 30)


def schedule(steps: int) -> np.ndarray:
    return np.append(uniform_log_snr(VariancePreserving(), steps - 1, end=0.01), 0.0)


def few_steps() -> None:
    """How far draws are from the exact end of the flow, by the number of evaluations."""
    means = np.stack(np.meshgrid(range(-2, 3), range(-2, 3)), -1).reshape(25, 2) * 0.7
    model = GaussianMixture(VariancePreserving(), np.ones(25), means, np.full(25, 0.01))
    start = jax.random.normal(jax.random.key(0), (1000, 2))
    fine = np.append(uniform_log_snr(VariancePreserving(), 1000, end=1e-4), 0.0)

    def ends(solver: object, times: np.ndarray) -> np.ndarray:
        return np.asarray(sample(jax.random.key(0), model, solver, times, start.shape, start=start).values)

    exact = ends(DPMSolverPP(), fine)

    def far(solver: object, times: np.ndarray) -> float:
        return float(np.sqrt(np.mean((ends(solver, times) - exact) ** 2)))

    figure, one = plt.subplots(figsize=(8, 4), dpi=150, layout="constrained")
    formulas = {"DDIM": DDIM(), "DPM-Solver++": DPMSolverPP(), "UniPC": UniPC()}
    for name, solver in formulas.items():
        one.loglog(BUDGETS, [far(solver, schedule(n)) for n in BUDGETS], "o-", color=COLORS[name], label=name)
    halves = [(steps, 2 * steps - 1) for steps in (3, 4, 6, 8, 11, 15)]  # the last step takes one evaluation
    misses = [far(Heun(), schedule(steps)) for steps, _ in halves]
    one.loglog([n for _, n in halves], misses, "o-", color=COLORS["Heun"], label="Heun")
    fitted = [fit(jax.random.key(1), model, DPMSolverPP(), schedule(n), (256, 2)) for n in BUDGETS]
    misses = [far(solver, schedule(n)) for solver, n in zip(fitted, BUDGETS, strict=True)]
    one.loglog(BUDGETS, misses, "o-", color=COLORS["fitted"], label="DPM-Solver++, fitted")
    one.set(xlabel="evaluations of the model", ylabel="distance from the exact end")
    one.set_xticks(BUDGETS, [str(n) for n in BUDGETS])
    one.minorticks_off()
    one.legend(frameon=False)
    figure.savefig(IMAGES / "diffusion-few-steps.png")


def digits() -> None:
    """The same noise led to threes by few evaluations and by many."""
    model: Denoiser = digit_denoiser.denoiser(digit_denoiser.saved(), 3)
    start = 80.0 * jax.random.normal(jax.random.key(2), (12, 64))
    five = edm(EDM(), 5)
    fitted = fit(jax.random.key(3), model, DPMSolverPP(), five, (128, 64))
    rows = {
        "DDIM, 5 evaluations": (DDIM(), five),
        "DPM-Solver++, 5": (DPMSolverPP(), five),
        "fitted, 5": (fitted, five),
        "Heun, 399": (Heun(), edm(EDM(), 200)),
    }
    figure, places = plt.subplots(len(rows), 12, figsize=(9, 3.3), dpi=150, layout="constrained")
    for line, (name, (solver, times)) in zip(places, rows.items(), strict=True):
        run = sample(jax.random.key(0), model, solver, times, start.shape, start=start, dtype=jnp.float32)
        for place, image in zip(line, np.asarray(run.values), strict=True):
            place.imshow(image.reshape(8, 8), cmap="gray_r", vmin=-1, vmax=1)
            place.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    figure.savefig(IMAGES / "diffusion-digits.png")


if __name__ == "__main__":
    mpl.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False})
    few_steps()
    digits()
