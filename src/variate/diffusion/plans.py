"""What a run needs beside its model and its key, made once and kept for the next run like it."""

import functools
import weakref
from collections.abc import Hashable
from dataclasses import dataclass, field
from types import BuiltinFunctionType, FunctionType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .checks import check_untraced
from .denoisers.base import Model
from .processes.augmented import AugmentedProcess, exact_moments
from .processes.base import exact_levels
from .schedules.base import check_times
from .solvers.base import Particular, Solver, Stage, check_solver

KEPT = 32  # plans: some hundred numbers each
MOST_LEFT = 0.1  # of the data beside the noise, where that may pass for all


class Ready(NamedTuple):
    """A plan in the precision of a run, on the device."""

    leaves: tuple[Array, ...]  # of the stages, which take a while to be taken apart
    tree: Any
    sigma: Float[Array, "..."]  # of what draws start from: a number, or a root of the covariance of variables
    times: tuple[float, ...]  # of the schedule
    asked: tuple[float, ...]  # at which the model is
    left: float  # of the data at the start, as a part of the noise; 0 where it is as much as at the horizon

    def stages(self) -> Stage:
        return jax.tree.unflatten(self.tree, self.leaves)


class _Passed:
    """The model that was looked at last and is the right one; asking it what it says takes longer than many runs do."""

    tree: Any = None
    leaves: tuple[Any, ...] = ()  # arrays by weak references: they cannot change, and are not kept for this

    def has(self, model: Model, event: tuple[int, ...]) -> bool:
        leaves, tree = jax.tree.flatten(model)
        known = (x() if isinstance(x, weakref.ref) else x for x in self.leaves)
        return self.tree == (tree, event) and all(x is leaf for x, leaf in zip(known, leaves, strict=True))

    def note(self, model: Model, event: tuple[int, ...]) -> None:
        leaves, tree = jax.tree.flatten(model)
        fixed = all(isinstance(leaf, jax.Array | float | int | FunctionType) for leaf in leaves)
        self.tree = (tree, event) if fixed else None
        self.leaves = tuple(weakref.ref(leaf) if isinstance(leaf, jax.Array) else leaf for leaf in leaves)


class _Made(NamedTuple):
    ready: Ready
    particular: tuple[Particular, ...]  # the solver and those within it that were made for one model
    passed: _Passed


def planned(model: Model, solver: Solver | Any, times: Any, event: tuple[int, ...], dtype: Any) -> Ready:
    """The plan of a solver; raises where that is none, or it or one within it was made for another model.

    It is made anew unless all that it depends on is known: numbers by their bytes, functions by what they are.
    """
    check_untraced("times", times)
    leaves, tree = jax.tree.flatten((solver, model.process))
    for leaf in leaves:
        check_untraced("solver and model.process", leaf)
    try:
        known = (tuple(map(_contents, leaves)), tree, np.asarray(times, np.float64).tobytes(), dtype)
        hash(known)
    except (TypeError, ValueError):  # nothing to know it by, or no times
        known = None
    call = _Call(known, solver, model, times, dtype)
    made = call.made() if known is None else _kept(call)
    if made.particular and not made.passed.has(model, event):
        for particular in made.particular:
            particular.check_model(model, event)
        made.passed.note(model, event)
    return made.ready


@dataclass(frozen=True)
class _Call:
    """What is asked for, which is the same where what it is known by is."""

    known: Hashable
    solver: Solver | Any = field(compare=False)
    model: Model = field(compare=False)
    times: Any = field(compare=False)
    dtype: Any = field(compare=False)

    def made(self) -> _Made:
        check_solver("solver", self.solver)
        times = check_times(self.times, self.model.process)
        plan = self.solver.plan(self.model.process, times)
        with jax.ensure_compile_time_eval():  # also where the run itself is traced: it is kept for others
            leaves, tree = jax.tree.flatten(jax.tree.map(lambda leaf: jnp.asarray(leaf, self.dtype), plan))
            sigma = jnp.asarray(self.model.process.sigma(jnp.asarray(times[0], self.dtype)), self.dtype)
        asked = tuple(map(float, plan.level.time))
        check_order(self.solver, len(asked))
        first, most = (_left(self.model.process, time) for time in (times[0], self.model.process.horizon))
        left = first if first > most * (1 + 1e-6) else 0.0
        ready = Ready(tuple(leaves), tree, sigma, tuple(times.tolist()), asked, left)
        return _Made(ready, _particular(self.solver), _Passed())


def _particular(solver: Any) -> tuple[Particular, ...]:
    parts = jax.tree.leaves(solver, is_leaf=lambda part: isinstance(part, Particular))
    return tuple(part for part in parts if isinstance(part, Particular))


def plan_for(model: Model, solver: Solver | Any, times: np.ndarray, event: tuple[int, ...]) -> Stage:
    """The plan that something is fitted from; raises as a run would that had it."""
    check_solver("solver", solver)
    for particular in _particular(solver):
        particular.check_model(model, event)
    plan = solver.plan(model.process, times)
    check_order(solver, len(plan.level.time))
    return plan


def check_order(solver: Any, evaluations: int) -> None:
    order = getattr(solver, "order", None)
    if isinstance(order, int) and evaluations < order:
        raise ValueError(
            f"times must make as many evaluations as the solver's order, {order}, or more, got {evaluations}: "
            "give more times, or a solver of a lower order"
        )


def _left(process: Any, time: float) -> float:
    """The ratio of signal to noise."""
    if isinstance(process, AugmentedProcess):
        mean, covariance = exact_moments(process, np.array([time]))
        return float(abs(mean[0, 0]) / np.sqrt(covariance[0, 0, 0]))
    level = exact_levels(process, time)
    return float(level.alpha / level.sigma)


def check_begins(start: Any, ready: Ready) -> None:
    """Raise ValueError where noise is to be what draws start from, and is not."""
    if start is None and ready.left > MOST_LEFT:
        raise ValueError(
            f"start must be given for times that start at {ready.times[0]:.4g}, where the data are still "
            f"{ready.left:.2g} times the noise: to start from noise alone is another law"
        )


@functools.lru_cache(KEPT)
def _kept(call: _Call) -> _Made:
    return call.made()


def _contents(leaf: Any) -> Hashable:
    """What two leaves share that are the same number, numbers or function."""
    if isinstance(leaf, float | int | FunctionType | BuiltinFunctionType):
        return type(leaf), leaf
    if isinstance(leaf, np.ndarray | np.generic | jax.Array):
        array = np.asarray(leaf)
        return array.dtype.str, array.shape, array.tobytes()
    raise TypeError("its contents may change, or cannot be seen")
