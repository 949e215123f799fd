"""A solver whose coefficients and times are learned from where fine runs of the same model end."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key
from scipy.optimize import least_squares

from variate.checks import check_key, check_positive, check_positive_int

from ..denoisers.base import Denoiser, check_model
from ..loop import cast
from ..plans import plan_for
from ..processes.base import Level, Process, exact_levels
from ..sampling import check_shape
from ..schedules.base import check_times
from ..solvers.base import Linear, Solver, Terms, both, data, noise
from .base import Learned, Tables, Told, probed
from .descent import usual
from .trajectories import Exact, gone, missed, quiet, trajectories

ROUNDS, LOOKS = 3, 20  # of least squares, and evaluations of the residuals in each
AT_ONCE = 16  # columns of the Jacobian


class Errors(NamedTuple):
    """Distances a coordinate of draws from where they should be, over trajectories that were not fitted to."""

    rms: float
    median: float


class Fitted(Learned):
    """A solver for one model and one schedule, as `fit` makes it."""

    stages: Linear
    times: tuple[float, ...] = eqx.field(static=True)  # that it was fitted for
    before: Errors = eqx.field(static=True)  # of the solver that it started from
    after: Errors = eqx.field(static=True)
    probe: tuple[float, ...] = eqx.field(static=True)  # what the model says of a point, to know it by

    def plan(self, process: Process, times: np.ndarray) -> Linear:
        self.check_times(times)
        return self.stages

    def _written(self) -> tuple[Told, Tables]:
        told = {"times": self.times, "before": self.before, "after": self.after, "probe": self.probe}
        told |= {"kept": self.stages.kept.__name__, "depth": self.stages.depth}
        tables = {
            f"{name} {part}": value
            for name, terms in (("x", self.stages.x), ("anchor", self.stages.anchor))
            if terms is not None
            for part, value in _parts(terms).items()
            if value is not None
        }
        return told, {"level": np.stack(self.stages.level)} | tables

    @classmethod
    def _read(cls, told: Told, tables: Tables) -> "Fitted":
        def terms(name: str) -> Terms | None:
            found = {part.removeprefix(f"{name} "): x for part, x in tables.items() if part.startswith(f"{name} ")}
            history = tuple(found.get(str(j)) for j in range(told["depth"]))
            return Terms(found.get("x"), history, found.get("anchor"), found.get("noise")) if found else None

        x = terms("x")
        assert x is not None
        kept = {one.__name__: one for one in (data, noise, both)}[told["kept"]]
        stages = Linear(Level(*tables["level"]), x, terms("anchor"), kept, told["depth"])
        before, after = Errors(*told["before"]), Errors(*told["after"])
        times, probe = tuple(told["times"]), tuple(told["probe"])
        return cls(stages=stages, times=times, before=before, after=after, probe=probe)


def fit(
    key: Key[Array, ""],
    model: Denoiser | Any,
    solver: Solver | Any,
    times: Any,
    shape: tuple[int, ...] | Any,
    *,
    depth: int | Any = 3,
    forgiven: float | Any = 3.0,
    along: bool = False,
) -> Fitted:
    r"""A solver that ends where fine runs of the model do, for as many evaluations as another one takes.

    It starts from the plan of a solver whose updates are linear, $x' = a x + \sum_j b_j p_j$ with predictions p, and
    minimizes over all of its coefficients and over the times at which the model is asked the distance of its ends from
    the exact ones, by least squares on some trajectories: $\sum \rho(x_n - x_n^*)$ with a loss $\rho$ that
    forgives the few that end in another mode. A handful of numbers are learned for each evaluation.

    Choose it where many draws will be made of one model by few evaluations: it costs some hundred runs of the
    trajectories, with derivatives, and is for this model, these times and no other. The wrong choice for a solver that
    draws noise.

    Args:
        key: of the trajectories.
        model: what is drawn from.
        solver: to start from, `DPMSolverPP()` say.
        times: from which it starts and between the first and last of which it works.
        shape: of the trajectories; the first axis counts them, 256 say. As many again are kept apart for `after`.
        depth: how many predictions an update may use, the newest first.
        forgiven: how many times the usual miss is far, and counts for less than its square. With a large number these
            are plain least squares, which heed most the few draws that end in another mode.
        along: heed also how far runs are from the exact ones wherever the model is asked, in the units of how widely
            points are spread there, and less where less is left of the data. Choose it, with a large `forgiven`, where
            most of the error is of draws that end in another mode, in many dimensions or under strong guidance say:
            ends tell too little of where a run turned wrong. What it makes can be fitted to the ends after that. It
            keeps some 500 points of each exact trajectory in memory.

    Returns:
        A solver for these times; `before` and `after` are its errors, on trajectories that it was not fitted to.
        Where it is nearer on them neither by rms nor by median it is what it started from; by one of them it may be
        worse, by rms above all, as the few draws that end in another mode are forgiven.

    Raises:
        TypeError, ValueError: a solver whose updates are not linear or that draws noise, or a model with draws or
            derivatives that are not finite.

    Sources: the coefficients are those of Zhang, Niwa and Kleijn (2024), On accelerating diffusion-based sampling
    process via improved integration approximation, ICLR, section 4, fitted to the end of a run and not step by step;
    the times are learned with them as in Shaul et al. (2024), Bespoke solvers for generative flow models, ICLR,
    section 2.
    """
    check_key(key)
    check_model("model", model)
    _, event = check_shape(shape)
    times = check_times(times, model.process)
    plan = _widened(plan_for(model, solver, times, event), check_positive_int("depth", depth))
    key_fit, key_held = jax.random.split(key)
    dtype = jax.dtypes.canonicalize_dtype(float)
    fitted, held = (trajectories(key, model, times, shape, along) for key in (key_fit, key_held))
    numbers, unravel = ravel_pytree(cast((plan.x, plan.anchor, np.zeros(len(plan.level.time) - 1)), dtype))
    first, *later = asked = np.asarray(plan.level.time)
    # Beyond the times of the run, levels change the more, the longer the step, until they are no numbers.
    least = min(times[-1] if times[-1] > 0 else quiet(model.process), asked[-1])
    low, high = (jnp.asarray(np.log(end / np.asarray(later)), dtype) for end in (least, max(asked)))

    def planned(numbers: Float[Array, " numbers"]) -> Linear:
        x, anchor, shift = unravel(numbers)
        asked = jnp.asarray(later, dtype) * jnp.exp(jnp.clip(shift, low, high))
        level = model.process.level(jnp.concatenate([jnp.asarray([first], dtype), asked]))
        return Linear(level, x, anchor, plan.kept, plan.depth)

    def misses(numbers: Float[Array, " numbers"], path: Exact) -> Float[Array, "n ..."]:
        return missed(model, planned(numbers), path)

    spread = jnp.std(fitted.end)

    def everywhere(numbers: Float[Array, " numbers"], path: Exact) -> Float[Array, " residuals"]:
        if not along:
            return misses(numbers, path).ravel()
        made = planned(numbers)
        end, asked = gone(model, made, path, True)
        assert asked is not None
        level = jax.tree.map(lambda leaf: leaf[1:], made.level)
        weight = level.alpha / jnp.hypot(level.alpha * spread, level.sigma)
        between = weight.reshape(-1, *[1] * end.ndim) * (jnp.moveaxis(asked[:, 1:-1], 1, 0) - path.at(level))
        return jnp.concatenate([between.ravel(), (end - path.end).ravel() / spread])

    best = _least_squares(lambda x: everywhere(x, fitted), numbers, check_positive("forgiven", forgiven))
    before, after = (errors_of(misses(x, held)) for x in (numbers, best))
    nearer = after.rms < before.rms or after.median < before.median
    if along:  # the few draws that end in another mode say less of a fit than what it was for
        ways = [float(jnp.linalg.norm(everywhere(x, held))) for x in (numbers, best)]
        nearer = nearer or ways[1] < ways[0]
    if not nearer:
        best, after = numbers, before
    found = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), planned(best))
    found = eqx.tree_at(lambda one: one.level, found, exact_levels(model.process, found.level.time))
    probe = tuple(probed(model, times, event).tolist())
    return Fitted(stages=found, times=tuple(times.tolist()), before=before, after=after, probe=probe)


def _least_squares(misses: Any, numbers: Float[Array, " numbers"], forgiven: float) -> Float[Array, " numbers"]:
    """The numbers at which few miss by much, found from these."""
    far = eqx.filter_jit(misses)

    @eqx.filter_jit
    def slopes(x: Float[Array, " numbers"]) -> Float[Array, "numbers residuals"]:
        def column(direction: Float[Array, " numbers"]) -> Float[Array, " residuals"]:
            return jax.jvp(misses, (x,), (direction,))[1]

        return jax.lax.map(column, jnp.eye(len(x), dtype=x.dtype), batch_size=AT_ONCE)

    def as_ours(x: np.ndarray) -> Float[Array, " numbers"]:
        return jnp.asarray(x, numbers.dtype)

    def jacobian(x: np.ndarray) -> np.ndarray:
        found = np.asarray(slopes(as_ours(x)), np.float64).T
        if not np.all(np.isfinite(found)):
            raise ValueError("model: it cannot be fitted to, for its derivatives are not all finite along the runs")
        return found

    solve: Any = least_squares  # its types know no Jacobian that is a function

    for _ in range(ROUNDS):
        residuals = np.abs(far(numbers))
        scale = forgiven * usual(residuals, numbers.dtype)
        if scale == 0:
            break
        found = solve(
            lambda x: np.asarray(far(as_ours(x)), np.float64),
            np.asarray(numbers, np.float64),
            jacobian,
            x_scale="jac",
            loss="soft_l1",
            f_scale=scale,
            max_nfev=LOOKS,
        )
        numbers = as_ours(found.x)
        if scale > np.max(residuals):  # plain least squares: no other usual miss makes a difference
            break
    return numbers


def _widened(plan: Any, depth: int) -> Linear:
    """A plan whose updates use as many predictions as they may, though with coefficients of zero."""
    if not isinstance(plan, Linear):
        raise TypeError(
            f"solver must have linear updates to be fitted, DPMSolverPP() say; its stages are {type(plan).__name__}"
        )
    both = [terms for terms in (plan.x, plan.anchor) if terms is not None]
    if any(terms.noise is not None for terms in both):
        raise ValueError("solver must not draw noise to be fitted: its ends would not be those of the probability flow")
    depth = max(depth * (2 if plan.kept is both else 1), plan.depth)
    zeros = np.zeros(len(plan.level.time))

    def wide(terms: Terms | None) -> Terms | None:
        if terms is None:
            return None
        history = (*terms.history, *(None,) * (depth - plan.depth))
        return Terms(terms.x, tuple(zeros if b is None else b for b in history), terms.anchor, None)

    x = wide(plan.x)
    assert x is not None
    return Linear(plan.level, x, wide(plan.anchor), plan.kept, depth)


def errors_of(misses: Float[Array, "n ..."]) -> Errors:
    each = np.mean(np.asarray(misses, np.float64).reshape(len(misses), -1) ** 2, axis=1)
    return Errors(float(np.sqrt(np.mean(each))), float(np.sqrt(np.median(each))))


def _parts(terms: Terms) -> dict[str, Any]:
    return {"x": terms.x, "anchor": terms.anchor, "noise": terms.noise} | {
        str(j): b for j, b in enumerate(terms.history)
    }
