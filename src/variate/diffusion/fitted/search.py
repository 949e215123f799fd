"""A solver schedule by evolution: the formula, order and corrector of each step, and the times, for one model."""

from collections.abc import Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from rich.console import Console
from rich.progress import track

from variate.checks import check_key, check_positive, check_positive_int
from variate.closures import fresh_jit

from ..denoisers.base import Denoiser, check_model
from ..processes.base import Level, Process
from ..sampling import check_shape
from ..schedules.base import checked
from ..solvers.base import Linear, Terms, both
from .base import Learned, Tables, Told, probed
from .candidates import DEEP, Candidate, Made, Space, plans, table
from .coefficients import Errors, errors_of
from .descent import usual
from .trajectories import Exact, missed, trajectories

CHILDREN, PARENTS = 64, 16  # of a generation, and the best so far from which they come
PART = 8  # of the trajectories, and then of the children, one in so many is looked at
AT_ONCE = 8  # candidates that run together


class Searched(Learned):
    """A solver for one model and one schedule, as `search` finds it: a named formula for each step, and its times."""

    steps: tuple[Made, ...] = eqx.field(static=True)  # the formula, order and corrector of each
    times: tuple[float, ...] = eqx.field(static=True)  # that it was found with
    before: Errors = eqx.field(static=True)  # of the solver by formula that was the best to begin from
    after: Errors = eqx.field(static=True)
    probe: tuple[float, ...] = eqx.field(static=True)  # what the model says of a point, to know it by

    def plan(self, process: Process, times: np.ndarray) -> Linear:
        self.check_times(times)
        return plans(process, [Candidate(self.steps, np.asarray(self.times))], process.time_of)[0]

    def _written(self) -> tuple[Told, Tables]:
        return {name: getattr(self, name) for name in ("steps", "times", "before", "after", "probe")}, {}

    @classmethod
    def _read(cls, told: Told, tables: Tables) -> "Searched":
        steps, before, after = (
            tuple(Made(*one) for one in told["steps"]),
            Errors(*told["before"]),
            Errors(*told["after"]),
        )
        return cls(steps=steps, times=tuple(told["times"]), before=before, after=after, probe=tuple(told["probe"]))


def search(
    key: Key[Array, ""],
    model: Denoiser | Any,
    evaluations: int | Any,
    shape: tuple[int, ...] | Any,
    *,
    candidates: int | Any = 4_000,
    start: float | Any = None,
    end: float | Any = 0.0,
    forgiven: float | Any = 3.0,
    progress: bool = False,
) -> Searched:
    r"""The solver schedule that ends nearest to where fine runs of the model do: what each step is made by, and when.

    A step is that of an exponential integrator, of the data or of the noise, through one to three predictions, with
    one of several ways to integrate the polynomial through them, and corrected or not by up to four predictions when
    the one at its end is there: `DPMSolverPP`, `DPMSolver`, `UniPC` and `DEIS` are what has the same choice at every
    step. The best of those, on eight grids of times or so, are where it begins. Then children of the 16 best so far,
    whose choices and times are changed at random and crossed, are run on an eighth of the trajectories, and the best
    eighth of them on all. A candidate is judged by $\sum \rho(x_n - x_n^*)$ over draws, with a loss $\rho$ that
    forgives the few that end in another mode. Plans are data: all candidates run in two compiled programs.

    Choose it where a model has no derivative, where what is found is to be read and to have the orders of what it is
    made of, or to begin `fit` from where the formulas leave it in a bad place: it has choices that no descent finds.
    The wrong choice where `fit` can be had and one start is enough: that has more numbers, and comes nearer.

    Args:
        key: of the trajectories, and of what is tried.
        model: what is drawn from.
        evaluations: of the model in a run.
        shape: of the trajectories; the first axis counts them, 256 say. As many again are kept apart for `after`.
        candidates: how many solvers are tried, those with a name among them, the first of which is `DPMSolverPP()`.
        start: the first time; the process's horizon by default.
        end: the last time.
        forgiven: how many times the usual miss is far, and counts for less than its square. With a large number, 1e6
            say, candidates are judged by the mean square, which heeds most the few draws that end in another mode.
        progress: whether to show how far it is, on the standard error stream.

    Returns:
        A solver with its `times`: `sample(key, model, found, found.times, shape)`. On the trajectories that it was
        judged by it is no worse than the best formula that it began from; `before` and `after` are errors of both on
        others, and where those of what was found are larger, by rms and by median, it is that formula.

    Raises:
        TypeError, ValueError: an argument that is none of the above, or a model with draws that are not finite.

    Source: Liu, Ning, Yang and Wang (2024), A unified sampling framework for solver searching of diffusion
    probabilistic models, ICLR, section 3 for what is chosen at each step, without their factors of derivatives and
    derivatives of a lower order, and section 4 for the search. They judge by FID, with a network that predicts it; here
    the distance from exact ends is so cheap that a part of the trajectories takes the network's place.
    """
    check_key(key)
    check_model("model", model)
    evaluations, candidates = (
        check_positive_int(name, number) for name, number in (("evaluations", evaluations), ("candidates", candidates))
    )
    _, event = check_shape(shape)
    _, start, end = checked(model.process, evaluations, start, end)
    forgiven = check_positive("forgiven", forgiven)
    space, ends = Space(model.process, evaluations, start, end), np.array([start, end])
    key_search, key_held, key_tried = jax.random.split(key, 3)
    exact, held = (trajectories(key, model, ends, shape) for key in (key_search, key_held))
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key_tried)))
    first, best = _evolved(generator, model, space, exact, candidates, forgiven, progress)
    before, after = (
        errors_of(missed(model, plans(model.process, [one], model.process.time_of)[0], held)) for one in (first, best)
    )
    if not (after.rms < before.rms or after.median < before.median):
        best, after = first, before
    probe = tuple(probed(model, best.times, event).tolist())
    return Searched(steps=best.steps, times=tuple(best.times.tolist()), before=before, after=after, probe=probe)


def _evolved(
    generator: np.random.Generator,
    model: Denoiser,
    space: Space,
    exact: Exact,
    candidates: int,
    forgiven: float,
    progress: bool,
) -> tuple[Candidate, Candidate]:
    """The best that there is to begin from, and the best that is found."""
    tried = [one for one, _ in zip(space.starts(), range(candidates), strict=False)]
    far = squares(model, space, tried, exact)
    nearest = int(np.argmin(np.mean(far, axis=1)))
    scale = forgiven * usual(np.sqrt(far[nearest]), exact.end.dtype)
    if scale == 0:  # there is nothing to gain
        return tried[nearest], tried[nearest]
    pool = _ranked(tried, losses(far, scale))
    begun, some = pool[0][1], jax.tree.map(lambda leaf: leaf[: max(len(leaf) // PART, 1)], exact)
    for size in _shown(candidates - len(tried), progress):
        children = [space.bred(generator, [one for _, one in pool]) for _ in range(size)]
        early = losses(squares(model, space, children, some, CHILDREN), scale)
        chosen = [children[i] for i in np.argsort(early, kind="stable")[: -(-size // PART)]]
        late = losses(squares(model, space, chosen, exact), scale)
        pool = _ranked([one for _, one in pool] + chosen, np.append([loss for loss, _ in pool], late))
    return begun, pool[0][1]


def _ranked(candidates: Sequence[Candidate], by: np.ndarray) -> list[tuple[float, Candidate]]:
    """The best, the older first where they are as good."""
    return [(float(by[i]), candidates[i]) for i in np.argsort(by, kind="stable")[:PARENTS]]


def _shown(left: int, progress: bool) -> Iterator[int]:
    """The sizes of generations."""
    sizes = [min(CHILDREN, left - done) for done in range(0, max(left, 0), CHILDREN)]
    console = Console(stderr=True)
    yield from track(sizes, "searching", console=console, transient=True) if progress else sizes


def losses(far: Float[np.ndarray, "candidates n"], scale: float) -> Float[np.ndarray, " candidates"]:
    """Means of the loss of `fit`, which grows as a distance where that is far."""
    return np.mean(2 * far / (1 + np.sqrt(1 + far / scale**2)), axis=1)


def squares(
    model: Denoiser, space: Space, candidates: Sequence[Candidate], exact: Exact, size: int = CHILDREN // PART
) -> Float[np.ndarray, "candidates n"]:
    """Mean squares, over coordinates, of how far draws end from where they should; as bad as can be if nowhere."""
    tables = np.stack([table(plan) for plan in plans(space.process, candidates, space.time_of)])
    found = []
    for low in range(0, len(tables), size):
        some = tables[low : low + size]
        filled = np.concatenate([some, *[some[-1:]] * (size - len(some))])  # so that there is one program
        part = _run(model, jnp.asarray(filled, exact.end.dtype), exact)
        found.append(np.asarray(part, np.float64)[: len(some)])
    worst = float(np.finfo(exact.end.dtype).max) ** 0.5
    return np.nan_to_num(np.concatenate(found), nan=worst, posinf=worst)


@fresh_jit
def _run(
    model: Denoiser, tables: Float[Array, "candidates evaluations columns"], exact: Exact
) -> Float[Array, "candidates n"]:
    def one(rows: Float[Array, "evaluations columns"]) -> Float[Array, " n"]:
        columns = tuple(rows.T)
        plan = Linear(Level(*columns[:3]), Terms(columns[3], columns[4:], None, None), None, both, DEEP)
        far = missed(model, plan, exact)
        return jnp.mean(far.reshape(len(far), -1) ** 2, axis=1)

    return jax.lax.map(one, tables, batch_size=AT_ONCE)
