"""Which kernel draws best from which kind of target: effective draws for a thousand evaluations of its density.

python benchmarks/kernels.py                     # an hour; adds to benchmarks/results/kernels.*
python benchmarks/kernels.py --only NUTS Slice   # some kernels
python benchmarks/kernels.py --anew              # also what is there already
python benchmarks/kernels.py --quick             # a minute: that everything runs

Some targets need the data beside the project (`posteriors/base.py`). Nothing here depends on a clock.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import posteriors
import reports
from jax import Array
from posteriors import Moments, Posterior
from rich.console import Console
from scipy import linalg, special

import variate as vt
from variate.mcmc import (
    HMC,
    MALA,
    MAMS,
    NUTS,
    Barker,
    ChEES,
    HitAndRun,
    ParallelTempering,
    RandomWalk,
    Slice,
)

KEYS, DRAWS, ALARM = 3, 1_000, 1e-4
RESULTS = Path(__file__).parent / "results" / "kernels"

WORDS = f"""Effective draws, of the number that has fewest, for each thousand evaluations of the density or, for
kernels that use it, of the density with its gradient, which costs two to four times as much. All kernels are as they
come, with four chains and 500 steps of warm-up, which are not counted. Each number is the median over {KEYS} keys. In
brackets: `draws.doubts()` finds something in more than half of the runs, so that the estimates would not say that they
converged, and effective draws say little. OFF: in a run in which nothing is found a mean is off by more than chance
makes one table in {1 / ALARM:,.0f}."""


class Kind(NamedTuple):
    """A kernel, the steps of each draw that is kept, and the targets that it is for: all, unless said."""

    kernel: Any
    thin: int = 1
    targets: tuple[str, ...] | None = None


def correlated(size: int = 50, correlation: float = 0.95) -> Posterior:
    precision = jnp.asarray(linalg.inv(linalg.toeplitz(correlation ** np.arange(size))))
    return of_density(lambda x: -0.5 * x @ precision @ x, size)


def heavy(size: int = 10, freedom: float = 5.0) -> Posterior:
    """A multivariate Student's t: all coordinates are far out at once."""
    return of_density(lambda x: -(freedom + size) / 2 * jnp.log1p(x @ x / freedom), size)


def two_modes(apart: float = 6.0) -> Posterior:
    """Normal laws in the plane so many standard deviations apart, with weights of 0.7 and 0.3."""
    middles, weights = jnp.array([[-apart / 2, 0.0], [apart / 2, 0.0]]), jnp.log(jnp.array([0.7, 0.3]))

    def density(x: Array) -> Array:
        return jax.nn.logsumexp(weights - 0.5 * jnp.sum((x[None] - middles) ** 2, 1))

    return of_density(density, 2, [-0.2 * apart, 0.0])


def of_density(density: Callable[[Array], Array], size: int, mean: Any = None) -> Posterior:
    """Its chains start two standard deviations about zero."""
    start = dist.Normal(0.0, 2.0).expand([size]).to_event(1)
    means = np.zeros(size) if mean is None else mean
    moments = {f"x[{i + 1}]": Moments(float(middle), math.nan) for i, middle in enumerate(means)}
    return Posterior(Started(density, start), moments, lambda x: {"x": x})


class Started(eqx.Module):
    """A log density of vectors with random starts."""

    density: Callable[[Array], Array]
    law: Any

    def log_density(self, position: Array) -> Array:
        return self.density(position)

    def start(self, key: Array) -> Array:
        return self.law.sample(key)

    def constrain(self, position: Array) -> Array:
        return position

    def unconstrain(self, values: Array) -> Array:
        return values


TARGETS: dict[str, Callable[[], Posterior]] = {
    "50 correlated normals": correlated,
    "regression": posteriors.TABLE["mesquite-logmesquite"],
    "autoregression": posteriors.TABLE["arK-arK"],
    "Gaussian process": posteriors.TABLE["gp_pois_regr-gp_regr"],
    "mixture": posteriors.TABLE["low_dim_gauss_mix-low_dim_gauss_mix"],
    "eight schools": posteriors.TABLE["eight_schools-eight_schools_noncentered"],
    "funnel": posteriors.TABLE["eight_schools-eight_schools_centered"],
    "heavy tails": heavy,
    "two modes": two_modes,
}

WIDE = dist.Normal(0.0, 6.0).expand([2]).to_event(1)
TEMPERED = ParallelTempering(lambda beta: RandomWalk(1.5 / jnp.sqrt(beta + 0.01)), WIDE)
KERNELS: dict[str, Kind] = {
    "NUTS": Kind(NUTS()),
    "MAMS": Kind(MAMS()),
    "ChEES": Kind(ChEES()),
    "HMC, 8 steps": Kind(HMC(num_steps=8)),
    "MALA": Kind(MALA(), 10),
    "Barker": Kind(Barker(), 10),
    "Slice": Kind(Slice()),
    "HitAndRun": Kind(HitAndRun(), 4),
    "ParallelTempering": Kind(TEMPERED, 4, ("two modes",)),
}


class Cell(NamedTuple):
    """What runs of a kernel on a target gave."""

    rate: float  # effective draws for a thousand evaluations
    doubted: int  # runs
    off: int  # runs in which nothing is found against a mean that is off

    def __str__(self) -> str:
        if self.off:
            return "OFF"
        rate = f"{self.rate:.3g}" if math.isfinite(self.rate) else "none"
        return f"({rate})" if 2 * self.doubted > KEYS else rate


class Row(NamedTuple):
    program: str  # the kernel
    cells_of: dict[str, Cell]

    @property
    def ok(self) -> bool:
        return not any(cell.off for cell in self.cells_of.values())

    def cells(self) -> list[str]:
        return [self.program, *(str(self.cells_of.get(name, "")) for name in TARGETS)]

    def record(self) -> dict[str, Any]:
        return {"program": self.program, "cells": {name: cell._asdict() for name, cell in self.cells_of.items()}}

    @classmethod
    def read(cls, record: dict[str, Any]) -> "Row":
        cells = {
            name: Cell(math.nan if x["rate"] is None else x["rate"], x["doubted"], x["off"])
            for name, x in record["cells"].items()
        }
        return cls(record["program"], cells)


def numbers(tree: dict[str, Any]) -> dict[str, float]:
    """By name, those of vectors as `name[1]` and on."""
    flat = {}
    for name, leaf in tree.items():
        each = np.atleast_1d(np.asarray(leaf, float))
        flat |= {name: each[0]} if np.ndim(leaf) == 0 else {f"{name}[{i + 1}]": x for i, x in enumerate(each)}
    return flat


def off(found: Any, moments: dict[str, Moments]) -> bool:
    value, error = numbers(found.value), numbers(found.stderr)
    limit = -special.ndtri(ALARM / (2 * len(moments) * KEYS * len(KERNELS) * len(TARGETS)))
    for name, known in moments.items():
        wide = error[name] if math.isinf(known.draws) else math.hypot(error[name], known.sd / known.draws**0.5)
        if not abs(value[name] - known.mean) <= limit * wide:
            return True
    return False


def cell(kind: Kind, posterior: Posterior, quick: bool) -> Cell:
    counts = {"num_samples": 50 if quick else DRAWS, "num_warmup": 50 if quick else 500, "thin": kind.thin}
    rates, doubted, wrong = [], 0, 0
    for key in jax.random.split(jax.random.key(0), 1 if quick else KEYS):
        draws = vt.sample(key, posterior.target, kernel=kind.kernel, **counts)
        ess = numbers(draws.ess(posterior.quantities))
        # A number that stands still in one of the chains has no effective size, and the kernel no rate.
        rates.append(1e3 * min(ess[name] for name in posterior.moments) / float(draws.evaluations.sum()))
        doubts = draws.doubts(posterior.quantities)
        doubted += bool(doubts)
        wrong += not doubts and off(draws.expect(posterior.quantities), posterior.moments)
    return Cell(float(np.median(rates)), doubted, wrong)


def kept() -> dict[str, Row]:
    """The rows that there are, so that a run that was stopped goes on."""
    if not RESULTS.with_suffix(".json").exists():
        return {}
    (records,) = json.loads(RESULTS.with_suffix(".json").read_text())["sections"].values()
    return {row.program: row for row in map(Row.read, records)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short chains; writes nothing")
    parser.add_argument("--anew", action="store_true", help="also what is there already")
    parser.add_argument("--only", nargs="*", default=[""], help="beginnings of the names of kernels")
    told = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    if not posteriors.found():
        print("the data are not here: see benchmarks/posteriors/base.py")
        return 1
    console = Console(width=200)
    rows = {} if told.anew or told.quick else kept()
    made = {name: make() for name, make in TARGETS.items()}
    columns = ("kernel", *TARGETS)
    for name, kind in KERNELS.items():
        if not name.startswith(tuple(told.only)) or name in rows:
            continue
        wanted = [target for target in TARGETS if kind.targets is None or target in kind.targets]
        rows[name] = Row(name, {target: cell(kind, made[target], told.quick) for target in wanted})
        console.print(*rows[name].cells(), sep=" | ")
        jax.clear_caches()
        if not told.quick:
            there = [rows[name] for name in KERNELS if name in rows]
            section = reports.Section("Effective draws for a thousand evaluations", columns, there)
            reports.write_sections([section], RESULTS, "Kernels", WORDS)
    console.print(reports.table(list(rows.values()), columns))
    return int(not all(row.ok for row in rows.values()))


if __name__ == "__main__":
    raise SystemExit(main())
