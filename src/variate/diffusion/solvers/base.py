"""What solvers share: a plan of evaluations, and the linear update that nearly every one of them makes."""

import abc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from variate.checks import describe

from ..denoisers.base import Denoiser, Prediction
from ..processes.base import Level, Number, Process, exact_levels

Coefficient = Float[Array, "..."] | Float[np.ndarray, "..."]


def data(found: Prediction) -> tuple[Array, ...]:
    return (found.data,)


def noise(found: Prediction) -> tuple[Array, ...]:
    return (found.noise,)


def both(found: Prediction) -> tuple[Array, ...]:
    return found.data, found.noise


Kept = Callable[[Prediction], tuple[Array, ...]]  # what of a prediction goes into the history


class State(NamedTuple):
    """Where a run is: all that the next evaluation needs."""

    x: Float[Array, "..."]  # where the model is asked next, and at the end the draw
    anchor: Float[Array, "..."] | None  # what a step that takes several evaluations has in hand
    history: tuple[Float[Array, "..."], ...]  # predictions, the newest first


class Stage(eqx.Module):
    """One evaluation of the model and what is made of it. A plan is a stage whose every leaf has a leading axis."""

    level: eqx.AbstractVar[Level]  # at which the model is asked

    @abc.abstractmethod
    def init(self, x: Float[Array, "..."]) -> Any:
        """The state of a run that starts from the noise x; its field `x` is the point reached."""

    @abc.abstractmethod
    def step(self, key: Key[Array, ""], model: Any, state: Any) -> Any:
        """The state after one evaluation of the model at `state.x`."""


@runtime_checkable
class Solver(Protocol):
    """A way from noise to data in few evaluations of a model."""

    def plan(self, process: Process, times: np.ndarray) -> Stage:
        """The stages, stacked, that lead from the first of some falling times to the last.

        It is made before anything runs, from numbers in double precision, so that a run does nothing but evaluate the
        model and combine its predictions.
        """
        ...


def steps(process: Process, times: np.ndarray) -> list[tuple[Level, Level]]:
    """The levels s and t between which each step leads, as numbers in double precision."""
    return pairs_of(exact_levels(process, times))


def pairs_of(levels: Level) -> list[tuple[Level, Level]]:
    """Neighbours, as numbers."""
    return list(pairwise(Level(*map(float, level)) for level in zip(*levels, strict=True)))


def check_signal(process: Process, times: np.ndarray) -> None:
    """Raise ValueError where nothing is left of the data: predictions of the noise say nothing of them there."""
    if exact_levels(process, times[:1]).alpha[0] <= 0:
        raise ValueError(f"times must start where some of the data is left to predict noise, got {times[0]}")


def half_log_snr(level: Level) -> float:
    r"""$\lambda = \log \alpha - \log \sigma$; infinite where there is no noise or no signal."""
    if level.sigma == 0 or level.alpha == 0:
        return math.inf if level.sigma == 0 else -math.inf
    return math.log(level.alpha) - math.log(level.sigma)


@runtime_checkable
class Particular(Protocol):
    """A solver that was made for one model."""

    def plan(self, process: Process, times: np.ndarray) -> Stage: ...

    def check_model(self, model: Any, event: tuple[int, ...]) -> None:
        """Raise ValueError unless this is it; `event` is the shape of a draw."""
        ...


@dataclass(frozen=True)
class Combination:
    """A sum of what a run has in hand, as coefficients, which are numbers or arrays: one for each coordinate."""

    x: Number = 0.0  # of the point at which the model was asked
    history: Sequence[Number] = ()  # of its predictions, the newest first
    anchor: float = 0.0
    noise: float = 0.0  # of a standard normal draw, the same in both combinations of an evaluation


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a model: when, where it leads, and what is kept for later."""

    time: float
    x: Combination
    anchor: Combination | None = None


class Linear(Stage):
    """A point and an anchor that are sums of what a run has in hand: the update of nearly every solver.

    A coefficient that is zero in all stages is None, so what a solver does not use costs nothing.
    """

    level: Level
    x: "Terms"
    anchor: "Terms | None"
    kept: Kept = eqx.field(static=True)
    depth: int = eqx.field(static=True)  # of the history

    def init(self, x: Float[Array, "..."]) -> State:
        return State(x, None if self.anchor is None else x, (jnp.zeros_like(x),) * self.depth)

    def step(self, key: Key[Array, ""], model: Denoiser, state: State) -> State:
        return self.after(key, model.predict(state.x, self.level), state)

    def after(self, key: Key[Array, ""], found: Prediction, state: State) -> State:
        """The state after a prediction."""
        state = state._replace(history=(*self.kept(found), *state.history)[: self.depth])
        random = self.x.noise is not None or (self.anchor is not None and self.anchor.noise is not None)
        z = jax.random.normal(key, state.x.shape, state.x.dtype) if random else None
        anchor = None if self.anchor is None else self.anchor.of(state, z)
        return State(self.x.of(state, z), anchor, state.history)


class Terms(eqx.Module):
    """The coefficients of a combination, None where they are zero throughout."""

    x: Coefficient | None
    history: tuple[Coefficient | None, ...]
    anchor: Coefficient | None
    noise: Coefficient | None

    def of(self, state: State, z: Float[Array, "..."] | None) -> Float[Array, "..."]:
        pairs = [(self.x, state.x), *zip(self.history, state.history, strict=True), (self.anchor, state.anchor)]
        pairs.append((self.noise, z))
        terms = [a * value for a, value in pairs if a is not None and value is not None]
        return sum(terms[1:], terms[0]) if terms else jnp.zeros_like(state.x)


def linear(process: Process, kept: Kept, evaluations: Sequence[Evaluation]) -> Linear:
    """The plan of some evaluations, of which `data` or `noise` is kept."""
    return linear_at(exact_levels(process, [one.time for one in evaluations]), kept, evaluations)


def linear_at(level: Level, kept: Kept, evaluations: Sequence[Evaluation]) -> Linear:
    """The same, where the levels of all of their times are known."""
    ends = [made for one in evaluations for made in (one.x, one.anchor) if made is not None]
    depth = max((len(made.history) for made in ends), default=0)
    anchored = any(one.anchor is not None for one in evaluations)
    x = _terms([one.x for one in evaluations], depth)
    anchor = _terms([one.anchor or Combination(anchor=1.0) for one in evaluations], depth) if anchored else None
    return Linear(level, x, anchor, kept, depth)


def _terms(combinations: Sequence[Combination], depth: int) -> Terms:
    def column(numbers: Sequence[Number]) -> Any:
        stacked = np.stack(np.broadcast_arrays(*numbers)).astype(np.float64)
        if not np.all(np.isfinite(stacked)):
            raise ValueError(f"times give a solver coefficients that are not finite: {stacked}")
        return stacked if np.any(stacked != 0) else None

    padded = [(*made.history, *(0.0,) * (depth - len(made.history))) for made in combinations]
    return Terms(
        column([made.x for made in combinations]),
        tuple(column([row[j] for row in padded]) for j in range(depth)),
        column([made.anchor for made in combinations]),
        column([made.noise for made in combinations]),
    )


def check_solver(name: str, value: Any) -> None:
    if not isinstance(value, Solver) or isinstance(value, type):
        raise TypeError(f"{name} must be one of vt.diffusion, DDIM() say, got {describe(value)}")
