"""Whether solvers agree with the schedulers of the same names in diffusers, given the same noise, times and model.

python benchmarks/diffusion_agreement.py    # a minute; rewrites benchmarks/results/diffusion_agreement.*
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import reports
import torch
from diffusers.schedulers import scheduling_sasolver
from diffusers.schedulers.scheduling_deis_multistep import DEISMultistepScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_sasolver import SASolverScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from rich.console import Console

from variate.diffusion import DPMSolver, DPMSolverPP, GaussianMixture, Process, SASolver, SDEDPMSolverPP, UniPC, sample
from variate.diffusion.solvers.base import noise
from variate.diffusion.solvers.exponential.multistep import multistep, noise_step

DRAWS, BOUND = 64, 1e-4
FORMS: dict[Any, Any] = {"bh1": lambda h: h, "bh2": np.expm1}  # of B
TABLE = jnp.asarray(np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))]), np.float32)
COLUMNS = ("scheduler", "ours", "steps", "largest difference", "why", "ok")
WORDS = f"""The largest difference of a coordinate over {DRAWS} draws in two dimensions of a mixture of normals, all in
single precision: both are given the same starts, the same normal draws, the same integer times of a chain of 1,000
steps, and the same noise predictions. ok: it is no more than {BOUND:g}, or it is said why they differ."""

SECOND = "theirs has half of the second derivative, and so is of order two"
LEAP = "the last step is a leap: theirs lowers the order only below 15 steps, ours always"
INFINITE = "theirs is no number: B is infinite where there is no noise"


class Chain(Process):
    """Times of a discrete chain, one more than theirs: at 0 there is no noise."""

    horizon: float = 1000.0
    cutoff: float = 1.0

    def alpha(self, t: Any) -> Any:
        return jnp.sqrt(jnp.interp(t, jnp.arange(1001.0), TABLE.astype(t.dtype)))

    def sigma(self, t: Any) -> Any:
        return jnp.sqrt(1 - jnp.interp(t, jnp.arange(1001.0), TABLE.astype(t.dtype)))


class LogRho(NamedTuple):
    """Polynomials in the logarithm of the ratio of noise to signal, integrated exactly: what diffusers calls DEIS."""

    order: int

    def plan(self, process: Process, times: np.ndarray) -> Any:
        return multistep(process, times, noise, self.order, noise_step())


class Row(NamedTuple):
    program: str
    ours: str
    steps: int
    difference: float
    why: str

    @property
    def ok(self) -> bool:
        return self.difference <= BOUND or bool(self.why)

    def cells(self) -> list[str]:
        words = [self.ours, str(self.steps), f"{self.difference:.1e}", self.why]
        return [self.program, *words, "yes" if self.ok else "NO"]


MODEL = GaussianMixture(Chain(), [0.4, 0.6], [[-0.5, 0.3], [0.6, -0.2]], [0.2, 0.3])
predict = jax.jit(jax.vmap(MODEL.noise, in_axes=(0, None)))


def draws(steps: int) -> tuple[Any, Any]:
    """The starts, and the normal draws that a run of ours has with key 0."""

    def one(key: Any) -> Any:
        _, key = jax.random.split(key)
        return jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (2,)))(jnp.arange(steps))

    start = jax.random.normal(jax.random.key(1), (DRAWS, 2))
    return start, np.asarray(jax.vmap(one)(jax.random.split(jax.random.key(0), DRAWS)))


def compare(name: str, scheduler: Any, ours: str, solver: Any, steps: int, why: str = "") -> Row:
    scheduler.set_timesteps(steps)
    start, normals = draws(steps)
    step: Any = scheduler.step
    x: Any = torch.from_numpy(np.array(start))
    for i, time in enumerate(scheduler.timesteps):
        asked = torch.from_numpy(np.array(predict(jnp.asarray(x.numpy()), jnp.float32(time + 1.0))))
        z = torch.from_numpy(normals[:, i].copy())
        more: dict[str, Any] = {"variance_noise": z} if isinstance(scheduler, DPMSolverMultistepScheduler) else {}
        with mock.patch.object(scheduling_sasolver, "randn_tensor", lambda *_, z=z, **__: z):
            x = step(asked, time, x, **more).prev_sample
    last = 0.0 if float(scheduler.sigmas[-1]) == 0 else 1.0
    times = np.append(scheduler.timesteps.numpy() + 1.0, last)
    run = sample(jax.random.key(0), MODEL, solver, times, (DRAWS, 2), start=start)
    assert np.all(run.finite), f"{ours} is not finite"
    return Row(name, ours, steps, float(np.max(np.abs(np.asarray(run.values) - x.numpy()))), why)


def dpm(kind: Any, order: int, end: Any = "zero") -> Any:
    return DPMSolverMultistepScheduler(algorithm_type=kind, solver_order=order, final_sigmas_type=end)


def rows() -> list[Row]:
    found = []
    for steps in (10, 20):
        leap = LEAP if steps >= 15 else ""
        for k in (1, 2, 3):
            curved, long = SECOND if k == 3 else "", leap if k > 1 else ""
            found.append(
                compare(f"dpmsolver++, {k}", dpm("dpmsolver++", k), f"DPMSolverPP({k})", DPMSolverPP(k), steps, curved)
            )
            found.append(
                compare(
                    f"dpmsolver, {k}",
                    dpm("dpmsolver", k, "sigma_min"),
                    f"DPMSolver({k})",
                    DPMSolver(k),
                    steps,
                    "; ".join(filter(None, (curved, long))),
                )
            )
            found.append(
                compare(f"deis, {k}", DEISMultistepScheduler(solver_order=k), f"log rho, {k}", LogRho(k), steps, long)
            )
            for of_data in (True, False):
                for b, growth in FORMS.items():
                    theirs = UniPCMultistepScheduler(
                        solver_order=k,
                        solver_type=b,
                        predict_x0=of_data,
                        final_sigmas_type="zero" if of_data else "sigma_min",
                    )
                    name = f"unipc, {k}, {b}, {'data' if of_data else 'noise'}"
                    solver = UniPC(k, growth, not of_data)
                    why = INFINITE if of_data and b == "bh1" else ""
                    found.append(compare(name, theirs, f"UniPC({k})", solver, steps, why))
        for k in (1, 2):
            found.append(
                compare(
                    f"sde-dpmsolver++, {k}", dpm("sde-dpmsolver++", k), f"SDEDPMSolverPP({k})", SDEDPMSolverPP(k), steps
                )
            )
        for p, c in ((1, 2), (2, 2), (3, 3)):
            theirs = SASolverScheduler(predictor_order=p, corrector_order=c, tau_func=lambda t: 0.7)
            found.append(
                compare(
                    f"sasolver, {p}, {c}",
                    theirs,
                    f"SASolver(0.7, {p}, {c})",
                    SASolver(0.7, p, c, growth=lambda h: h),
                    steps,
                )
            )
    return found


if __name__ == "__main__":
    made = rows()
    Console().print(reports.table(made, COLUMNS))
    section = reports.Section("10 and 20 steps", COLUMNS, made)
    path = Path(__file__).parent / "results" / "diffusion_agreement"
    reports.write_sections([section], path, "Agreement with diffusers", WORDS, diffusers=version("diffusers"))
